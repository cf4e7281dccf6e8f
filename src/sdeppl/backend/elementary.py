"""Elementary functions of a float or an array, special functions, and a look at an array where it is free."""

import math
from dataclasses import fields
from typing import Any

import numpy as np

from .arguments import real_number
from .arrays import array_namespace, backend_of
from .typing import Array, Namespace, Number


def elementary(t: Number) -> Namespace:
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


def require_positive(value: object, *names: str) -> None:
    """Check that these fields of a dataclass are positive, finite floats. Raises: ValueError, naming both."""
    for name in names:
        number = getattr(value, name)
        if not (isinstance(number, float) and 0 < number < math.inf):
            raise ValueError(f"{type(value).__name__}: {name} must be positive and finite; got {number!r}")


def lgamma(x: Array) -> Array:
    """ln |Γ(x)|, elementwise; a Python number gives a Python number."""
    return math.lgamma(x) if isinstance(x, (int, float)) else backend_of(x).adapter.special("gammaln", x)


def log_ndtr(x: Array) -> Array:
    """ln Φ(x) of the standard normal distribution, elementwise, right in the far left tail."""
    return backend_of(x).adapter.special("log_ndtr", x)


def ndtri(p: Array) -> Array:
    """Φ⁻¹(p) of the standard normal distribution, elementwise."""
    return backend_of(p).adapter.special("ndtri", p)


def all_without_sync(mask: Array) -> bool:
    """Whether all of `mask` is true and seeing it costs nothing; False without a look on a device.

    For loops that may end early where the arrays are the host's, and run their full length, with the same
    numbers, where reading one would make the host wait for the device, or while torch traces the code.
    """
    return backend_of(mask).adapter.readable(mask) and bool(array_namespace(mask).all(mask))
