"""A denoiser with fresh pairs (x_0, ε) at noise levels, and what of ε functions of x_t still explain."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backend import Noise, place, to_host, whole_number
from ..denoisers import Denoiser
from ..sde import IsotropicSDE, log_snr_grid

LAST = 0.05  # σ/α of the last level
LARGEST_PAIRED = 32  # numbers in x_0 up to which every pair of a residual and an input is tested
LARGEST_MULTIPLIED = 12  # up to which products of two numbers are
LARGEST_CHUNK = 10_000_000  # numbers in one array of functions
EACH = 3  # draws for each function, at least
ROUNDING = 1e-10


@dataclass(frozen=True)
class Noised:
    """At time t: x_t (draws, dim) on the denoiser's backend, and x_0 and ε on the host, in float64."""

    t: float
    alpha: float
    sigma: float
    x: Any
    clean: np.ndarray
    eps: np.ndarray

    @property
    def noise_to_signal(self) -> float:
        """σ/α."""
        return self.sigma / self.alpha

    def guess(self, denoiser: Denoiser) -> np.ndarray:
        """ε̂ (draws, dim). Raises: FloatingPointError for NaN or infinity."""
        found = np.asarray(to_host(denoiser.eps(self.x, self.t)), float)
        if not np.isfinite(found).all():
            raise FloatingPointError(f"the denoiser gives NaN or infinity at t = {self.t:.4g}")
        return found


def noised_levels(denoiser: Denoiser, x0: Any, levels: int, seed: int) -> Iterator[Noised]:
    """x_0 under fresh noise at levels evenly in ln(α/σ), from T to σ/α = 0.05. Raises: ValueError."""
    levels = whole_number("levels", levels, 1)
    backend, sde = denoiser.backend, denoiser.sde
    stream, clean = Noise(seed).stream(backend), place(x0, backend)
    host = np.asarray(to_host(clean), float)
    for k, t in enumerate(_times(sde, levels)):
        eps = stream.normal(k, tuple(clean.shape))
        alpha, sigma = sde.alpha_sigma(t)
        x = alpha * clean + sigma * eps + sde.shift(t)
        yield Noised(t, alpha, sigma, x, host, np.asarray(to_host(eps), float))


def _times(sde: IsotropicSDE, levels: int) -> list[float]:
    return log_snr_grid(sde, levels + 1, LAST)[1:-1] if levels > 1 else [0.5 * sde.T]


def level_spacing(sde: IsotropicSDE, levels: int) -> float:
    """The step in ln(α/σ) from one of two or more such levels to the next."""
    first, second = (sde.alpha_sigma(t) for t in _times(sde, levels)[:2])
    return math.log(first[1] / first[0]) - math.log(second[1] / second[0])


def whitened(x: np.ndarray) -> np.ndarray:
    """Each number of x (draws, dim) without its mean, in units of its standard deviation."""
    white: np.ndarray = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-300)
    return white


def explained(
    residual: np.ndarray, functions: Sequence[np.ndarray], linear: bool = True, products: bool = True
) -> tuple[np.ndarray, np.ndarray, int]:
    """How much of each number's E[r²] least squares on functions of x_t explain, less what chance would; its
    standard error where they explain nothing, two (dim,); and how many functions a number is told by.

    residual (draws, dim); functions: each (draws, dim), the first x_t. All functions of all numbers tell
    each, and if asked for products of x_t by pairs where they are few; from 33 numbers on, or
    of few draws, each its own.
    linear: whether 1 and x_t count, or only what is orthogonal to them.
    """
    count = residual.shape[1]
    pairs = [_products(functions[0])] if products and count <= LARGEST_PAIRED else []
    if count <= LARGEST_PAIRED and len(residual) >= EACH * sum(f.shape[1] for f in (*functions, *pairs)):
        known = np.concatenate([*functions, *pairs], axis=1)
        return _explained(residual, _orthonormal(known)[:, 0 if linear else 1 + count :])
    size = max(1, LARGEST_CHUNK // (len(functions) * len(residual)))
    seen, noise, each = np.zeros(count), np.zeros(count), 0
    for first in range(0, count, size):
        part = slice(first, first + size)
        known = np.stack([f[:, part].T for f in functions], axis=-1)
        basis = _orthonormal(known)[..., 0 if linear else 2 :]
        found, chance, each = _explained(residual[:, part].T[..., None], basis)
        seen[part], noise[part] = found[..., 0], chance[..., 0]
    return seen, noise, each


def _explained(residual: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Σ_{i≠j} r_i r_j b_i·b_j / draws for r (..., draws, numbers), b (..., draws, functions), orthonormal.

    Without a draw's product with itself the mean is 0 for whatever is orthogonal to the functions, also where
    the variance of what is left depends on them.
    """
    draws, functions = basis.shape[-2:]
    chance = np.sum(np.sum(basis**2, axis=-1)[..., None] * residual**2, axis=-2)
    total = np.sum((np.swapaxes(basis, -1, -2) @ residual) ** 2, axis=-2)
    return (total - chance) / draws, chance * math.sqrt(2 / max(functions, 1)) / draws, functions


def _orthonormal(functions: np.ndarray) -> np.ndarray:
    """1 and functions (..., draws, count) as orthonormal columns in that order; what is left of one that the
    earlier ones give is about zero."""
    known = np.concatenate([np.ones_like(functions[..., :1]), functions], axis=-1)
    scale = np.sqrt(np.sum(known**2, axis=-2, keepdims=True))
    known = known / np.where(scale > 0, scale, 1.0)
    products = np.swapaxes(known, -1, -2) @ known + ROUNDING * np.eye(known.shape[-1])
    basis: np.ndarray = known @ np.swapaxes(np.linalg.inv(np.linalg.cholesky(products)), -1, -2)
    return basis


def _products(x: np.ndarray) -> np.ndarray:
    """x_i x_j by pairs, of few numbers."""
    count = x.shape[1]
    first, second = np.triu_indices(count if count <= LARGEST_MULTIPLIED else 0, k=1)
    found: np.ndarray = x[:, first] * x[:, second]
    return found
