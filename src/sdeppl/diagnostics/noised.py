"""A prior's denoiser with fresh pairs (x_0, ε) at noise levels, for the tests of what it has learned."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from ..backend import Noise, host_numbers, place, real_number, to_host, whole_number
from ..denoisers import Denoiser
from ..guide import ScoreGuide
from ..sde import IsotropicSDE, log_snr_grid

CHECK = 4  # of a guide's random streams: draws that neither its moments nor its training have seen
LAST = 0.05  # σ/α of the last level
SIGNIFICANT = 1e-3

Level = TypeVar("Level")


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


def prior_and_draws(check: str, prior: Any, draws: Any, seed: int) -> tuple[Denoiser, Any]:
    """The denoiser and x_0 in its coordinates: an array, or how many fresh draws of a guide's own model.

    Raises: TypeError, ValueError, naming the check.
    """
    if isinstance(prior, ScoreGuide):
        draws = whole_number("draws, for a guide how many,", draws, 100)
        denoiser, gaussian = prior.denoiser(), prior.gaussian
        assert gaussian is not None  # or denoiser() has raised
        z = prior.prior_batch(draws, CHECK, seed)
        return denoiser, ((z - gaussian.location) / gaussian.scale).numpy()
    if not isinstance(prior, Denoiser):
        raise TypeError(f"{check} takes a ScoreGuide or a Denoiser; got {type(prior).__name__}")
    if real_number(draws) is not None:
        raise TypeError(f"{check} of a denoiser takes draws=x_0, an array (draws, dim) from its prior")
    return prior, draws if hasattr(draws, "ndim") else host_numbers(draws, f"{check}: draws")


def checked_rows(name: str, x0: Any, dim: int) -> Any:
    """x_0 as it is. Raises: ValueError for fewer than 100 rows, or another dimension."""
    if x0.ndim != 2 or x0.shape[1] != dim or x0.shape[0] < 100:
        raise ValueError(f"{name}: expected x_0 (100 or more, {dim}); got shape {tuple(x0.shape)}")
    return x0


def noised_levels(denoiser: Denoiser, x0: Any, levels: int, seed: int) -> Iterator[Noised]:
    """x_0 under fresh noise at levels evenly in ln(α/σ), from T to σ/α = 0.05. Raises: ValueError."""
    levels = whole_number("levels", levels, 1)
    backend, sde = denoiser.backend, denoiser.sde
    stream, clean = Noise(seed).stream(backend), place(x0, backend)
    host = np.asarray(to_host(clean), float)
    for k, t in enumerate(_times(sde, levels)):
        eps = stream.normal(k, tuple(clean.shape))
        alpha, sigma = sde.levels(t)
        x = alpha * clean + sigma * eps + sde.shift(t)
        yield Noised(t, alpha, sigma, x, host, np.asarray(to_host(eps), float))


def _times(sde: IsotropicSDE, levels: int) -> list[float]:
    return log_snr_grid(sde, levels + 1, LAST)[1:-1] if levels > 1 else [0.5 * sde.T]


def tested_levels(
    pairs: Iterator[Noised], test: Callable[[Noised], tuple[Level, int]], largest: Callable[[Level], float]
) -> tuple[tuple[Level, ...], float]:
    """What `test` finds at each level, and the probability of the largest |z| of all that it is made of.

    test: pairs ↦ what was found and of how many tests it is made; largest: the largest |z| in it.
    """
    found = [test(level) for level in pairs]
    levels = tuple(level for level, _ in found)
    return levels, probability(max(map(largest, levels)), sum(count for _, count in found))


def whitened(x: np.ndarray) -> np.ndarray:
    """Each number of x (draws, dim) without its mean, in units of its standard deviation."""
    white: np.ndarray = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-300)
    return white


def z_scores(values: np.ndarray) -> np.ndarray:
    """Means over rows in units of their standard errors; 0 for what does not vary."""
    mean, sd = values.mean(axis=0), values.std(axis=0, ddof=1)
    flat = sd <= 1e-12 * np.maximum(np.abs(values).max(axis=0), 1e-300)
    z: np.ndarray = np.where(flat, 0.0, mean * math.sqrt(values.shape[0]) / np.where(flat, 1.0, sd))
    return z


def probability(largest: float, tests: int) -> float:
    """Of one |z| of `tests` as large as this, at most."""
    return min(1.0, tests * math.erfc(largest / math.sqrt(2)))
