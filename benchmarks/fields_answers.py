"""Exact posteriors of stationary fields on the torus, by hand: what sdeppl's are held against."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.linalg
import scipy.special
from fields_problems import matern_spectrum, stationary_draws

TOLERANCE = 1e-8
PIXELS = 4_096  # of which exact standard deviations are computed
COLUMNS = 1_024  # of them at once
FACTORED = 5_000


@dataclass(frozen=True)
class Field:
    """A field with zero mean and this spectrum, of which y = x[places] + noise N(0, sd²) was observed."""

    spectrum: np.ndarray
    places: np.ndarray
    y: np.ndarray
    sd: float = 0.1

    @classmethod
    def matern(cls, side: int, share: float = 0.05, sd: float = 0.1, seed: int = 0) -> "Field":
        """Matérn on the torus, ν = 1, range .06, unit variance; a share of the pixels observed."""
        rng, spectrum = np.random.default_rng(seed), matern_spectrum((side, side))
        count = round(share * side * side)
        places = np.sort(rng.choice(side * side, count, replace=False))
        truth = stationary_draws(spectrum, 1, rng).reshape(-1)
        return cls(spectrum, places, truth[places] + sd * rng.standard_normal(count), sd)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.spectrum.shape

    @property
    def dim(self) -> int:
        return self.spectrum.size

    @cached_property
    def half(self) -> np.ndarray:
        """The spectrum as a real transform has it."""
        return self.spectrum[..., : self.shape[-1] // 2 + 1]

    def product(self, x: np.ndarray, power: float = 1.0) -> np.ndarray:
        """C^power x of one field (dim,)."""
        transformed = np.fft.rfftn(x.reshape(self.shape))
        return np.fft.irfftn(self.half**power * transformed, s=self.shape).reshape(-1)

    def observed_product(self, v: np.ndarray) -> np.ndarray:
        """(H C Hᵀ + R) v."""
        x = np.zeros(self.dim)
        x[self.places] = v
        return self.product(x)[self.places] + self.sd**2 * v

    def solve(self, right: np.ndarray, tolerance: float = TOLERANCE) -> tuple[np.ndarray, int]:
        """(H C Hᵀ + R)⁻¹ right by conjugate gradients, and how many iterations."""
        v, residual = np.zeros_like(right), right.copy()
        direction, squared = residual.copy(), residual @ residual
        goal, count = tolerance**2 * squared, 0
        while squared > goal:
            image = self.observed_product(direction)
            step = squared / (direction @ image)
            v, residual = v + step * direction, residual - step * image
            before, squared = squared, residual @ residual
            direction, count = residual + squared / before * direction, count + 1
        return v, count

    def spread(self, weights: np.ndarray) -> np.ndarray:
        """C Hᵀ weights."""
        x = np.zeros(self.dim)
        x[self.places] = weights
        return self.product(x)

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        """One posterior draw by Matheron's rule, and the iterations it took."""
        x = self.product(rng.standard_normal(self.dim), 0.5)
        noise = self.sd * rng.standard_normal(len(self.y))
        weights, count = self.solve(self.y - x[self.places] - noise)
        return x + self.spread(weights), count

    @cached_property
    def mean(self) -> np.ndarray:
        """Of the posterior, (dim,)."""
        return self.spread(self.solve(self.y, 1e-12)[0])

    def covariances(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """C_ij, (len(i), len(j))."""
        function = np.fft.ifftn(self.spectrum).real
        steps = [a[:, None] - b[None, :] for a, b in zip(*self._points(i, j), strict=True)]
        return function[tuple(step % n for step, n in zip(steps, self.shape, strict=True))]

    def _points(self, *numbers: np.ndarray) -> list[tuple[np.ndarray, ...]]:
        return [np.unravel_index(part, self.shape) for part in numbers]

    @cached_property
    def root(self) -> np.ndarray:
        """Cholesky's factor of H C Hᵀ + R."""
        if len(self.y) > FACTORED:
            raise ValueError(f"{len(self.y)} observed numbers are not factored here")
        matrix = self.covariances(self.places, self.places)
        matrix[np.diag_indices_from(matrix)] += self.sd**2
        return scipy.linalg.cholesky(matrix, lower=True, overwrite_a=True)

    @property
    def log_evidence(self) -> float:
        """ln p(y)."""
        white = scipy.linalg.solve_triangular(self.root, self.y, lower=True)
        constant = np.log(np.diag(self.root)).sum() + 0.5 * len(self.y) * math.log(2 * math.pi)
        return float(-0.5 * white @ white - constant)

    def deviations(self, pixels: np.ndarray) -> np.ndarray:
        """Posterior standard deviations at some pixels."""
        variance = float(self.spectrum.mean())
        parts = []
        for part in np.array_split(pixels, max(len(pixels) // COLUMNS, 1)):
            cross = self.covariances(self.places, part)
            white = scipy.linalg.solve_triangular(self.root, cross, lower=True, overwrite_b=True)
            parts.append(np.sqrt(variance - (white**2).sum(axis=0)))
        return np.concatenate(parts)


@dataclass(frozen=True)
class Errors:
    """Of draws, at some pixels: rms of the mean's error in posterior standard deviations and of the relative
    error of standard deviations, each with the part that so many exact draws would have; coverage of 90%
    intervals."""

    mean: float
    mean_noise: float
    sd: float
    sd_noise: float
    coverage: float

    @classmethod
    def of(cls, draws: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> "Errors":
        """draws (n, pixels) against the exact mean and standard deviations (pixels,)."""
        n = len(draws)
        low, high = np.quantile(draws, [0.05, 0.95], axis=0)
        content = scipy.special.ndtr((high - mean) / sd) - scipy.special.ndtr((low - mean) / sd)
        off = (draws.mean(axis=0) - mean) / sd
        wide = draws.std(axis=0, ddof=1) / sd - 1
        rms = [float(np.sqrt((part**2).mean())) for part in (off, wide)]
        return cls(rms[0], n**-0.5, rms[1], (2 * n) ** -0.5, float(content.mean()))
