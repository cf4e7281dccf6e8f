"""The ε-loss by noise level: against its floor where that is known, and on draws held out of the training."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..backend import place, seed_number
from ..denoisers import Denoiser, GaussianDenoiser
from ..guide import ScoreGuide
from ..tracing import ModelError, data_tensor
from .denoiser_checks import SIGNIFICANT, advice, checked_rows, noised_levels, prior_and_draws, probability

NOISES = 4  # draws of ε for each x_0 and level


@dataclass(frozen=True)
class LossLevel:
    """One noise level: loss E|ε - ε̂|²/dim, relative differences with their standard errors.

    floor: of the exact denoiser; excess ± excess_noise: loss/floor - 1 on the same pairs; gap ± gap_noise:
    how much larger the loss is on held-out draws than on those of the training. None where not asked for.
    """

    t: float
    noise_to_signal: float
    loss: float
    floor: float | None
    excess: float | None
    excess_noise: float | None
    gap: float | None
    gap_noise: float | None


@dataclass(frozen=True)
class LossCheck:
    """What `check_loss` returns; `print` shows it as a table with a verdict.

    floor_p, gap_p: probability of an excess or a gap as large as the largest where there is none, all levels
    counted; None where not asked for; good: both above 0.001; advice: for a loss above the floor.
    """

    levels: tuple[LossLevel, ...]
    floor_p: float | None
    gap_p: float | None
    advice: str = "check the denoiser"

    def __repr__(self) -> str:
        return f"LossCheck({self.verdict})"

    @property
    def good(self) -> bool:
        """Whether no level speaks against the training."""
        return all(p is None or p > SIGNIFICANT for p in (self.floor_p, self.gap_p))

    @property
    def verdict(self) -> str:
        """In words."""
        said = []
        if self.gap_p is not None and self.gap_p <= SIGNIFICANT:
            worst = max(self.levels, key=lambda s: _z(s.gap, s.gap_noise))
            said.append(
                f"over-fitted (p = {self.gap_p:.2g}): at σ/α = {worst.noise_to_signal:.3g} the loss on "
                f"held-out draws differs from that on the training's by {worst.gap:+.1%} ± "
                f"{worst.gap_noise:.1%}; use more draws, a smaller network or fewer steps"
            )
        if self.floor_p is not None and self.floor_p <= SIGNIFICANT:
            worst = max(self.levels, key=lambda s: _z(s.excess, s.excess_noise))
            said.append(
                f"above the floor (p = {self.floor_p:.2g}): at σ/α = {worst.noise_to_signal:.3g} by "
                f"{worst.excess:.2%} ± {worst.excess_noise:.2%}; {self.advice}"
            )
        if said:
            return "do not trust: " + "; ".join(said)
        return "no level's loss speaks against the training"

    def __str__(self) -> str:
        lines = ["     t      σ/α       loss      floor   above the floor     held out - seen"]
        for s in self.levels:
            floor = "        -" if s.floor is None else f"{s.floor:9.4f}"
            excess = "-" if s.excess is None else f"{s.excess:+.2%} ± {s.excess_noise:.2%}"
            gap = "-" if s.gap is None else f"{s.gap:+.2%} ± {s.gap_noise:.2%}"
            lines.append(f"{s.t:6.3f} {s.noise_to_signal:8.3g} {s.loss:10.4f}  {floor}   {excess:<19} {gap}")
        return "\n".join([*lines, self.verdict])


def check_loss(
    prior: ScoreGuide | Denoiser,
    draws: object = 20_000,
    *,
    exact: object = None,
    seen: object = None,
    levels: int = 8,
    seed: int = 0,
) -> LossCheck:
    """The ε-loss at noise levels, on draws that the training has not seen.

    exact: the prior's own denoiser, in the same coordinates, or for a guide of a Gaussian prior (mean,
    covariance) of its unconstrained latents in the order of `guide.space`. Its loss is the floor: for a
    Gaussian tr Cov[x_0 given x_t] α²/σ²/dim. No denoiser is below it, and the excess on the same pairs is
    E|ε̂ - ε̂*|². seen: the draws that the training had, which a finite data set is: x_0, or for a guide {site:
    (draws, *shape)}; a loss that is larger on the held-out draws is over-fitting. Where neither is given the
    losses stand alone.

    prior, draws, levels, seed: as for `check_score`; for a guide draws may also be {site: (draws, *shape)},
    which its own model cannot give where it draws from the data of the training.

    Returns: LossCheck. Raises: as `check_score`; ModelError for draws that are not in a site's support.
    """
    if isinstance(prior, ScoreGuide) and isinstance(draws, Mapping):
        denoiser = prior.denoiser()
        x0 = checked_rows("draws", _standardised(prior, draws), denoiser.dim)
    else:
        denoiser, x0 = prior_and_draws("check_loss", prior, draws, seed)
    seed = seed_number(seed)
    best = None if exact is None else _exact(prior, exact, denoiser)
    losses = _losses([denoiser] if best is None else [denoiser, best], x0, levels, seed)
    before = None
    if seen is not None:
        trained = _standardised(prior, seen) if isinstance(prior, ScoreGuide) else seen
        before = _losses([denoiser], checked_rows("seen", trained, denoiser.dim), levels, seed + 1)
    found = []
    for k, (t, ratio, rows) in enumerate(losses):
        floor = None if best is None else float(rows[1].mean())
        excess = (None, None) if best is None else _relative(rows[0] - rows[1], rows[1])
        gap = (None, None) if before is None else _gap(rows[0], before[k][2][0])
        found.append(LossLevel(t, ratio, float(rows[0].mean()), floor, *excess, *gap))
    floor_p = None if best is None else _p([_z(s.excess, s.excess_noise) for s in found])
    gap_p = None if before is None else _p([_z(s.gap, s.gap_noise) for s in found])
    return LossCheck(
        tuple(found),
        floor_p,
        gap_p,
        advice(prior, denoiser, bent=best is not None and not isinstance(best, GaussianDenoiser)),
    )


def _losses(
    denoisers: list[Denoiser], x0: Any, levels: int, seed: int
) -> list[tuple[float, float, list[np.ndarray]]]:
    """t, σ/α and for each denoiser |ε - ε̂|²/dim by row of x_0, averaged over draws of ε."""
    found: list[tuple[float, float, list[np.ndarray]]] = []
    for repeat in range(NOISES):
        for k, pairs in enumerate(noised_levels(denoisers[0], x0, levels, NOISES * seed + repeat)):
            rows = [np.mean((pairs.eps - pairs.guess(one)) ** 2, axis=1) / NOISES for one in denoisers]
            if repeat == 0:
                found.append((pairs.t, pairs.noise_to_signal, rows))
            else:
                for total, row in zip(found[k][2], rows, strict=True):
                    total += row
    return found


def _relative(difference: np.ndarray, floor: np.ndarray) -> tuple[float, float]:
    size = float(floor.mean())
    return float(difference.mean()) / size, float(difference.std(ddof=1)) / math.sqrt(len(floor)) / size


def _gap(held_out: np.ndarray, seen: np.ndarray) -> tuple[float, float]:
    size = float(seen.mean())
    errors = [float(part.std(ddof=1)) / math.sqrt(len(part)) for part in (held_out, seen)]
    return float(held_out.mean()) / size - 1, math.hypot(*errors) / size


def _z(error: float | None, noise: float | None) -> float:
    return 0.0 if error is None or not noise else error / noise


def _p(z: list[float]) -> float:
    """Of the largest z, one-sided."""
    return min(1.0, 0.5 * probability(max(z), len(z))) if max(z) > 0 else 1.0


def _standardised(guide: ScoreGuide, draws: object) -> Any:
    """x_0 of site values. Raises: ModelError."""
    if not isinstance(draws, Mapping) or set(draws) != set(guide.space.names):
        raise ModelError(f"give draws of a guide's sites by name: {guide.space.names}")
    values = {name: data_tensor(name, value).detach().cpu() for name, value in draws.items()}
    return guide.fitted().standardise(guide.space.flatten(values)).numpy()


def _exact(prior: object, exact: object, denoiser: Denoiser) -> Denoiser:
    if isinstance(exact, Denoiser):
        return exact
    if not isinstance(prior, ScoreGuide) or not isinstance(exact, tuple) or len(exact) != 2:
        raise TypeError(
            "exact is a Denoiser of the prior's coordinates, or (mean, covariance) for a guide; got "
            f"{type(exact).__name__}"
        )
    part = prior.fitted()
    mean, covariance = (torch.as_tensor(np.asarray(a), dtype=torch.float64) for a in exact)
    scaled = covariance / torch.outer(part.scale, part.scale)
    arrays = (place(a, denoiser.backend) for a in (part.standardise(mean), scaled))
    return GaussianDenoiser(denoiser.sde, *arrays)
