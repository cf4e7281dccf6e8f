"""Samplers of diffusion models for the reverse SDE: ancestral, EDM's, predictor–corrector."""

import math
from dataclasses import dataclass, replace
from typing import Literal

from ..backend import Array, real_parameter, whole_number
from ..sde import SDE, IsotropicSDE, ReverseSDE
from ..sde.grids import time_of_half_log_snr
from ..sde.reverse import require_falling
from .base import Draw, Memory, Normals, Solver, Stepped
from .exponential import half_log_snr, require_isotropic_reverse

LARGEST_CHURN = math.sqrt(2) - 1  # a step may at most double the variance of the noise


@dataclass(frozen=True)
class AncestralSampler(Solver):
    """x_t ~ N(mean, variance) of x_t given x_s and x_0 = E[x_0 given x_s], for c = 1.

    With φ and q of the forward transition, x_s = φ x_t + shift + √q ε, and m(t) the forward shift:
    mean = m(t) + α_t q/σ_s² E[x_0 given x_s] + φ σ_t²/σ_s² (x_s - m(s)).

    - variance='posterior': β̃ = q σ_t²/σ_s², that of x_t given x_s and x_0. The step is then
      `ExponentialEuler`'s at c = 1, number by number.
    - variance='transition': q, DDPM's β; none in the step to t = 0.

    DDPM's chain is a VPSDE on DDPM's grid, NCSN's a VESDE on NCSN's: q = σ_s² - σ_t² there. Weak
    order 1, strong order 1, one evaluation. Raises: ValueError for another variance; TypeError for
    c other than 1. Source: Ho et al. 2020, eq. 7 and section 3.2; Song et al. 2021, appendix F.
    """

    variance: Literal["posterior", "transition"] = "posterior"

    strong_order = {"additive": 1.0}
    weak_order = 1.0
    evaluations = 1

    def __post_init__(self) -> None:
        if not isinstance(self.variance, str) or self.variance not in ("posterior", "transition"):
            raise ValueError(
                f"AncestralSampler: variance must be 'posterior' or 'transition'; got {self.variance!r}"
            )

    def prepare(self, sde: SDE, x: Array, t: float, deterministic: bool) -> SDE:
        sde = require_isotropic_reverse("AncestralSampler", sde)
        if callable(sde.c) or sde.c != 1:
            raise TypeError(
                f"AncestralSampler solves the ReverseSDE with c = 1; got c={sde.c!r}; use "
                "ExponentialEuler, which takes any c"
            )
        return sde

    def step(
        self, sde: ReverseSDE, x: Array, s: float, t: float, z: Normals, memory: Memory = None
    ) -> Stepped:
        require_falling(s, t)
        forward = sde.isotropic
        phi, _, q = forward.transition(t, s)
        variance_s, variance_t = forward.sigma(s) ** 2, forward.sigma(t) ** 2
        x_next = (phi * variance_t / variance_s) * forward.centre(x, s)
        x_next = x_next + (forward.alpha(t) * q / variance_s) * sde.nonlinear(x, s)
        variance = q * variance_t / variance_s if self.variance == "posterior" else q
        if variance_t > 0:
            x_next = x_next + math.sqrt(variance) * z
        return x_next + forward.shift(t) if forward.shifted else x_next, None


@dataclass(frozen=True)
class EDMHeun(Solver):
    """Heun's method for du/dρ = (u - E[x_0 given x_t])/ρ in u = (x - m)/α and ρ = σ/α; c = 0.

    Each step from ρ_s first raises the noise to ρ̂ = (1 + γ) ρ_s, û = u + √(ρ̂² - ρ_s²) S_noise z, with
    γ = min(S_churn/steps, √2 - 1) where S_tmin ≤ ρ_s ≤ S_tmax, else 0, and no further than ρ at T;
    then u = û + (ρ_t - ρ̂) (d(û, ρ̂) + d(ũ, ρ_t))/2, where ũ is the Euler step. To t = 0 it is the Euler
    step, which gives E[x_0 given x_t] there.

    S_churn ≥ 0: the churn of the whole solve, spread over `steps`, by default as many as the grid
    of the solve has; S_tmin, S_tmax: in units of ρ, the data's; S_noise: 1 leaves the
    marginals where they are, other values do not. Order 2, weak order 2 with S_churn > 0 and
    S_noise = 1; two evaluations. Raises: ValueError for parameters out of range; TypeError for c > 0.
    Source: Karras et al. 2022, algorithms 1 and 2.
    """

    S_churn: float = 0.0
    steps: int | None = None
    S_tmin: float = 0.0
    S_tmax: float = math.inf
    S_noise: float = 1.0

    strong_order = {}
    weak_order = 2.0
    evaluations = 2

    def __post_init__(self) -> None:
        for name in ("S_churn", "S_tmin", "S_tmax", "S_noise"):
            real_parameter(f"EDMHeun: {name}", getattr(self, name))
        if not (0 <= self.S_churn < math.inf and 0 <= self.S_tmin <= self.S_tmax and self.S_noise >= 0):
            raise ValueError(
                "EDMHeun: need S_churn >= 0, 0 <= S_tmin <= S_tmax and S_noise >= 0; got "
                f"S_churn={self.S_churn!r}, S_tmin={self.S_tmin!r}, S_tmax={self.S_tmax!r}, "
                f"S_noise={self.S_noise!r}"
            )
        if self.steps is not None:
            object.__setattr__(self, "steps", whole_number("EDMHeun: steps", self.steps, 1))

    @property
    def draws(self) -> tuple[Draw, ...]:  # type: ignore[override]
        return ("extra",) if self.S_churn > 0 else ()

    def on_grid(self, grid: list[float]) -> Solver:
        return replace(self, steps=len(grid) - 1) if self.steps is None else self

    def prepare(self, sde: SDE, x: Array, t: float, deterministic: bool) -> SDE:
        sde = require_isotropic_reverse("EDMHeun", sde)
        if not deterministic:
            raise TypeError(
                f"EDMHeun solves the probability-flow ODE, c = 0, its noise is S_churn's; got a ReverseSDE "
                f"with c={sde.c!r}; use ExponentialHeun, which takes any c"
            )
        return sde

    def step(
        self, sde: ReverseSDE, x: Array, s: float, t: float, z: Normals, memory: Memory = None
    ) -> Stepped:
        require_falling(s, t)
        forward = sde.isotropic
        u, rho_t = forward.centre(x, s) / forward.alpha(s), math.exp(-half_log_snr(sde, t))
        s, rho, added = self._churned(sde, s)
        if added > 0:
            u = u + (added * self.S_noise) * z
        slope = (u - sde.nonlinear(_state(forward, u, s), s)) / rho
        end = u + (rho_t - rho) * slope
        if rho_t > 0:
            slope_t = (end - sde.nonlinear(_state(forward, end, t), t)) / rho_t
            end = u + (0.5 * (rho_t - rho)) * (slope + slope_t)
        return _state(forward, end, t), None

    def _churned(self, sde: ReverseSDE, s: float) -> tuple[float, float, float]:
        """Time and ρ after churn at s, and the standard deviation of the noise that it adds to u."""
        rho = math.exp(-half_log_snr(sde, s))
        if self.S_churn == 0 or not self.S_tmin <= rho <= self.S_tmax:
            return s, rho, 0.0
        if self.steps is None:
            raise ValueError(
                f"EDMHeun: S_churn={self.S_churn!r} is spread over the steps of a grid; outside of `solve` "
                "say how many those are, EDMHeun(S_churn=..., steps=...)"
            )
        gamma = min(self.S_churn / self.steps, LARGEST_CHURN)
        raised = min((1 + gamma) * rho, math.exp(-half_log_snr(sde, sde.isotropic.T)))
        if raised <= rho:
            return s, rho, 0.0
        time = time_of_half_log_snr(sde.isotropic, -math.log(raised))
        return time, raised, math.sqrt(raised**2 - rho**2)


def _state(forward: IsotropicSDE, u: Array, t: float) -> Array:
    """x = α u + m."""
    x = forward.alpha(t) * u
    return x + forward.shift(t) if forward.shifted else x


@dataclass(frozen=True)
class PredictorCorrector(Solver):
    """A step of `predictor`, then `corrections` Langevin steps x ← x + δ s(x, t) + √(2δ) z at its end.

    δ = 2 (snr σ_t)²: step and noise have the ratio `snr` of norms where s is -ε/σ. Song et al. divide
    the norm of z by that of s, both averaged over the batch, which makes every row depend on all
    others; the norm of each row alone would bias the step in few dimensions, where it correlates with
    z. Expected norms are numbers: E|z|² = dim, and E|s|² ≤ dim/σ_t², with equality where x_0
    is known. No correction at t = 0, where σ = 0.

    Corrections leave a Gaussian's mean where it is, and draw its variance V to V/(1 - δ/(2V)): each
    adds δ²/V to the exact V. They help where the predictor's error is larger, with few steps, and
    δ does not shrink with the step: stopped at t > 0, more steps lead to that bias and there is no
    order; on `log_snr_grid` to t = 0, where δ/V → 0, the bias falls as 1/steps in the end.

    A correction leaves the path that a multistep predictor remembers, so with corrections > 0 the
    predictor starts anew at every step, and has the order of its first step. Evaluations: the
    predictor's and one for each correction.

    Raises: TypeError for a predictor that is none; ValueError for corrections < 0 or snr ≤ 0.
    Source: Song et al. 2021, algorithms 2 to 5 and appendix G.
    """

    predictor: Solver
    corrections: int = 1
    snr: float = 0.16

    weak_order = math.nan

    def __post_init__(self) -> None:
        if not isinstance(self.predictor, Solver):
            raise TypeError(
                "PredictorCorrector: predictor must be a solver such as EulerMaruyama(); got "
                f"{self.predictor!r}"
            )
        corrections = whole_number("PredictorCorrector: corrections", self.corrections, 0)
        object.__setattr__(self, "corrections", corrections)
        if not 0 < real_parameter("PredictorCorrector: snr", self.snr) < math.inf:
            raise ValueError(f"PredictorCorrector: snr must be positive and finite; got {self.snr!r}")

    @property
    def strong_order(self) -> dict[str, float]:  # type: ignore[override]
        """The predictor's noise classes; with corrections, which belong to no path, no order."""
        return {k: math.nan if self.corrections else v for k, v in self.predictor.strong_order.items()}

    @property
    def evaluations(self) -> float:  # type: ignore[override]
        return self.predictor.evaluations + self.corrections

    @property
    def draws(self) -> tuple[Draw, ...]:  # type: ignore[override]
        extra: tuple[Draw, ...] = ("extra",)
        return (*self.predictor.draws, *extra * self.corrections)

    def on_grid(self, grid: list[float]) -> Solver:
        return replace(self, predictor=self.predictor.on_grid(grid))

    def prepare(self, sde: SDE, x: Array, t: float, deterministic: bool) -> SDE:
        sde = require_isotropic_reverse("PredictorCorrector", sde)
        return self.predictor.prepare(sde, x, t, deterministic)

    def init(self, sde: ReverseSDE, x: Array, t: float) -> Memory:
        return None if self.corrections else self.predictor.init(sde, x, t)

    def step(
        self, sde: ReverseSDE, x: Array, s: float, t: float, z: Normals, memory: Memory = None
    ) -> Stepped:
        if not self.corrections:
            return self.predictor.step(sde, x, s, t, z, memory)
        normals = z if len(self.draws) > 1 else (z,)
        x, _ = self.predictor.step(
            sde, x, s, t, self._of_predictor(sde, s, t, normals), self.predictor.init(sde, x, s)
        )
        delta = 2 * (self.snr * sde.isotropic.sigma(t)) ** 2
        if delta > 0:
            for normal in normals[len(self.predictor.draws) :]:
                x = x + delta * sde.score(x, t) + math.sqrt(2 * delta) * normal
        return x, None

    def _of_predictor(self, sde: ReverseSDE, s: float, t: float, normals: tuple[Array, ...]) -> Normals:
        """z as the predictor expects it: as `solve` would give it."""
        draws = self.predictor.draws
        if not draws or ("extra" not in draws and sde.deterministic(s, t)):
            return None
        return normals[0] if len(draws) == 1 else normals[: len(draws)]
