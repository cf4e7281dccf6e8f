"""Elementary functions of a time that is a Python float or an array."""

import math
from dataclasses import fields
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from .numbers import real_number


def elementary(t: Any) -> Any:
    """The module whose `exp`, `expm1`, `sqrt`, `log` take `t`: `math` for a number, else its namespace.

    In a solve every time is a Python float, so coefficients cost no array and no host
    synchronisation; in training a time is an array, and the same formula serves.
    """
    return math if isinstance(t, (int, float)) else array_namespace(t)


def python_floats(value: Any, gradients: bool = False) -> None:
    """Make Python floats of the real numbers in a frozen dataclass, in its `__post_init__`.

    A NumPy scalar as a parameter would raise float32 arrays to float64. gradients: whether tensors
    may stand for numbers, as where they only meet arrays. Raises: ValueError for what is no number;
    TypeError for a tensor that needs a gradient where they may not: `math` would cut some of its paths,
    without a word.
    """
    for field in fields(value):
        item = getattr(value, field.name)
        on_torch = hasattr(item, "requires_grad") and gradients
        number = None if on_torch else real_number(item)
        if number is not None:
            object.__setattr__(value, field.name, number)
        elif field.type is float and (getattr(item, "ndim", 1) != 0 or isinstance(item, np.generic)):
            raise ValueError(f"{type(value).__name__}: {field.name} must be a finite number; got {item!r}")
        elif not gradients and getattr(item, "requires_grad", False):
            raise TypeError(
                f"{type(value).__name__}: {field.name} must be a Python number, through which no gradient "
                "flows; for gradients write the SDE as an ItoSDE, whose functions may use tensors"
            )


def require_positive(value: Any, *names: str) -> None:
    """Check that these fields of a dataclass are positive, finite floats. Raises: ValueError, naming both."""
    for name in names:
        number = getattr(value, name)
        if not (isinstance(number, float) and 0 < number < math.inf):
            raise ValueError(f"{type(value).__name__}: {name} must be positive and finite; got {number!r}")
