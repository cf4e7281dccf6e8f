"""The reverse SDE, with free noise amplitude."""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from .base import SDE, AffineSDE, StepCoefficients


class MeanFunction(Protocol):
    """What the reverse SDE needs of a denoiser."""

    def mean(self, x: Any, t: float) -> Any:
        """E[x_0 given x_t = x]."""


@dataclass(frozen=True)
class ReverseSDE(SDE):
    """dx = [f x - (1 + c²)/2 g² s(x, t)] dt + c g dW, with time running from T down to 0.

    `c` ≥ 0, a number or a function of t, counts in units of g(t): every c has the same marginals;
    0 is the probability-flow ODE, 1 Anderson's reverse SDE. The score is that of the denoiser,
    s = (α E[x_0 given x] - x)/σ². For a forward SDE dx = -a x dt + b dW this is DESIGN's
    [a x + (b² + c²)/2 s] dt_R + c dW.

    Raises: ValueError for c < 0. Source: Anderson 1982; Song et al. 2021, eq. 6 and 13;
    Karras et al. 2022, eq. 6.
    """

    forward: AffineSDE
    denoiser: MeanFunction
    c: float | Callable[[float], float] = 1.0
    falling: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not callable(self.c) and not (math.isfinite(self.c) and self.c >= 0):
            raise ValueError(f"ReverseSDE: c must be a number >= 0 or a function of t; got {self.c!r}")

    def noise_ratio(self, t: float) -> float:
        """c at t, in units of g(t)."""
        # a float, lest a NumPy scalar raise float32 arrays to float64
        return float(self.c(t) if callable(self.c) else self.c)

    def deterministic(self, s: float, t: float) -> bool:
        return self.noise_ratio(s) == 0 == self.noise_ratio(0.5 * (s + t))

    def drift(self, x: Any, t: float) -> Any:
        alpha, sigma = self.forward.alpha(t), self.forward.sigma(t)
        score = (alpha * self.denoiser.mean(x, t) - x) / sigma**2
        weight = 0.5 * (1 + self.noise_ratio(t) ** 2) * self.forward.amplitude(t) ** 2
        return self.forward.rate(t) * x - weight * score

    def diffusion(self, x: Any, t: float) -> float:
        return self.noise_ratio(t) * self.forward.amplitude(t)

    def coefficients(self, s: float, t: float) -> StepCoefficients:
        """Exact integrals over [t, s] for a denoiser that is linear in h = ln(α/σ) along the step.

        With r = e^{-h} and k = c² (at the step's middle): decay σ_t/σ_s r^k, first α_t (1 - r^{1+k}),
        second α_t (1 - (1 - r^{1+k})/((1+k) h)), noise σ_t √(1 - r^{2k}). At t = 0 the second is
        taken as 0, since the denoiser there is the identity. Source: Lu et al. 2022
        (DPM-Solver++), here for any c. Raises: ValueError for t ≥ s.
        """
        if t >= s:
            raise ValueError(f"a reverse SDE runs from T down to 0: got a step from t={s} to t={t}")
        alpha_s, sigma_s = self.forward.alpha(s), self.forward.sigma(s)
        alpha_t, sigma_t = self.forward.alpha(t), self.forward.sigma(t)
        k = self.noise_ratio(0.5 * (s + t)) ** 2
        if sigma_t == 0:
            return StepCoefficients(0.0, alpha_t, 0.0, 0.0)
        r = max((alpha_s * sigma_t) / (sigma_s * alpha_t), sys.float_info.min)  # α_s may underflow
        log_r = math.log(r)
        if log_r >= 0:  # α/σ has the same value at both ends, to rounding
            return StepCoefficients(sigma_t / sigma_s, 0.0, 0.0, 0.0)
        first = -math.expm1((1 + k) * log_r)
        return StepCoefficients(
            decay=sigma_t / sigma_s * r**k,
            first=alpha_t * first,
            second=alpha_t * (1 + first / ((1 + k) * log_r)),
            noise=sigma_t * math.sqrt(-math.expm1(2 * k * log_r)),
        )

    def nonlinear(self, x: Any, t: float) -> Any:
        """E[x_0 given x_t = x]."""
        return self.denoiser.mean(x, t)
