"""Errors of means, standard deviations and quantiles, number by number, with their Monte Carlo error."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from .sample_summary import SampleSummary

LEVELS = np.array([0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95])
LEAST_EXCESS = 0.2  # of the kurtosis over 1: of two points it is 1, and the first order says no noise


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


def number_errors(mine: SampleSummary, reference: SampleSummary) -> NumberErrors:
    """Of draws against a reference whose standard deviations are positive.

    Standard errors: of a mean sd/√size; of a standard deviation √((κ - 1)/4 size) relative, κ the kurtosis;
    of a quantile half the distance of those at p ± √(p (1 - p)/size) (Woodruff 1952).
    """
    theirs = [np.zeros_like(mine.mean)] * 2 if reference.known else [_of_mean(reference), _of_sd(reference)]
    mean = (mine.mean - reference.mean) / reference.sd
    mean_noise = np.hypot(_of_mean(mine), theirs[0]) / reference.sd
    sd = mine.sd / reference.sd - 1
    sd_noise = np.hypot(_of_sd(mine) * mine.sd, theirs[1] * reference.sd) / reference.sd
    moments = (mean, mean_noise, _ratio(mean, mean_noise), sd, sd_noise, _ratio(sd, sd_noise))
    if mine.values is None or reference.values is None:
        return NumberErrors(LEVELS, *moments, None, None, None)
    return NumberErrors(LEVELS, *moments, *_quantiles(mine, reference))


def largest_z(count: int, significance: float) -> float:
    """|z| above which one of `count` normal numbers lies with probability `significance` at most."""
    return float(norm.isf(0.5 * significance / count))


def _of_mean(side: SampleSummary) -> np.ndarray:
    return side.sd / np.sqrt(side.size)


def _of_sd(side: SampleSummary) -> np.ndarray:
    """Relative to the standard deviation."""
    assert side.values is not None
    centred = side.values - side.values.mean(axis=0)
    square = np.maximum(np.mean(centred**2, axis=0), 1e-300)
    excess = np.maximum(np.mean(centred**4, axis=0) / square**2 - 1, LEAST_EXCESS)
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
