"""Predictor–corrector sampling: Langevin steps at each time of a solve."""

import math
from dataclasses import dataclass, replace
from typing import Any

from ..backend import Array, real_parameter, whole_number
from .base import Draw, Memory, Normals, Solver
from .exponential import require_isotropic_reverse


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

    def prepare(self, sde: Any, x: Array, t: float, deterministic: bool) -> Any:
        require_isotropic_reverse("PredictorCorrector", sde)
        return self.predictor.prepare(sde, x, t, deterministic)

    def init(self, sde: Any, x: Array, t: float) -> Memory:
        return None if self.corrections else self.predictor.init(sde, x, t)

    def step(
        self, sde: Any, x: Array, s: float, t: float, z: Normals, memory: Memory = None
    ) -> tuple[Array, Memory]:
        if not self.corrections:
            return self.predictor.step(sde, x, s, t, z, memory)
        normals = z if len(self.draws) > 1 else (z,)
        x, _ = self.predictor.step(
            sde, x, s, t, self._of_predictor(sde, s, t, normals), self.predictor.init(sde, x, s)
        )
        delta = 2 * (self.snr * sde.forward.sigma(t)) ** 2
        if delta > 0:
            for normal in normals[len(self.predictor.draws) :]:
                x = x + delta * sde.score(x, t) + math.sqrt(2 * delta) * normal
        return x, None

    def _of_predictor(self, sde: Any, s: float, t: float, normals: tuple[Array, ...]) -> Normals:
        """z as the predictor expects it: as `solve` would give it."""
        draws = self.predictor.draws
        if not draws or ("extra" not in draws and sde.deterministic(s, t)):
            return None
        return normals[0] if len(draws) == 1 else normals[: len(draws)]
