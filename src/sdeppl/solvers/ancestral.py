"""The ancestral sampler of DDPM and NCSN, for any isotropic forward SDE."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from ..backend import Array
from .base import Memory, Normals, Solver
from .exponential import require_isotropic_reverse


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

    def prepare(self, sde: Any, x: Array, t: float, deterministic: bool) -> Any:
        require_isotropic_reverse("AncestralSampler", sde)
        if callable(sde.c) or sde.c != 1:
            raise TypeError(
                f"AncestralSampler solves the ReverseSDE with c = 1; got c={sde.c!r}; use "
                "ExponentialEuler, which takes any c"
            )
        return sde

    def step(
        self, sde: Any, x: Array, s: float, t: float, z: Normals, memory: Memory = None
    ) -> tuple[Array, Memory]:
        if t >= s:
            raise ValueError(f"a reverse SDE runs from T down to 0: got a step from t={s} to t={t}")
        forward = sde.forward
        phi, _, q = forward.transition(t, s)
        variance_s, variance_t = forward.sigma(s) ** 2, forward.sigma(t) ** 2
        x_next = (phi * variance_t / variance_s) * forward.centre(x, s)
        x_next = x_next + (forward.alpha(t) * q / variance_s) * sde.nonlinear(x, s)
        variance = q * variance_t / variance_s if self.variance == "posterior" else q
        if variance_t > 0:
            x_next = x_next + math.sqrt(variance) * z
        return x_next + forward.shift(t) if forward.shifted else x_next, None
