"""Special functions that the Array API lacks."""

import math
from typing import Any

from .resolve import backend_of


def lgamma(x: Any) -> Any:
    """ln |Γ(x)|, elementwise; a Python number gives a Python number."""
    return math.lgamma(x) if isinstance(x, (int, float)) else backend_of(x).adapter.lgamma(x)


def log_ndtr(x: Any) -> Any:
    """ln Φ(x) of the standard normal distribution, elementwise, right in the far left tail."""
    return backend_of(x).adapter.log_ndtr(x)


def ndtri(p: Any) -> Any:
    """Φ⁻¹(p) of the standard normal distribution, elementwise."""
    return backend_of(p).adapter.ndtri(p)
