"""Lorenz's systems with noise."""

import math
from dataclasses import dataclass, fields
from typing import Any

from array_api_compat import array_namespace

from ..backend import Array, Number, python_floats
from .base import SDE


@dataclass(frozen=True)
class Lorenz63(SDE):
    """dx = (σ (x_2 - x_1), x_1 (ρ - x_3) - x_2, x_1 x_2 - β x_3) dt + amplitude dW, on (..., 3).

    Additive noise, independent in each component, in units of x per √time. Raises: ValueError for
    numbers that are not finite or a negative amplitude, and for states that have not 3 components.
    Source: Lorenz 1963, Deterministic nonperiodic flow, eq. 25 to 27.
    """

    sigma: Number = 10.0
    rho: Number = 28.0
    beta: Number = 8 / 3
    amplitude: Number = 1.0
    noise = "additive"

    def __post_init__(self) -> None:
        _check_numbers(self)

    def drift(self, x: Array, t: float) -> Array:
        if x.shape[-1] != 3:
            raise ValueError(f"Lorenz63 has states (..., 3); got {tuple(x.shape)}")
        u, v, w = x[..., 0], x[..., 1], x[..., 2]
        # each component in one piece of memory: from the second step on torch runs at full speed
        xp = array_namespace(x)
        drift = xp.stack([self.sigma * (v - u), u * (self.rho - w) - v, u * v - self.beta * w])
        return xp.permute_dims(drift, (*range(1, drift.ndim), 0))  # torch.func.vmap has no rule for moveaxis

    def diffusion(self, x: Array, t: float) -> Number:
        return self.amplitude

    def deterministic(self, s: float, t: float) -> bool:
        return isinstance(self.amplitude, float) and self.amplitude == 0


@dataclass(frozen=True)
class Lorenz96(SDE):
    """dx_i = ((x_{i+1} - x_{i-2}) x_{i-1} - x_i + F) dt + amplitude dW_i, i modulo dim ≥ 4.

    Additive noise, independent in each component, in units of x per √time. Raises: ValueError for
    numbers that are not finite or a negative amplitude, and for states with less than 4 components.
    Source: Lorenz 1996, Predictability: a problem partly solved, eq. 1.
    """

    F: Number = 8.0
    amplitude: Number = 1.0
    noise = "additive"

    def __post_init__(self) -> None:
        _check_numbers(self)

    def drift(self, x: Array, t: float) -> Array:
        if x.shape[-1] < 4:
            raise ValueError(f"Lorenz96 has states (..., dim) with dim >= 4; got {tuple(x.shape)}")
        # around[..., k] = x_{k-2}: one copy instead of three rolls
        around = array_namespace(x).concat((x[..., -2:], x, x[..., :1]), axis=-1)
        return (around[..., 3:] - around[..., :-3]) * around[..., 1:-2] - x + self.F

    def diffusion(self, x: Array, t: float) -> Number:
        return self.amplitude

    def deterministic(self, s: float, t: float) -> bool:
        return isinstance(self.amplitude, float) and self.amplitude == 0


def _check_numbers(sde: Any) -> None:
    """Raises: ValueError for a parameter that is no finite number (arrays pass), or amplitude < 0."""
    python_floats(sde, gradients=True)
    for field in fields(sde):
        value = getattr(sde, field.name)
        if not hasattr(value, "shape") and not (isinstance(value, float) and math.isfinite(value)):
            raise ValueError(f"{type(sde).__name__}: {field.name} must be a finite number; got {value!r}")
    if isinstance(sde.amplitude, float) and sde.amplitude < 0:
        raise ValueError(f"{type(sde).__name__}: amplitude must be at least 0; got {sde.amplitude}")
