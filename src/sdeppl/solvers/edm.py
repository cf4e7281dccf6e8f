"""The stochastic sampler of EDM: Heun's method in σ/α, with churn."""

import math
from dataclasses import dataclass, replace
from typing import Any

from ..backend import Array, real_parameter, whole_number
from ..sde.grids import time_of_half_log_snr
from .base import Draw, Memory, Normals, Solver
from .exponential import half_log_snr, require_isotropic_reverse

LARGEST_CHURN = math.sqrt(2) - 1  # a step may at most double the variance of the noise


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

    def prepare(self, sde: Any, x: Array, t: float, deterministic: bool) -> Any:
        require_isotropic_reverse("EDMHeun", sde)
        if not deterministic:
            raise TypeError(
                f"EDMHeun solves the probability-flow ODE, c = 0, its noise is S_churn's; got a ReverseSDE "
                f"with c={sde.c!r}; use ExponentialHeun, which takes any c"
            )
        return sde

    def step(
        self, sde: Any, x: Array, s: float, t: float, z: Normals, memory: Memory = None
    ) -> tuple[Array, Memory]:
        if t >= s:
            raise ValueError(f"a reverse SDE runs from T down to 0: got a step from t={s} to t={t}")
        forward = sde.forward
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

    def _churned(self, sde: Any, s: float) -> tuple[float, float, float]:
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
        raised = min((1 + gamma) * rho, math.exp(-half_log_snr(sde, sde.forward.T)))
        if raised <= rho:
            return s, rho, 0.0
        time = time_of_half_log_snr(sde.forward, -math.log(raised))
        return time, raised, math.sqrt(raised**2 - rho**2)


def _state(forward: Any, u: Array, t: float) -> Array:
    """x = α u + m."""
    x = forward.alpha(t) * u
    return x + forward.shift(t) if forward.shifted else x
