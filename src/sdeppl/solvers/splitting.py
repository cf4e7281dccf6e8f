"""Splitting of Langevin dynamics."""

import math
from typing import Any

from array_api_compat import array_namespace

from ..backend import Array
from ..sde import LangevinSDE, halves
from .base import Memory, Normals, Solver


class BAOAB(Solver):
    """Kick, drift, friction and noise, drift, kick: each solved exactly, for `LangevinSDE`.

    v += h/2 F(q)/m; q += h/2 v; v = e^{-γh} v + √((1 - e^{-2γh}) kT/m) z; q += h/2 v; v += h/2 F(q)/m.
    Weak order 2, and strong order 1 on a given Brownian path; without noise it is velocity Verlet,
    order 2. In equilibrium under a linear force the covariance of q has no error at any stable step
    (h² K/m < 4), while <v²> is kT/m (1 - h² K/4m). One evaluation of the force; the first step
    needs one more. Source: Leimkuhler & Matthews 2013, Rational construction of stochastic
    numerical methods for molecular sampling.
    """

    strong_order = {"additive": 1.0}
    weak_order = 2.0
    evaluations = 1

    def prepare(self, sde: Any, x: Array, t: float, deterministic: bool) -> Any:
        """Raises: TypeError for an SDE other than `LangevinSDE`."""
        if not isinstance(sde, LangevinSDE):
            raise TypeError(
                f"BAOAB splits LangevinSDE, dq = v dt, dv = (F(q)/m - γ v) dt + noise; got "
                f"{type(sde).__name__}; use EulerMaruyama"
            )
        return super().prepare(sde, x, t, deterministic)

    def step(
        self, sde: LangevinSDE, x: Array, s: float, t: float, z: Normals, memory: Memory = None
    ) -> tuple[Array, Memory]:
        h = t - s
        q, v = halves(x, "BAOAB")
        kick = 0.5 * h / sde.mass
        v = v + kick * (sde.force(q) if memory is None else memory)
        q = q + 0.5 * h * v
        v = math.exp(-sde.friction * h) * v
        if z is not None:
            variance = -math.expm1(-2 * sde.friction * h) * sde.temperature / sde.mass
            v = v + math.sqrt(variance) * halves(z, "BAOAB")[1]
        q = q + 0.5 * h * v
        force = sde.force(q)
        return array_namespace(x).concat([q, v + kick * force], axis=-1), force
