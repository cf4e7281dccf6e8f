"""Euler–Maruyama."""

import math

from ..backend import Array
from ..sde import SDE, IsotropicSDE
from .base import Memory, Normals, Solver, Stepped

SMALL = 1e-3  # a factor of x as near to 0 as this is not divided by: the quotient might overflow


class EulerMaruyama(Solver):
    """x_t = x_s + f(x_s, s) (t - s) + g(x_s, s) √|t - s| z, forward or backward in time.

    Strong order 1/2, and 1 where g does not depend on x; weak order 1; any noise; one drift
    evaluation. Source: Kloeden & Platen 1992, section 10.2.
    """

    strong_order = {"additive": 1.0, "scalar": 0.5, "diagonal": 0.5, "general": 0.5}
    weak_order = 1.0
    evaluations = 1
    any_diffusion = True

    def step(self, sde: SDE, x: Array, s: float, t: float, z: Normals, memory: Memory = None) -> Stepped:
        h = t - s
        factor = 1 + sde.rate(s) * h if isinstance(sde, IsotropicSDE) and not sde.shifted else None
        if z is None:
            return _drifted(sde, x, s, h, factor), None
        g, root = sde.diffusion(x, s), math.sqrt(abs(h))
        if not isinstance(g, (int, float)):
            return _drifted(sde, x, s, h, factor) + sde.diffusion_product(g * root, z), None
        if isinstance(factor, float) and abs(factor) > SMALL and z.dtype == x.dtype:
            # factor x + g √h z, with one array less at a time: the cache is what limits this
            x_next = (g * root / factor) * z
            x_next += x
            x_next *= factor
        else:
            x_next = _drifted(sde, x, s, h, factor)
            x_next += (g * root) * z
        return x_next, None


def _drifted(sde: SDE, x: Array, s: float, h: float, factor: float | None) -> Array:
    """x + f(x, s) h; factor x where that is known to be the same."""
    if factor is not None:
        return factor * x
    move = sde.drift(x, s) * h
    if (getattr(move, "shape", None), getattr(move, "dtype", None)) != (x.shape, x.dtype):
        return x + move
    move += x  # into the product, which is the step's own and keeps the drift's layout in memory
    return move
