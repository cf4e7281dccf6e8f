"""Euler–Maruyama."""

import math
from typing import Any

from ..sde import SDE
from .base import Solver


class EulerMaruyama(Solver):
    """x_t = x_s + f(x_s, s) (t - s) + g(x_s, s) √|t - s| z, forward or backward in time.

    Strong order 1/2, and 1 where g does not depend on x; weak order 1; diagonal noise; one drift
    evaluation. Source: Kloeden & Platen 1992, section 10.2.
    """

    strong_order = 1.0
    weak_order = 1.0
    noise = "diagonal"
    evaluations = 1

    def step(self, sde: SDE, x: Any, s: float, t: float, z: Any) -> Any:
        x_next = x + sde.drift(x, s) * (t - s)
        if z is None:
            return x_next
        return x_next + sde.diffusion(x, s) * math.sqrt(abs(t - s)) * z
