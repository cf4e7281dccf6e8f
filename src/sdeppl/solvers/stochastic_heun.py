"""Stochastic Heun."""

import math

from ..backend import Array
from ..sde import SDE
from .base import Memory, Normals, Solver


class StochasticHeun(Solver):
    """x_t = x_s + ½ (f + f̃) (t - s) + ½ (g + g̃) ΔW, f̃ and g̃ at the Euler step x̃ = x_s + f (t - s) + g ΔW.

    For Stratonovich SDEs; Itô SDEs are converted, at one derivative of g for each Wiener process.
    Strong order 1 for additive and commutative noise, so for scalar and diagonal; 1/2 for general
    noise, where the Lévy areas are missing. Weak order 1, and 2 for additive noise and without noise.
    Two evaluations of drift and g. Source: Rümelin 1982, SIAM J. Numer. Anal. 19; Kloeden & Platen
    1992, eq. 15.1.1 for additive noise.
    """

    strong_order = {"additive": 1.0, "scalar": 1.0, "diagonal": 1.0, "general": 0.5}
    weak_order = 1.0
    order = 2.0
    evaluations = 2
    calculus = "stratonovich"

    def step(
        self, sde: SDE, x: Array, s: float, t: float, z: Normals, memory: Memory = None
    ) -> tuple[Array, Memory]:
        h = t - s
        f = sde.drift(x, s)
        predicted = x + f * h
        if z is None:
            return x + (f + sde.drift(predicted, t)) * (0.5 * h), None
        increment = math.sqrt(abs(h)) * z
        noise = sde.diffusion_product(sde.diffusion(x, s), increment)
        predicted = predicted + noise
        noise = noise + sde.diffusion_product(sde.diffusion(predicted, t), increment)
        return x + (f + sde.drift(predicted, t)) * (0.5 * h) + 0.5 * noise, None
