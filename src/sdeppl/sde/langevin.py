"""Langevin dynamics of particles in a potential."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from array_api_compat import array_namespace

from ..backend import Array, Number, python_floats, require_positive
from .base import SDE
from .critically_damped import on_velocities
from .phase_space import halves


@dataclass(frozen=True)
class LangevinSDE(SDE):
    """dq = v dt, dv = (F(q)/m - γ v) dt + √(2γ kT/m) dW, on states (q, v), (..., 2 n).

    force: q (..., n) ↦ F(q) = -∂U/∂q (..., n); friction: γ ≥ 0, per unit of time; temperature: kT ≥ 0,
    in the energy's units; mass: m > 0. Its stationary density is ∝ e^{-(U(q) + m v²/2)/kT}. Where γ or
    kT is 0 no noise enters. The solver BAOAB is made for it; any other takes it too.

    Raises: ValueError for numbers out of these ranges; TypeError for a force that is no function.
    Source: Leimkuhler & Matthews 2013, eq. 1.
    """

    force: Callable[[Array], Array]
    friction: float = 1.0
    temperature: float = 1.0
    mass: float = 1.0
    noise = "additive"

    def __post_init__(self) -> None:
        python_floats(self)
        if not callable(self.force):
            raise TypeError(f"LangevinSDE: force must be a function q ↦ F(q); got {self.force!r}")
        for name in ("friction", "temperature"):
            value = getattr(self, name)
            if not isinstance(value, float) or not 0 <= value < math.inf:
                raise ValueError(f"LangevinSDE: {name} must be a finite number >= 0; got {value!r}")
        require_positive(self, "mass")

    @property
    def amplitude(self) -> float:
        """√(2γ kT/m)."""
        return math.sqrt(2 * self.friction * self.temperature / self.mass)

    def drift(self, x: Array, t: float) -> Array:
        q, v = halves(x, "LangevinSDE")
        return array_namespace(x).concat([v, self.force(q) / self.mass - self.friction * v], axis=-1)

    def diffusion(self, x: Array, t: float) -> Number:
        """(2 n,): zero on the positions, √(2γ kT/m) on the velocities."""
        return on_velocities(x, self.amplitude, "LangevinSDE")

    def deterministic(self, s: float, t: float) -> bool:
        return self.amplitude == 0
