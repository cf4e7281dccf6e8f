"""Derivatives of functions on arrays of any backend."""

from collections.abc import Callable
from typing import Any

from .resolve import backend_of


def jvp(function: Callable[[Any], Any], x: Any, v: Any) -> Any:
    """(∂function/∂x) v for x and v (..., dim) and a function of each row alone, (..., *out).

    torch differentiates exactly; NumPy, CuPy and array-api-strict take central differences of order
    4, relative error about 1e-11 in float64 and 1e-4 in float32, at four evaluations.
    """
    return backend_of(x).adapter.jvp(function, x, v)
