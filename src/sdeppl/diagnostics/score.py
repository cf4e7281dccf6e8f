"""Whether a learned score is the prior's: what denoising score matching makes orthogonal must be so."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backend import to_host
from ..denoisers import Denoiser
from ..guide import ScoreGuide
from .noised import (
    LARGEST_PAIRED,
    SIGNIFICANT,
    Noised,
    advice,
    checked_rows,
    explained,
    noised_levels,
    prior_and_draws,
    tested_levels,
    whitened,
    z_scores,
)


@dataclass(frozen=True)
class LevelCheck:
    """One noise level. scale_error ± scale_noise: by how much ε̂ is too long along itself, relative, and its
    standard error; bias, slope, bend: the largest |z|, entry by entry, of E[ε - ε̂], of E[(ε - ε̂) x_t], and of
    the same with the sine and cosine of twice x_t in its standard deviations;
    loss: E|ε - ε̂|²/dim, the ε-loss at this level, of which no training is below the exact score's;
    excess ± excess_noise: how much of E|ε - ε̂|² the functions tested explain, which the exact score does not
    have, without bias, and its standard error.
    """

    t: float
    noise_to_signal: float
    scale_error: float
    scale_noise: float
    bias: float
    slope: float
    bend: float
    loss: float
    excess: float
    excess_noise: float


@dataclass(frozen=True)
class ScoreCheck:
    """What `check_score` returns; `print` shows it as a table with a verdict.

    p: probability of a |z| as large as the largest for the exact score, all tests counted; good: p above
    0.001, so that an exact score fails once in a thousand checks; advice: what to do where it is not.
    """

    levels: tuple[LevelCheck, ...]
    draws: int
    dim: int
    p: float
    advice: str = "check the denoiser"

    def __repr__(self) -> str:
        return f"ScoreCheck({self.verdict})"

    @property
    def good(self) -> bool:
        """Whether nothing speaks against the score."""
        return self.p > SIGNIFICANT

    @property
    def nats(self) -> float:
        """KL divergence of the learned prior from the model's, as far as these functions see it; nan for one
        level.

        ∫ E|ε - ε̂|² dλ over λ = ln(α/σ), with the excess for E|ε - ε̂|². The whole of that integral bounds the
        divergence, which is, in the mean over data sets, that of the posteriors plus what ln p(y) is off.
        Source: Song, Durkan, Murray & Ermon 2021, theorem 1; the chain rule.
        """
        return self._spacing * sum(level.excess for level in self.levels)

    @property
    def nats_noise(self) -> float:
        """Standard error of `nats`."""
        return self._spacing * math.sqrt(sum(level.excess_noise**2 for level in self.levels))

    @property
    def _spacing(self) -> float:
        if len(self.levels) < 2:
            return math.nan
        first, last = self.levels[0], self.levels[-1]
        return math.log(first.noise_to_signal / last.noise_to_signal) / (len(self.levels) - 1)

    @property
    def verdict(self) -> str:
        """In words."""
        if self.good:
            return f"nothing in {self.draws} draws speaks against the score (p = {self.p:.2g})"
        worst = max(self.levels, key=_largest)
        return (
            f"do not trust: the score is wrong (p = {self.p:.2g}), most at σ/α = "
            f"{worst.noise_to_signal:.3g}, where its length is off by {worst.scale_error:+.1%} ± "
            f"{worst.scale_noise:.1%}{self._size}; {self.advice}"
        )

    @property
    def _size(self) -> str:
        if not self.nats > 0:
            return ""
        off = math.sqrt(2 * self.nats)
        each = f", or each of {self.dim} by {off / math.sqrt(self.dim):.2g}" if self.dim > 1 else ""
        return (
            f"; what is seen of it is {self.nats:.2g} ± {self.nats_noise:.1g} nats, such as one posterior "
            f"mean that is {off:.2g} standard deviations off{each}"
        )

    def __str__(self) -> str:
        lines = ["     t      σ/α   length of ε̂        |z| of bias, slope, bend   |ε - ε̂|²/dim"]
        for level in self.levels:
            lines.append(
                f"{level.t:6.3f} {level.noise_to_signal:8.3g}   {level.scale_error:+.2%} ± "
                f"{level.scale_noise:.2%}   {level.bias:10.1f} {level.slope:6.1f} {level.bend:6.1f}   "
                f"{level.loss:12.4f}"
            )
        return "\n".join([*lines, self.verdict])


def check_score(
    prior: ScoreGuide | Denoiser, draws: Any = 20_000, *, levels: int = 8, seed: int = 0
) -> ScoreCheck:
    """Test E[(ε - ε̂(x_t, t)) φ(x_t)] = 0, which holds for every φ where ε̂ is the exact score's.

    φ is 1, each number of x_t, its sine and cosine (in which the best linear score of a prior that is not
    Gaussian is wrong), and ε̂ itself, which finds a score that is too long or too short. Each mean over
    fresh pairs (x_0, ε) is divided by its standard error, at `levels` noise levels evenly in ln(α/σ), from
    T to σ/α = 0.05. With 20,000 draws of 3 numbers, a score that is 2% too long is 5 standard errors off
    at σ/α = 1, and more above.

    prior: a trained guide, or any denoiser. draws: how many for a guide, from its own model, which its
    training has not seen; for a denoiser x_0, (draws, dim), from the same prior in its coordinates.

    Returns: ScoreCheck. Raises: ValueError for fewer than 100 draws, another dimension, or levels < 1;
    TypeError for a prior of another kind, or a denoiser without draws. Source: orthogonality of the
    conditional expectation; Vincent 2011 for the loss whose minimum it is.
    """
    denoiser, x0 = prior_and_draws("check_score", prior, draws, seed)
    checked_rows("draws", x0, denoiser.dim)
    pairs = noised_levels(denoiser, x0, levels, seed)
    found, p = tested_levels(pairs, lambda pair: _level(pair, pair.guess(denoiser)), _largest)
    bend, straight = (max(level.bend for level in found), max(max(s.bias, s.slope) for s in found))
    said = advice(prior, denoiser, bent=bend >= straight)
    return ScoreCheck(found, int(x0.shape[0]), denoiser.dim, p, said)


def _level(pairs: Noised, guess: np.ndarray) -> tuple[LevelCheck, int]:
    """The check at one level, and how many tests it is made of."""
    residual, x = pairs.eps - guess, np.asarray(to_host(pairs.x), float)
    n = x.shape[0]
    along, square = np.sum(residual * guess, axis=1), float(np.mean(np.sum(guess**2, axis=1)))
    noise = float(np.std(along, ddof=1)) / math.sqrt(n)
    bias = np.abs(z_scores(residual))
    white = whitened(x)
    functions = (white, np.sin(2 * white), np.cos(2 * white))
    slope, sine, cosine = (_paired(residual, f) for f in functions)
    excess, excess_noise, _ = explained(residual, functions, products=False)
    level = LevelCheck(
        t=pairs.t,
        noise_to_signal=pairs.noise_to_signal,
        scale_error=-float(along.mean()) / square if square else 0.0,
        scale_noise=noise / square if square else 0.0,
        bias=float(bias.max()),
        slope=float(slope.max()),
        bend=max(float(sine.max()), float(cosine.max())),
        loss=float(np.mean(residual**2)),
        excess=float(excess.sum()),
        excess_noise=math.sqrt(float(np.sum(excess_noise**2))),
    )
    return level, 1 + bias.size + 3 * slope.size


def _paired(residual: np.ndarray, function: np.ndarray) -> np.ndarray:
    """|z| of residuals times functions of x_t: each with each for few numbers, else each with its own."""
    if residual.shape[1] > LARGEST_PAIRED:
        return np.abs(z_scores(residual * function))
    return np.abs(np.concatenate([z_scores(residual * column[:, None]) for column in function.T]))


def _largest(level: LevelCheck) -> float:
    length = abs(level.scale_error) / level.scale_noise if level.scale_noise else 0.0
    return max(length, level.bias, level.slope, level.bend)
