"""A site of many numbers in few: some of them, projections on random directions, power by wavenumber."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .sample_summary import SampleSummary, by_columns

WIDE = 2_048  # numbers from which a site is told in few
PIXELS, DIRECTIONS = 64, 32
LEAST_AXIS, MOST_AXES = 8, 3  # of a grid: shorter axes are channels
BLOCK = 2**22  # numbers that are transformed at once


@dataclass(frozen=True)
class FieldSummary:
    """Of two sides of a comparison, (draws, few): some numbers as they are, projections, ln of the power in
    bands; labels: of each."""

    labels: tuple[str, ...]
    mine: SampleSummary
    theirs: SampleSummary


def field_summary(
    mine: SampleSummary, theirs: SampleSummary, kept: np.ndarray, generator: np.random.Generator
) -> FieldSummary:
    """Of two sides with draws at a site whose numbers (numbers,) vary where they are kept.

    Of 64 numbers, drawn at random; of the fields in units of the mean and standard deviation of both together
    (by those of one, its own draws would look smoother than the other's) 32 projections on random directions
    of unit length, and the logarithm of the power in bands of |k|, in cycles over the grid, each an octave,
    of the Fourier transform over the axes of 8 or more, the last three at most. Time O(draws × numbers ×
    (32 + ln numbers)), memory that of 4 million numbers besides the draws.
    """
    assert mine.values is not None and theirs.values is not None
    shape, numbers = mine.shape, mine.values.shape[1]
    places = np.sort(generator.choice(np.flatnonzero(kept), min(PIXELS, int(kept.sum())), replace=False))
    directions = generator.standard_normal((numbers, DIRECTIONS))
    directions /= np.linalg.norm(directions, axis=0)
    axes = _grid(shape)
    bands, names = wavenumber_bands(tuple(shape[a] for a in axes)) if axes else (np.zeros(0, int), [])
    labels = [str([int(i) for i in np.unravel_index(k, shape)]) for k in places]
    labels += [f" along direction {k}" for k in range(DIRECTIONS)]
    labels += [f" of ln power, {name}" for name in names]
    mean, sd = _pooled(mine, theirs, kept)
    sides = []
    for side in (mine, theirs):
        found = []
        for rows in _blocks(side.values):
            white = (rows - mean) / sd
            parts = [rows[:, places], white @ directions]
            if axes:
                parts.append(_log_power(white.reshape(len(rows), *shape), axes, bands, len(names)))
            found.append(np.concatenate(parts, axis=1))
        sides.append(_of(np.concatenate(found), side))
    return FieldSummary(tuple(labels), sides[0], sides[1])


def _pooled(one: SampleSummary, other: SampleSummary, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean, and standard deviation about either's own, which do not tell one side from the other."""
    assert one.values is not None and other.values is not None
    n, m = len(one.values), len(other.values)
    both = (one.values, other.values)
    found = [by_columns(lambda c: (c.mean(axis=0), c.var(axis=0)), values) for values in both]
    share = n / (n + m)
    mean = share * found[0][0] + (1 - share) * found[1][0]
    variance = share * found[0][1] + (1 - share) * found[1][1]
    return mean, np.sqrt(np.where(kept, variance, 1.0))


def _blocks(values: np.ndarray | None) -> list[np.ndarray]:
    assert values is not None
    step = max(1, BLOCK // values.shape[1])
    return [values[first : first + step].astype(float) for first in range(0, len(values), step)]


def _of(values: np.ndarray, side: SampleSummary) -> SampleSummary:
    """As much worth as the number of the side that mixes worst."""
    sizes = (np.full(values.shape[1], float(np.nanmin(part))) for part in (side.size, side.tail_size))
    size, tails = sizes
    mean, sd = values.mean(axis=0), values.std(axis=0, ddof=1)
    return SampleSummary((values.shape[1],), values, mean, sd, size, tails)


def _grid(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of a site that are those of a grid."""
    long = [k for k, size in enumerate(shape) if size >= LEAST_AXIS]
    return tuple(long[-MOST_AXES:])


def wavenumber_bands(
    grid: tuple[int, ...], periodic: Sequence[bool] | None = None
) -> tuple[np.ndarray, list[str]]:
    """Of each coefficient of a transform over a grid the number of its band of |k|, flat; and the bands in
    words: |k| = 0, then an octave each; |k|² = Σ k_i², k_i in cycles over the axis.

    periodic: of each axis, by default of all; along others it is a cosine transform, in half cycles.
    """
    whole = periodic or (True,) * len(grid)
    ks = [
        np.abs(np.fft.fftfreq(n, 1 / n)) if one else np.arange(n) / 2
        for n, one in zip(grid, whole, strict=True)
    ]
    size = np.sqrt(sum(k**2 for k in np.meshgrid(*ks, indexing="ij"))).reshape(-1)
    band = np.where(size > 0, np.floor(np.log2(np.maximum(size, 1))).astype(int) + 1, 0)
    top = int(band.max())
    names = ["|k| = 0", *(f"|k| from {2**b if b else 0} to {2 ** (b + 1)}" for b in range(top))]
    if all(whole) and top:
        names[1] = "|k| from 1 to 2"
    return band, names


def _log_power(fields: np.ndarray, axes: tuple[int, ...], bands: np.ndarray, count: int) -> np.ndarray:
    """ln of the mean square of the coefficients of fields (draws, *shape) in each band: (draws, count)."""
    moved = np.moveaxis(fields, [a + 1 for a in axes], range(-len(axes), 0))
    grid = moved.shape[-len(axes) :]
    power = np.abs(np.fft.fftn(moved, axes=range(-len(axes), 0))) ** 2 / math.prod(grid)
    flat = power.reshape(len(fields), -1, math.prod(grid)).mean(axis=1)
    total = np.stack([np.bincount(bands, row, count) for row in flat])
    return np.log(np.maximum(total / np.bincount(bands, minlength=count), 1e-300))
