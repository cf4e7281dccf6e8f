"""Exponential integrators: what is affine in an SDE is solved exactly, the whole of an affine SDE too."""

import math
import sys
from collections.abc import Sequence
from operator import mul
from typing import Any, Protocol

from ..backend import Array
from ..sde import SDE, AffineSDE, IsotropicSDE, ReverseSDE, StepCoefficients
from .base import Memory, Normals, Solver, Stepped

Node = tuple[float, Array]  # λ = ln(α/σ), and E[x_0 given x_t] there
SMALL = 1e-3  # a decay as small as this beside the noise is not divided by
SHORTEST = 1e-12  # of a step in λ: shorter ones are rounding
SERIES_TERMS = 20  # of a power series at arguments below 1: less than rounding is left


class Semilinear(Protocol):
    """An SDE, or its reverse, of which a part is solved exactly: dx = (L x + N) dt + noise."""

    def coefficients(self, s: float, t: float) -> StepCoefficients: ...
    def nonlinear(self, x: Array, t: float) -> Any: ...


def linear_part(coefficients: StepCoefficients, x: Array, z: Array | None) -> Array:
    """decay x + noise z + shift: what an exponential step takes from the SDE exactly; an array of its own."""
    decay, noise = coefficients.decay, coefficients.noise
    if z is None or not noise:
        x_next = decay * x
    elif abs(decay) > SMALL * noise and z.dtype == x.dtype:
        # with one array less at a time: the cache is what limits this
        x_next = (noise / decay) * z
        x_next += x
        x_next *= decay
    else:
        x_next = decay * x + noise * z
    return x_next if coefficients.shift is None else x_next + coefficients.shift


def added(total: Array, weight: float, term: Array) -> Array:
    """total + weight term, into the memory of `total`, the step's own, where the sum fits there."""
    if term.shape != total.shape or term.dtype != total.dtype:
        return total + weight * term
    total += weight * term
    return total


def require_semilinear(solver: Solver, sde: SDE, x: Array, t: float, deterministic: bool) -> SDE:
    """`Solver.prepare` of exponential integrators. Raises: TypeError for an SDE without affine part."""
    if not (hasattr(sde, "coefficients") and hasattr(sde, "nonlinear")):
        raise TypeError(
            f"{type(solver).__name__} solves affine SDEs such as VPSDE and their ReverseSDE; got "
            f"{type(sde).__name__}; use EulerMaruyama"
        )
    return Solver.prepare(solver, sde, x, t, deterministic)


def require_isotropic_reverse(name: str, sde: object) -> ReverseSDE:
    """The SDE. Raises: TypeError, naming the solver, for what is no reverse SDE with numbers α, σ and c."""
    if not (isinstance(sde, ReverseSDE) and isinstance(sde.forward, IsotropicSDE)):
        of = f" of {type(sde.forward).__name__}" if isinstance(sde, ReverseSDE) else ""
        raise TypeError(
            f"{name} solves the ReverseSDE of a forward SDE with x_t = α x_0 + σ ε for numbers α and σ, "
            f"as VPSDE has; got {type(sde).__name__}{of}; use EulerMaruyama"
        )
    if sde.m is not None:
        raise TypeError(f"{name} takes a number c; got a matrix; use EulerMaruyama")
    return sde


def half_log_snr(sde: ReverseSDE, t: float) -> float:
    """λ = ln(α/σ) of a reverse SDE's forward SDE at t: +∞ where σ = 0, finite where α has underflown to 0."""
    alpha, sigma = sde.isotropic.alpha(t), sde.isotropic.sigma(t)
    return math.inf if sigma == 0 else math.log(max(alpha, sys.float_info.min) / sigma)


def kernel_moments(q: float, count: int) -> list[float]:
    """M_n = ∫_0^1 q e^{-q(1-θ)} θⁿ dθ = n! q φ_{n+1}(-q) for n < count, to rounding for every q > 0.

    M_n = 1 - n M_{n-1}/q: upward from M_0 = 1 - e^{-q}, which cancels for small q; there downward
    from the power series of the last. Source: Hochbruck & Ostermann 2010, eq. 2.10 to 2.12.
    """
    if q >= 1:
        moments = [-math.expm1(-q)]
        for n in range(1, count):
            moments.append(1 - n * moments[-1] / q)
        return moments
    term = total = q / count
    for j in range(1, SERIES_TERMS):
        term *= -q / (count + j)
        total += term
    moments = [total]
    for n in range(count - 1, 0, -1):
        moments.insert(0, q / n * (1 - moments[0]))
    return moments


def interpolation_weights(places: Sequence[float], q: float) -> list[float]:
    """w_j such that Σ_j w_j p(θ_j) = ∫_0^1 q e^{-q(1-θ)} p(θ) dθ for polynomials of degree < len(places)."""
    moments, weights = kernel_moments(q, len(places)), []
    for j, place in enumerate(places):
        lagrange = [1.0]  # coefficients, the constant first
        for i, other in enumerate(places):
            if i != j:
                pairs = zip([0.0, *lagrange], [*lagrange, 0.0], strict=True)
                lagrange = [(lower - other * same) / (place - other) for lower, same in pairs]
        weights.append(sum(map(mul, lagrange, moments)))
    return weights


def kernel_integral(nodes: Sequence[Node], start: float, stop: float, k: float) -> Array:
    """(1+k) ∫ e^{-(1+k)(stop - λ)} N(λ) dλ over [start, stop], N the polynomial through `nodes` in λ.

    Exact, so that decay x_s + noise z + α_t times this is exact where E[x_0 given x_t] is such a
    polynomial along the path. Source: Lu et al. 2022 (DPM-Solver++), eq. 8, for k = 0.
    """
    h = stop - start
    weights = interpolation_weights([(place - start) / h for place, _ in nodes], (1 + k) * h)
    total = weights[0] * nodes[0][1]
    for weight, (_, value) in zip(weights[1:], nodes[1:], strict=True):
        total = total + weight * value
    return total


class ExponentialEuler(Solver):
    """x_t = decay x_s + first N(x_s, s) + noise z, with the SDE's own `coefficients`: DDIM.

    Exact for affine SDEs. For a reverse SDE N is E[x_0 given x_t], and the step is DDIM's with
    η² = (1 - r^{2c²})/(1 - r²), r the ratio of σ/α at t to that at s: η = c for c = 0 (the
    deterministic DDIM) and c = 1 (ancestral sampling), and for every c as steps become small.
    Weak order 1; additive noise; one evaluation. Source: Song et al. 2021 (DDIM), eq. 12 and 16; Lu et
    al. 2022 (DPM-Solver++), eq. 9.
    """

    strong_order = {"additive": 1.0}
    weak_order = 1.0
    evaluations = 1

    prepare = require_semilinear

    def step(
        self, sde: Semilinear, x: Array, s: float, t: float, z: Normals, memory: Memory = None
    ) -> Stepped:
        coefficients = sde.coefficients(s, t)
        x_next = linear_part(coefficients, x, z)
        del z  # its memory serves the denoiser
        if coefficients.first:
            x_next = added(x_next, coefficients.first, sde.nonlinear(x, s))
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

    def step(
        self, sde: Semilinear, x: Array, s: float, t: float, z: Normals, memory: Memory = None
    ) -> Stepped:
        coefficients = sde.coefficients(s, t)
        x_next = linear_part(coefficients, x, z)
        del z
        if not coefficients.first:
            return x_next, None
        start = sde.nonlinear(x, s)
        x_next = added(x_next, coefficients.first, start)
        if not coefficients.second:
            return x_next, None
        return x_next + coefficients.second * (sde.nonlinear(x_next, t) - start), None


class ExactAffine(Solver):
    """x_t = Φ x_s + shift + L z with L Lᵀ = Q, the transition of any `AffineSDE`.

    Exact in law for steps of any length; the normals belong to no Brownian path, so there is no
    strong order. No evaluation of the drift. Source: Särkkä & Solin 2019, section 6.2.
    """

    strong_order = {"additive": math.nan}
    weak_order = math.inf
    evaluations = 0
    draws = ("extra",)

    def prepare(self, sde: SDE, x: Array, t: float, deterministic: bool) -> SDE:
        """Raises: TypeError for an SDE without exact transitions."""
        if not isinstance(sde, AffineSDE):
            raise TypeError(
                f"ExactAffine takes the transition of an affine SDE, as MatrixLinearSDE has; got "
                f"{type(sde).__name__}; use EulerMaruyama"
            )
        return sde

    def step(
        self, sde: AffineSDE, x: Array, s: float, t: float, z: Normals, memory: Memory = None
    ) -> Stepped:
        return sde.advance(x, s, t, z), None
