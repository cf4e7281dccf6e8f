"""What should be orthogonal to a score's error, tested by wavenumber on sites that are on a grid."""

import math
from dataclasses import dataclass

import numpy as np

from ..guide import ScoreGuide
from ..linalg import FieldShape, Stationary
from .field_summary import BLOCK, wavenumber_bands


def relative(values: np.ndarray, size: float) -> tuple[float, float]:
    """The mean of (n,), and its standard error, in units of `size`; 0 where that is 0."""
    noise = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return (float(values.mean()) / size, noise / size) if size else (0.0, 0.0)


def z_scores(values: np.ndarray) -> np.ndarray:
    """Means over rows in units of their standard errors; 0 for what does not vary."""
    mean, sd = values.mean(axis=0), values.std(axis=0, ddof=1)
    flat = sd <= 1e-12 * np.maximum(np.abs(values).max(axis=0), 1e-300)
    z: np.ndarray = np.where(flat, 0.0, mean * math.sqrt(values.shape[0]) / np.where(flat, 1.0, sd))
    return z


@dataclass(frozen=True)
class BandCheck:
    """An octave of wavenumbers of a site with a layout, at one noise level, in its numbers' own units of
    `LevelCheck`. scale_error ± scale_noise: by how much ε̂ is too long there, relative; slope, bend: |z| of
    E[(ε - ε̂) x_t] and of the sine and cosine of twice the band of x_t, of all its waves together; loss:
    E(ε - ε̂)² of one wave; share: of the waves that are in the band.
    """

    site: str
    band: str
    scale_error: float
    scale_noise: float
    slope: float
    bend: float
    loss: float
    share: float

    @property
    def largest(self) -> float:
        """|z| of all tests."""
        length = abs(self.scale_error) / self.scale_noise if self.scale_noise else 0.0
        return max(length, self.slope, self.bend)

    @property
    def words(self) -> str:
        """What is off, in words."""
        side = "long" if self.scale_error > 0 else "short"
        return (
            f"'{self.site}' at {self.band}: ε̂ is {abs(self.scale_error):.1%} ± {self.scale_noise:.1%} too "
            f"{side} (|z| of slope {self.slope:.1f}, of bend {self.bend:.1f})"
        )


@dataclass(frozen=True)
class Bands:
    """The numbers `part` of a site on a grid, in the basis of its waves; band: of each wave, (points,)."""

    site: str
    part: slice
    field: FieldShape
    band: np.ndarray
    names: tuple[str, ...]

    def checks(self, residual: np.ndarray, guess: np.ndarray, x: np.ndarray) -> list[BandCheck]:
        """Of rows (draws, dim) of ε - ε̂, ε̂ and x_t, some rows at a time."""
        waves = Stationary(self.field, np.ones(self.field.size))
        rows = max(1, BLOCK // self.field.size)
        blocks = [slice(k, k + rows) for k in range(0, len(x), rows)]
        power = np.zeros(len(self.names))
        for one in blocks:
            power += self._sums(_inside(waves, x[one, self.part]) ** 2).sum(axis=0) / len(x)
        sums: list[list[np.ndarray]] = [[], [], [], [], []]
        for one in blocks:
            r, g, u = (_inside(waves, each[one, self.part]) for each in (residual, guess, x))
            found = (self._sums(r * g), self._sums(g * g), self._sums(r * u), self._sums(r * r))
            for kept, values in zip(sums, (*found, self._bends(waves, r, u, power)), strict=True):
                kept.append(values)
        along, square, slope, loss, bend = (np.concatenate(parts) for parts in sums)
        slopes, bends = np.abs(z_scores(slope)), np.abs(z_scores(bend)).reshape(2, -1).max(axis=0)
        counts = np.bincount(self.band, minlength=len(self.names)) * self.field.channels
        return [
            BandCheck(
                self.site,
                name,
                *relative(-along[:, k], float(square[:, k].mean())),
                slope=float(slopes[k]),
                bend=float(bends[k]),
                loss=float(loss[:, k].mean()) / counts[k],
                share=counts[k] / self.field.size,
            )
            for k, name in enumerate(self.names)
        ]

    def _sums(self, values: np.ndarray) -> np.ndarray:
        """(rows, channels × points) to sums by band, (rows, bands)."""
        by_wave = values.reshape(len(values), self.field.channels, -1).sum(axis=1)
        return np.stack([np.bincount(self.band, row, len(self.names)) for row in by_wave])

    def _bends(self, waves: Stationary, r: np.ndarray, u: np.ndarray, power: np.ndarray) -> np.ndarray:
        """(rows, 2 bands): Σ over the grid of the residual times the sine, and the cosine, of twice x_t, each
        in a band alone, x_t there in its standard deviations."""
        whole = np.tile(self.band, self.field.channels)
        sines, cosines = [], []
        for k, size in enumerate(np.sqrt(np.maximum(power, 1e-300) / self.field.size)):
            own = np.where(whole == k, 1.0, 0.0)
            left, w = waves.outside(own * r), waves.outside(own * u) / size
            sines.append(np.sum(left * np.sin(2 * w), axis=1))
            cosines.append(np.sum(left * np.cos(2 * w), axis=1))
        return np.stack([*sines, *cosines], axis=1)


def _inside(waves: Stationary, rows: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.asarray(waves.inside(rows))
    return found


def bands_of(guide: ScoreGuide) -> tuple[Bands, ...]:
    """Of the sites of a guide that are on a grid."""
    found = []
    for site in guide.space.sites:
        field = guide.fields.get(site.name)
        if isinstance(field, FieldShape):
            band, names = wavenumber_bands(field.shape, field.periodic)
            found.append(Bands(site.name, slice(site.start, site.stop), field, band, tuple(names)))
    return tuple(found)
