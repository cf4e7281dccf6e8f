"""Draws that a prior's denoiser is tested on, and the probability of what the tests find."""

import math
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np

from ..backend import host_numbers, real_number, seed_number, whole_number
from ..denoisers import Denoiser, GaussianDenoiser, NetworkDenoiser
from ..guide import ScoreGuide
from ..posterior import SIGNIFICANT
from ..query.noised import LARGEST_PAIRED, Noised, explained, noised_levels, whitened

CHECK = 4  # of a guide's random streams: draws that neither its moments nor its training have seen

Level = TypeVar("Level")

__all__ = [
    "LARGEST_PAIRED",
    "SIGNIFICANT",
    "Noised",
    "advice",
    "checked_rows",
    "explained",
    "noised_levels",
    "prior_and_draws",
    "probability",
    "tested_levels",
    "whitened",
    "z_scores",
]


def advice(prior: Any, denoiser: Denoiser, bent: bool = True) -> str:
    """What to do about a score that is wrong; bent: whether in what is not linear in x_t."""
    if isinstance(denoiser, NetworkDenoiser):
        return "train longer, or a wider network"
    if not isinstance(denoiser, GaussianDenoiser):
        return "check the denoiser"
    if not isinstance(prior, ScoreGuide):
        return "x_0 is not Gaussian" if bent else "check its mean and covariance"
    if not bent:
        return f"its moments are of {prior.fitted().draws} draws: use more"
    if prior.net_factory is None:
        return "the prior is not Gaussian: give the guide a network (net=sdeppl.ResidualMLP) and train it"
    return "the prior is not Gaussian, and the guide has no trained network in use: train it, or a wider one"


MOST = 10**9  # fresh draws


def prior_and_draws(check: str, prior: Any, draws: Any, seed: int) -> tuple[Denoiser, Any]:
    """The denoiser and x_0 in its coordinates: an array, or how many fresh draws of a guide's own model.

    Raises: TypeError, ValueError, naming the check.
    """
    seed = seed_number(seed)
    if isinstance(prior, ScoreGuide):
        draws = whole_number("draws, for a guide how many,", draws, 100, MOST)
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


def tested_levels(
    pairs: Iterator[Noised], test: Callable[[Noised], tuple[Level, int]], largest: Callable[[Level], float]
) -> tuple[tuple[Level, ...], float]:
    """What `test` finds at each level, and the probability of the largest |z| of all that it is made of.

    test: pairs ↦ what was found and of how many tests it is made; largest: the largest |z| in it.
    """
    found = [test(level) for level in pairs]
    levels = tuple(level for level, _ in found)
    return levels, probability(max(map(largest, levels)), sum(count for _, count in found))


def z_scores(values: np.ndarray) -> np.ndarray:
    """Means over rows in units of their standard errors; 0 for what does not vary."""
    mean, sd = values.mean(axis=0), values.std(axis=0, ddof=1)
    flat = sd <= 1e-12 * np.maximum(np.abs(values).max(axis=0), 1e-300)
    z: np.ndarray = np.where(flat, 0.0, mean * math.sqrt(values.shape[0]) / np.where(flat, 1.0, sd))
    return z


def probability(largest: float, tests: int) -> float:
    """Of one |z| of `tests` as large as this, at most."""
    return min(1.0, tests * math.erfc(largest / math.sqrt(2)))
