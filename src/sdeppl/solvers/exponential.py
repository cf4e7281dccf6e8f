"""Exponential integrators: what is affine in an SDE is solved exactly."""

from typing import Any

from .base import Solver


class ExponentialEuler(Solver):
    """x_t = decay x_s + first N(x_s, s) + noise z, with the SDE's own `coefficients`.

    Exact for affine SDEs. For a reverse SDE N is E[x_0 given x_t] and the step is DDIM's with
    η = c, in the data prediction of DPM-Solver++; weak order 1; additive noise; one evaluation.
    Source: Song et al. 2021 (DDIM), Lu et al. 2022 (DPM-Solver++), eq. 9.
    """

    strong_order = 1.0
    weak_order = 1.0
    noise = "additive"
    evaluations = 1

    def step(self, sde: Any, x: Any, s: float, t: float, z: Any) -> Any:
        coefficients = sde.coefficients(s, t)
        x_next = coefficients.decay * x
        if coefficients.first:
            x_next = x_next + coefficients.first * sde.nonlinear(x, s)
        return x_next if z is None else x_next + coefficients.noise * z


class ExponentialHeun(Solver):
    """An exponential Euler step, then N's change over the step, taken as linear in ln(α/σ).

    x̃ = decay x_s + first N(x_s, s) + noise z; x_t = x̃ + second (N(x̃, t) - N(x_s, s)). With the
    noise inside x̃ the scheme is of weak order 2 for every c, as stochastic Heun is for additive
    noise; two evaluations. Source: Lu et al. 2022 and Kloeden & Platen 1992, eq. 15.1.1, combined.
    """

    strong_order = 1.0
    weak_order = 2.0
    noise = "additive"
    evaluations = 2

    def step(self, sde: Any, x: Any, s: float, t: float, z: Any) -> Any:
        coefficients = sde.coefficients(s, t)
        x_next = coefficients.decay * x
        if not coefficients.first:
            return x_next if z is None else x_next + coefficients.noise * z
        start = sde.nonlinear(x, s)
        x_next = x_next + coefficients.first * start
        if z is not None:
            x_next = x_next + coefficients.noise * z
        if not coefficients.second:
            return x_next
        return x_next + coefficients.second * (sde.nonlinear(x_next, t) - start)
