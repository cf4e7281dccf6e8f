"""The sides of a comparison at one site: draws or what is known, how much they count, and how far apart."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import t as student

from ..backend import host_numbers

LEVELS = np.array([0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95])
ALL_AT_ONCE, BLOCK = 2_048, 2**22  # numbers of a site that are taken together, of more some at a time
LEAST_EXCESS = 0.2  # of the kurtosis over 1: of two points it is 1, and the first order says no noise


@dataclass(frozen=True)
class SampleSummary:
    """values (n, numbers), or None where moments alone are known; shape: of the site; mean, sd (numbers,);
    size, tail_size (numbers,): effective draws for the middle and for the tails; known: whether mean and sd
    are exact. Numbers are NumPy's, in float64."""

    shape: tuple[int, ...]
    values: np.ndarray | None
    mean: np.ndarray
    sd: np.ndarray
    size: np.ndarray
    tail_size: np.ndarray
    known: bool = False

    @property
    def independent(self) -> int:
        """How many rows count as independent: by the number that mixes worst."""
        least = min(float(np.nanmin(self.size)), float(np.nanmin(self.tail_size)))
        return 0 if self.values is None else int(max(min(least, len(self.values)), 2))

    def rows(self, largest: int) -> np.ndarray:
        """At most `largest` rows, evenly through all of them, no more than are independent."""
        assert self.values is not None
        count = min(self.independent, largest)
        return self.values[np.linspace(0, len(self.values), count, endpoint=False).astype(int)]

    def only(self, kept: np.ndarray) -> "SampleSummary":
        """Of the numbers (numbers,) that are kept."""
        if kept.all():
            return self
        values = None if self.values is None else self.values[:, kept]
        mean, sd, size, tails = (p[kept] for p in (self.mean, self.sd, self.size, self.tail_size))
        return SampleSummary((int(kept.sum()),), values, mean, sd, size, tails, self.known)


def sample_summaries(source: object) -> dict[str, SampleSummary]:
    """By site name; a source is what `compare` takes. Raises: TypeError; ValueError, naming the site."""
    draws = getattr(source, "draws", source)
    if not isinstance(draws, Mapping) or not draws:
        raise TypeError(
            f"compare takes draws by site name, a run or a reference; got {type(source).__name__}"
        )
    ess, tails = (getattr(source, name, {}) for name in ("ess", "tail_ess"))
    moments = getattr(source, "moments", None) or {}
    share = getattr(getattr(source, "diagnosis", None), "ess", 1.0)
    found = {}
    for name, value in draws.items():
        if hasattr(value, "sd"):
            found[name] = _moments(name, value)
            continue
        side = _drawn(name, value, ess.get(name), tails.get(name), share)
        if name in moments:
            own = _moments(name, moments[name])
            side = replace(side, mean=own.mean, sd=own.sd, known=True)
        found[name] = side
    return found


def joined(sides: list[SampleSummary]) -> SampleSummary | None:
    """All sites as one, or None where some have no draws."""
    drawn = [side.values for side in sides if side.values is not None]
    if len(drawn) < len(sides) or len({len(values) for values in drawn}) > 1:
        return None
    names = ("mean", "sd", "size", "tail_size")
    mean, sd, size, tails = (np.concatenate([getattr(side, name) for side in sides]) for name in names)
    values = np.concatenate(drawn, axis=1)
    return SampleSummary((values.shape[1],), values, mean, sd, size, tails)


def _drawn(name: str, value: object, ess: object, tail_ess: object, share: float) -> SampleSummary:
    host = host_numbers(value, f"site '{name}': the draws")
    if host.dtype.kind != "f":
        host = host.astype(float)
    if host.ndim < 1 or host.shape[0] < 2:
        raise ValueError(f"site '{name}': at least 2 draws are needed; got shape {host.shape}")
    if not np.isfinite(host).all():
        raise ValueError(f"site '{name}': the draws hold NaN or infinity")
    values = host.reshape(host.shape[0], -1)
    if values.shape[1] <= ALL_AT_ONCE:
        values = values.astype(float)
    if ess is None:
        size = tails = np.full(values.shape[1], max(_distinct(values) * share, 2.0))
    else:
        size = _effective(ess, values)
        tails = size if tail_ess is None else _effective(tail_ess, values)
    mean, sd, reach = by_columns(lambda c: (c.mean(axis=0), c.std(axis=0, ddof=1), np.ptp(c, axis=0)), values)
    sd = np.where(reach > 0, sd, 0.0)  # not what rounding of the mean leaves
    return SampleSummary(host.shape[1:], values, mean, sd, size, tails)


def by_columns(
    function: Callable[[np.ndarray], tuple[np.ndarray, ...]], values: np.ndarray
) -> tuple[np.ndarray, ...]:
    """A function of (rows, numbers) to arrays (..., numbers) that takes each number by itself, some at a time
    where there are many; in float64."""
    if values.shape[1] <= ALL_AT_ONCE:
        return function(values.astype(float))
    step = max(1, BLOCK // len(values))
    parts = [function(values[:, k : k + step].astype(float)) for k in range(0, values.shape[1], step)]
    return tuple(np.concatenate(part, axis=-1) for part in zip(*parts, strict=True))


def _effective(ess: object, values: np.ndarray) -> np.ndarray:
    """(numbers,), at least 2; NaN, of numbers that never vary, counts as all draws."""
    sizes = host_numbers(ess).astype(float).reshape(-1)
    return np.maximum(np.where(np.isnan(sizes), len(values), sizes), 2.0)


def _distinct(values: np.ndarray) -> float:
    """Kish's effective number of rows where some stand for several: n² / Σ count²."""
    if values.shape[1] <= ALL_AT_ONCE:
        _, counts = np.unique(values, axis=0, return_counts=True)
    else:
        keys = [hash((row + 0.0).tobytes()) for row in values]  # -0.0 is 0.0
        _, counts = np.unique(keys, return_counts=True)
    return len(values) ** 2 / float(np.sum(counts.astype(float) ** 2))


def _moments(name: str, exact: Any) -> SampleSummary:
    mean, sd = (
        host_numbers(v, f"site '{name}': exact mean and sd").astype(float) for v in (exact.mean, exact.sd)
    )
    if mean.shape != sd.shape or not (np.isfinite(mean).all() and np.isfinite(sd).all()):
        raise ValueError(
            f"site '{name}': exact mean and sd must be finite and of one shape; got {mean.shape}, {sd.shape}"
        )
    endless = np.full(mean.size, math.inf)
    return SampleSummary(mean.shape, None, mean.reshape(-1), sd.reshape(-1), endless, endless, True)


# ---- Errors of means, standard deviations and quantiles, number by number, with their Monte Carlo error


@dataclass(frozen=True)
class NumberErrors:
    """mean, quantile: differences in units of the reference's standard deviation; sd: relative difference;
    each (numbers,), quantile (levels, numbers) or None where a side has no draws. *_noise: their standard
    errors; *_z: in units of these, for quantiles that of the shares below the reference's quantile."""

    levels: np.ndarray
    mean: np.ndarray
    mean_noise: np.ndarray
    mean_z: np.ndarray
    sd: np.ndarray
    sd_noise: np.ndarray
    sd_z: np.ndarray
    quantile: np.ndarray | None
    quantile_noise: np.ndarray | None
    quantile_z: np.ndarray | None

    def __repr__(self) -> str:
        return f"NumberErrors({len(self.mean)} numbers)"


def number_errors(mine: SampleSummary, reference: SampleSummary, quantiles: bool = True) -> NumberErrors:
    """Of draws against a reference whose standard deviations are positive; quantiles: whether of these too.

    Standard errors: of a mean sd/√size; of a standard deviation √((κ - 1)/4 size) relative, κ the kurtosis;
    of a quantile half the distance of those at p ± √(p (1 - p)/size) (Woodruff 1952).
    """
    theirs = [np.zeros_like(mine.mean)] * 2 if reference.known else [_of_mean(reference), _of_sd(reference)]
    mean = (mine.mean - reference.mean) / reference.sd
    mean_noise = np.hypot(_of_mean(mine), theirs[0]) / reference.sd
    sd = mine.sd / reference.sd - 1
    sd_noise = np.hypot(_of_sd(mine) * mine.sd, theirs[1] * reference.sd) / reference.sd
    moments = (mean, mean_noise, _ratio(mean, mean_noise), sd, sd_noise, _ratio(sd, sd_noise))
    if not quantiles or mine.values is None or reference.values is None:
        return NumberErrors(LEVELS, *moments, None, None, None)
    return NumberErrors(LEVELS, *moments, *_quantiles(mine, reference))


def largest_z(count: int, significance: float, freedom: float = math.inf) -> float:
    """|z| above which one of `count` normal numbers lies with probability `significance` at most; freedom: of
    numbers in units of a standard error that is itself estimated, with so many degrees of freedom."""
    return float(student.isf(0.5 * significance / count, freedom))


def _of_mean(side: SampleSummary) -> np.ndarray:
    return side.sd / np.sqrt(side.size)


def _of_sd(side: SampleSummary) -> np.ndarray:
    """Relative to the standard deviation."""
    assert side.values is not None

    def kurtosis(columns: np.ndarray) -> tuple[np.ndarray]:
        square = (columns - columns.mean(axis=0)) ** 2
        return (np.mean(square**2, axis=0) / np.maximum(square.mean(axis=0), 1e-300) ** 2,)

    excess = np.maximum(by_columns(kurtosis, side.values)[0] - 1, LEAST_EXCESS)
    return np.sqrt(excess / 4 / np.minimum(side.size, side.tail_size))


def _quantiles(mine: SampleSummary, reference: SampleSummary) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    assert mine.values is not None and reference.values is not None
    found, noise = [], np.zeros((len(LEVELS), len(mine.mean)))
    for side in (mine, reference):
        assert side.values is not None
        found.append(np.quantile(side.values, LEVELS, axis=0, method="weibull"))  # of which E F(q) = p
        noise = np.hypot(noise, _of_quantiles(side))
    edges = found[1]
    z = np.empty_like(noise)
    for k, p in enumerate(LEVELS):
        below = 0.5 * ((mine.values < edges[k]).mean(axis=0) + (mine.values <= edges[k]).mean(axis=0))
        # the arcsine of a share's root is normal with variance 1/(4 size) at every level, tails included
        spread = 0.5 * np.sqrt(1 / _sizes(mine, p) + 1 / _sizes(reference, p))
        z[k] = (np.arcsin(np.sqrt(p)) - np.arcsin(np.sqrt(below))) / spread
    return (found[0] - edges) / reference.sd, noise / reference.sd, z


def _of_quantiles(side: SampleSummary) -> np.ndarray:
    """Standard errors (levels, numbers)."""
    assert side.values is not None
    ordered, n = np.sort(side.values, axis=0), len(side.values)
    found = []
    for p in LEVELS:
        reach = np.sqrt(p * (1 - p) / _sizes(side, p))
        low, high = (np.clip((p + sign * reach) * (n - 1), 0, n - 1).round().astype(int) for sign in (-1, 1))
        columns = np.arange(ordered.shape[1])
        found.append(0.5 * (ordered[high, columns] - ordered[low, columns]))
    return np.stack(found)


def _sizes(side: SampleSummary, p: float) -> np.ndarray:
    return side.size if 0.2 <= p <= 0.8 else np.minimum(side.size, side.tail_size)


def _ratio(error: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """z, infinite where there is an error without noise."""
    with np.errstate(divide="ignore", invalid="ignore"):
        z = error / noise
    return np.where(noise > 0, z, np.where(error == 0, 0.0, np.copysign(math.inf, error)))
