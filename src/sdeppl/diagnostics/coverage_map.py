"""Where on a grid intervals hold the truth: by many data sets, or of one against a reference."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binom, norm

from ..backend import host_numbers, real_parameter
from .simulations import Simulations

SIGNIFICANT = 1e-3
BLOCK = 2**22  # numbers that are ranked at once


@dataclass(frozen=True)
class CoverageMap:
    """What `coverage_map` returns; `print` says it in words.

    share (*shape): of each number's central intervals those that hold the truth; level: what it should be,
    exactly, for so many draws; noise: standard deviation of a share by chance; truths: how many; mean ±
    mean_noise: of all numbers, NaN noise where it is not known; p: probability of what is farthest off by
    chance, all numbers counted.
    """

    share: np.ndarray
    level: float
    noise: float
    truths: int
    mean: float
    mean_noise: float
    p: float
    of: str

    def __repr__(self) -> str:
        return f"CoverageMap({self.verdict})"

    def __str__(self) -> str:
        return self.verdict

    @property
    def trusted(self) -> bool:
        """Whether nothing speaks against the intervals."""
        return self.p > SIGNIFICANT

    @property
    def worst(self) -> tuple[int, ...]:
        """Index of the number that is farthest off."""
        return tuple(
            int(i) for i in np.unravel_index(np.argmax(np.abs(self.share - self.level)), self.share.shape)
        )

    @property
    def verdict(self) -> str:
        """In words."""
        known = f" ± {self.mean_noise:.2%}" if math.isfinite(self.mean_noise) else ""
        text = (
            f"intervals of {self.level:.2%} hold the truth {self.mean:.2%}{known} of the time in the mean "
            f"over {self.share.size} numbers ({self.of})"
        )
        at = f"{self.share[self.worst]:.1%} at {list(self.worst)}, by chance ± {self.noise:.1%}"
        if self.trusted:
            return f"{text}; farthest off {at} (p = {self.p:.2g})"
        side = "too narrow, or off" if self.mean < self.level else "too wide, or off in places"
        return f"do not trust: {text}, {side}; farthest off {at} (p = {self.p:.2g})"


def coverage_map(posterior: object, reference: object = None, level: float = 0.9) -> CoverageMap:
    """How often central intervals hold the truth, number by number of one site.

    posterior: `Simulations` of one site, or of several its `site`, (truths, draws) with truths (sets, *shape)
    and draws (sets, draws, *shape); or, with a reference, draws (draws, *shape) of one data set's posterior:
    then `reference` (m, *shape), independent draws from the right one, stand for the truth. level: the
    nearest that so many draws have exactly is taken, between the k-th smallest and the k-th largest.

    p counts every number, and with many data sets the mean over all too, whose error is that of means over
    data sets. Of one data set the shares of neighbours move together, and their mean has no error of its own.

    Time O(all draws), memory that of 4 million numbers besides. Returns: `CoverageMap`. Raises: TypeError,
    ValueError for arrays that do not fit, or fewer than 10 draws.
    """
    level = real_parameter("level", level)
    if not 0 < level < 1:
        raise ValueError(f"level is a share between 0 and 1; got {level}")
    truths, draws = _pair(posterior, reference)
    shape, sets = truths.shape[1:], len(draws)
    count = draws.shape[1]
    k = max(1, round((1 - level) / 2 * (count + 1)))
    held = np.empty((len(truths), math.prod(shape)), dtype=bool)
    flat, rows = truths.reshape(len(truths), -1), draws.reshape(sets, count, -1)
    step = max(1, BLOCK // count)
    for one in range(sets):
        own = slice(None) if reference is not None else slice(one, one + 1)
        for first in range(0, flat.shape[1], step):
            part = slice(first, first + step)
            ordered = np.partition(rows[one, :, part], (k - 1, count - k), axis=0)
            inside = (flat[own, part] > ordered[k - 1]) & (flat[own, part] < ordered[count - k])
            held[own, part] = inside
    exact = (count + 1 - 2 * k) / (count + 1)
    share = held.mean(axis=0)
    return _judged(held, share.reshape(shape), exact, count, k, reference is not None)


def _judged(
    held: np.ndarray, share: np.ndarray, level: float, count: int, k: int, one_set: bool
) -> CoverageMap:
    """With what chance does to a share: of a binomial of data sets; of one interval also its own mass."""
    truths, mean = len(held), float(share.mean())
    variance = level * (1 - level) / truths
    mean_noise, chances = math.nan, []
    if one_set:
        inside, outside = count + 1 - 2 * k, 2 * k
        variance += inside * outside / ((inside + outside) ** 2 * (inside + outside + 1))
        of = f"one data set, {count} draws, against {truths} of the reference"
        far = float(np.abs(share - level).max()) / math.sqrt(variance)
        chances.append(min(1.0, 2 * share.size * float(norm.sf(far))))
    else:
        of = f"{truths} data sets, {count} draws of each"
        low, high = (round(float(extreme) * truths) for extreme in (share.min(), share.max()))
        tails = binom.cdf(low, truths, level), binom.sf(high - 1, truths, level)
        chances.append(min(1.0, 2 * share.size * float(min(tails))))
        by_set = held.mean(axis=1)
        mean_noise = float(by_set.std(ddof=1)) / math.sqrt(truths)
        off = abs(mean - level) / mean_noise if mean_noise else (0.0 if mean == level else math.inf)
        chances.append(2 * float(norm.sf(off)))
    p = min(1.0, len(chances) * min(chances))
    return CoverageMap(share, level, math.sqrt(variance), truths, mean, mean_noise, p, of)


def _pair(posterior: Any, reference: Any) -> tuple[np.ndarray, np.ndarray]:
    """Truths (m, *shape) and draws (sets, draws, *shape). Raises: TypeError, ValueError."""
    if isinstance(posterior, Simulations):
        if len(posterior.truths) != 1:
            raise ValueError(
                f"coverage_map takes one site; these are {list(posterior.truths)}: give "
                "(simulations.truths[site], simulations.draws[site])"
            )
        (truths,), (draws,) = posterior.truths.values(), posterior.draws.values()
    elif reference is not None:
        truths = np.asarray(host_numbers(reference, "reference:"), dtype=float)
        draws = np.asarray(host_numbers(posterior, "posterior: the draws"), dtype=float)[None]
    elif isinstance(posterior, tuple) and len(posterior) == 2:
        truths, draws = (np.asarray(host_numbers(one, "posterior:"), dtype=float) for one in posterior)
    else:
        raise TypeError(
            "coverage_map takes Simulations, (truths, draws), or draws and a reference; got "
            f"{type(posterior).__name__}"
        )
    fits = draws.ndim == truths.ndim + 1 and draws.shape[2:] == truths.shape[1:]
    if not fits or (reference is None and len(draws) != len(truths)):
        raise ValueError(f"truths of shape {truths.shape} and draws of shape {draws.shape} do not fit")
    if draws.shape[1] < 10 or len(truths) < 10:
        raise ValueError(f"10 draws and 10 truths are the least; got {draws.shape[1]} and {len(truths)}")
    if not (np.isfinite(truths).all() and np.isfinite(draws).all()):
        raise ValueError("coverage_map: the draws or the truths hold NaN or infinity")
    return truths, draws
