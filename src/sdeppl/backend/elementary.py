"""Elementary functions of a time that is a Python float or an array."""

import math
from dataclasses import fields
from numbers import Real
from typing import Any

from array_api_compat import array_namespace


def elementary(t: Any) -> Any:
    """The module whose `exp`, `expm1`, `sqrt`, `log` take `t`: `math` for a number, else its namespace.

    In a solve every time is a Python float, so coefficients cost no array and no host
    synchronisation; in training a time is an array, and the same formula serves.
    """
    return math if isinstance(t, (int, float)) else array_namespace(t)


def python_floats(value: Any) -> None:
    """Make Python floats of the real numbers in a frozen dataclass, in its `__post_init__`.

    A NumPy scalar as a parameter would raise float32 arrays to float64.
    """
    for field in fields(value):
        item = getattr(value, field.name)
        if isinstance(item, Real):
            object.__setattr__(value, field.name, float(item))
