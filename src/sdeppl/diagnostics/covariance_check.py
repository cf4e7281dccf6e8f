"""Whether a denoiser's covariance is that of what its mean leaves: E[(x_0 - m)(x_0 - m)ᵀ - C] = 0."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backend import place, seed_number, to_host
from ..denoisers import Denoiser
from ..guide import ScoreGuide
from .noised import (
    SIGNIFICANT,
    Noised,
    advice,
    checked_rows,
    noised_levels,
    prior_and_draws,
    tested_levels,
    whitened,
    z_scores,
)

DIRECTIONS = 16


@dataclass(frozen=True)
class CovarianceLevel:
    """One noise level. size_error ± size_noise: by how much the covariance's trace is too large, relative,
    and its standard error; entry, bend: the largest |z| of E[v_iᵀ (r rᵀ - C) v_j], r = x_0 - m, over pairs of
    directions, and of E[Σ_i v_iᵀ (r rᵀ - C) v_i φ(x_t)]."""

    t: float
    noise_to_signal: float
    size_error: float
    size_noise: float
    entry: float
    bend: float


@dataclass(frozen=True)
class CovarianceCheck:
    """What `check_covariance` returns; `print` shows it as a table with a verdict.

    p: probability of a |z| as large as the largest for an exact covariance, all tests counted; good: p above
    0.001.
    """

    levels: tuple[CovarianceLevel, ...]
    draws: int
    p: float
    advice: str = "check the denoiser"

    def __repr__(self) -> str:
        return f"CovarianceCheck({self.verdict})"

    @property
    def good(self) -> bool:
        """Whether nothing speaks against the covariance."""
        return self.p > SIGNIFICANT

    @property
    def verdict(self) -> str:
        """In words."""
        if self.good:
            return f"nothing in {self.draws} draws speaks against the covariance (p = {self.p:.2g})"
        worst = max(self.levels, key=_largest)
        return (
            f"do not trust: the covariance is wrong (p = {self.p:.2g}), most at σ/α = "
            f"{worst.noise_to_signal:.3g}, where its trace is off by {worst.size_error:+.1%} ± "
            f"{worst.size_noise:.1%}; guidance by the mean "
            f"likelihood is off with it, which weights correct: leave correction at 'auto', or {self.advice}"
        )

    def __str__(self) -> str:
        lines = ["     t      σ/α   trace of Cov         |z| of entries, bend"]
        for level in self.levels:
            lines.append(
                f"{level.t:6.3f} {level.noise_to_signal:8.3g}   {level.size_error:+.2%} ± "
                f"{level.size_noise:.2%}   {level.entry:10.1f} {level.bend:6.1f}"
            )
        return "\n".join([*lines, self.verdict])


def check_covariance(
    prior: ScoreGuide | Denoiser, draws: Any = 5_000, *, levels: int = 8, seed: int = 0
) -> CovarianceCheck:
    """Test E[((x_0 - m)(x_0 - m)ᵀ - C) φ(x_t)] = 0 for m, C = E, Cov[x_0 given x_t] as the denoiser has them.

    Along the axes, or 16 random directions where there are more; φ is 1 for every pair of directions, and for
    the sum over directions each number of x_t and the cosine of twice it, which find a covariance that is
    right on average and wrong where it matters. With 5,000 draws of 3 numbers a covariance that is 10% too
    large is 7 standard errors off at one level.

    prior, draws, levels, seed: as for `check_score`. A wrong mean shows here too: check the score first.

    Returns: CovarianceCheck. Raises: as `check_score`. Source: Tweedie's formula of second order, as in
    Meng et al. 2021, "Estimating high order gradients of the data distribution by denoising".
    """
    denoiser, x0 = prior_and_draws("check_covariance", prior, draws, seed)
    checked_rows("draws", x0, denoiser.dim)
    generator = np.random.default_rng(seed_number(seed))
    pairs = noised_levels(denoiser, x0, levels, seed)

    def test(pair: Noised) -> tuple[CovarianceLevel, int]:
        return _level(denoiser, pair, _directions(denoiser.dim, generator))

    found, p = tested_levels(pairs, test, _largest)
    return CovarianceCheck(found, int(x0.shape[0]), p, advice(prior, denoiser))


def _directions(dim: int, generator: np.random.Generator) -> np.ndarray:
    """(dim, k) of unit length."""
    if dim <= DIRECTIONS:
        return np.eye(dim)
    return np.linalg.qr(generator.standard_normal((dim, DIRECTIONS)))[0]


def _level(denoiser: Denoiser, pairs: Noised, V: np.ndarray) -> tuple[CovarianceLevel, int]:
    """The check at one level, and how many tests it is made of."""
    moments = denoiser(pairs.x, pairs.t)
    mean, product = (
        np.asarray(to_host(part), float)
        for part in (moments.mean, moments.covariance.columns(place(V, denoiser.backend)))
    )
    if not (np.isfinite(mean).all() and np.isfinite(product).all()):
        raise FloatingPointError(f"the denoiser gives NaN or infinity at t = {pairs.t:.4g}")
    along = (pairs.clean - mean) @ V
    claimed = np.broadcast_to(V.T @ product, (len(along), V.shape[1], V.shape[1]))
    claimed = 0.5 * (claimed + np.swapaxes(claimed, 1, 2))
    excess = along[:, :, None] * along[:, None, :] - claimed
    upper = np.triu_indices(V.shape[1])
    entries = np.abs(z_scores(excess[:, upper[0], upper[1]]))
    total, size = np.trace(excess, axis1=1, axis2=2), float(np.mean(np.sum(along**2, axis=1)))
    white = whitened(np.asarray(to_host(pairs.x), float) @ V)
    bends = np.abs(z_scores(total[:, None] * np.concatenate([white, np.cos(2 * white)], axis=1)))
    noise = float(np.std(total, ddof=1)) / math.sqrt(len(total))
    level = CovarianceLevel(
        t=pairs.t,
        noise_to_signal=pairs.noise_to_signal,
        size_error=-float(total.mean()) / size if size else 0.0,
        size_noise=noise / size if size else 0.0,
        entry=float(entries.max()),
        bend=float(bends.max()),
    )
    return level, 1 + entries.size + bends.size


def _largest(level: CovarianceLevel) -> float:
    size = abs(level.size_error) / level.size_noise if level.size_noise else 0.0
    return max(size, level.entry, level.bend)
