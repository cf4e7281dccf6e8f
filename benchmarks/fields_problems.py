"""Fields with known answers, shared by benchmarks."""

import math

import numpy as np

from sdeppl.linalg import FieldShape


def matern_spectrum(shape: tuple[int, ...], nu: float = 1.0, reach: float = 0.06) -> np.ndarray:
    """Variances λ_k of the unitary Fourier coefficients of a Matérn field on the torus, of unit variance.

    reach: of the correlation, in sides of the longest axis. (κ² + |2π k|²)^-(ν + d/2), κ = √(2ν)/reach, on
    wavenumbers up to the grid's own, normalised so that the mean of λ is 1.
    """
    longest, d = max(shape), len(shape)
    square = np.zeros((1,) * d)
    for axis, size in enumerate(shape):
        k = longest * np.fft.fftfreq(size).reshape(-1, *(1,) * (d - 1 - axis))
        square = square + (2 * math.pi * k) ** 2
    spectrum = (2 * nu / reach**2 + square) ** -(nu + d / 2)
    found: np.ndarray = spectrum / spectrum.mean()
    return found


def torus(shape: tuple[int, ...]) -> FieldShape:
    """A periodic grid of one channel."""
    return FieldShape(1, shape, (True,) * len(shape))


def stationary_draws(spectrum: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Fields (draws, *shape) with this spectrum, zero mean."""
    white = rng.standard_normal((draws, *spectrum.shape))
    axes = tuple(range(1, white.ndim))
    half = np.sqrt(spectrum)[..., : spectrum.shape[-1] // 2 + 1]
    found: np.ndarray = np.fft.irfftn(half * np.fft.rfftn(white, axes=axes), s=spectrum.shape, axes=axes)
    return found
