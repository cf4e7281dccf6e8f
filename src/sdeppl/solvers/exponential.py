"""Exponential integrators: what is affine in an SDE is solved exactly."""

from typing import Any

from ..sde import StepCoefficients
from .base import Solver


def linear_part(coefficients: StepCoefficients, x: Any, z: Any) -> Any:
    """decay x + noise z + shift: what an exponential step takes from the SDE exactly."""
    x_next = coefficients.decay * x
    if z is not None and coefficients.noise:
        x_next = x_next + coefficients.noise * z
    return x_next if coefficients.shift is None else x_next + coefficients.shift


def require_semilinear(solver: Solver, sde: Any, x: Any, t: float, deterministic: bool) -> Any:
    """`Solver.prepare` of exponential integrators. Raises: TypeError for an SDE without affine part."""
    if not (hasattr(sde, "coefficients") and hasattr(sde, "nonlinear")):
        raise TypeError(
            f"{type(solver).__name__} solves affine SDEs such as VPSDE and their ReverseSDE; got "
            f"{type(sde).__name__}; use EulerMaruyama"
        )
    return Solver.prepare(solver, sde, x, t, deterministic)


class ExponentialEuler(Solver):
    """x_t = decay x_s + first N(x_s, s) + noise z, with the SDE's own `coefficients`.

    Exact for affine SDEs. For a reverse SDE N is E[x_0 given x_t] and the step is DDIM's with
    η = c, in the data prediction of DPM-Solver++; weak order 1; additive noise; one evaluation.
    Source: Song et al. 2021 (DDIM), Lu et al. 2022 (DPM-Solver++), eq. 9.
    """

    strong_order = {"additive": 1.0}
    weak_order = 1.0
    evaluations = 1

    prepare = require_semilinear

    def step(self, sde: Any, x: Any, s: float, t: float, z: Any, memory: Any = None) -> tuple[Any, Any]:
        coefficients = sde.coefficients(s, t)
        x_next = linear_part(coefficients, x, z)
        if coefficients.first:
            x_next = x_next + coefficients.first * sde.nonlinear(x, s)
        return x_next, None


class ExponentialHeun(Solver):
    """An exponential Euler step, then N's change over the step, taken as linear in ln(α/σ).

    x̃ = decay x_s + first N(x_s, s) + noise z; x_t = x̃ + second (N(x̃, t) - N(x_s, s)). With the
    noise inside x̃ the scheme is of weak order 2 for every c, as stochastic Heun is for additive
    noise; two evaluations. Source: Lu et al. 2022 and Kloeden & Platen 1992, eq. 15.1.1, combined.
    """

    strong_order = {"additive": 1.0}
    weak_order = 2.0
    evaluations = 2

    prepare = require_semilinear

    def step(self, sde: Any, x: Any, s: float, t: float, z: Any, memory: Any = None) -> tuple[Any, Any]:
        coefficients = sde.coefficients(s, t)
        x_next = linear_part(coefficients, x, z)
        if not coefficients.first:
            return x_next, None
        start = sde.nonlinear(x, s)
        x_next = x_next + coefficients.first * start
        if not coefficients.second:
            return x_next, None
        return x_next + coefficients.second * (sde.nonlinear(x_next, t) - start), None
