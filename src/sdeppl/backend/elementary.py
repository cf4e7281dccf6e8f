"""Elementary functions of a time that is a Python float or an array."""

import math
from typing import Any

from array_api_compat import array_namespace


def elementary(t: Any) -> Any:
    """The module whose `exp`, `expm1`, `sqrt`, `log` take `t`: `math` for a number, else its namespace.

    In a solve every time is a Python float, so coefficients cost no array and no host
    synchronisation; in training a time is an array, and the same formula serves.
    """
    return math if isinstance(t, (int, float)) else array_namespace(t)
