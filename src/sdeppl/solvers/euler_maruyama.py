"""Euler–Maruyama."""

import math
from typing import Any

from ..sde import SDE, IsotropicSDE
from .base import Solver


class EulerMaruyama(Solver):
    """x_t = x_s + f(x_s, s) (t - s) + g(x_s, s) √|t - s| z, forward or backward in time.

    Strong order 1/2, and 1 where g does not depend on x; weak order 1; any noise; one drift
    evaluation. Source: Kloeden & Platen 1992, section 10.2.
    """

    strong_order = {"additive": 1.0, "scalar": 0.5, "diagonal": 0.5, "general": 0.5}
    weak_order = 1.0
    evaluations = 1

    def step(self, sde: SDE, x: Any, s: float, t: float, z: Any, memory: Any = None) -> tuple[Any, Any]:
        h = t - s
        if isinstance(sde, IsotropicSDE) and not sde.shifted:  # one product less than with the drift
            x_next = (1 + sde.rate(s) * h) * x
        else:
            x_next = x + sde.drift(x, s) * h
        if z is None:
            return x_next, None
        g, root = sde.diffusion(x, s), math.sqrt(abs(h))
        if isinstance(g, (int, float)):
            x_next += (g * root) * z
            return x_next, None
        return x_next + sde.spread(g * root, z), None
