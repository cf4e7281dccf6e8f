"""Tests of whether two sets of draws come from one distribution, which see more than moments."""

import importlib.util
import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.spatial.distance import cdist

from ..backend.sharing import SHARED
from .sample_summary import SampleSummary

LARGEST_SLICED, LARGEST_TESTED = 4_000, 1_000
LEAST_CLASSIFIED = 50
PERMUTATIONS = 999
DIRECTIONS = 100
LARGEST_DIRECTIONS = 2**24  # numbers in directions, or in rows, that are multiplied at once
REPEATS = 5
LEVELS = 512
FEW_UNITS, MANY_UNITS = 30, 100
# standard deviations: what has diverged is told apart from there, and float32 does not overflow
FARTHEST = 1e6


@dataclass(frozen=True)
class TwoSamples:
    """distance, floor: sliced Wasserstein-1 in standard deviations, and that of two sets of the reference;
    energy: energy distance, and its p-value; accuracy: C2ST, ½ for equal distributions, with its standard
    deviation there, or None where it was not taken; rows: of each side in energy distance and C2ST."""

    distance: float
    floor: float
    energy: float
    energy_p: float
    accuracy: float | None
    accuracy_noise: float | None
    rows: int


def two_samples(
    mine: SampleSummary, reference: SampleSummary, classifier: bool, generator: np.random.Generator
) -> TwoSamples:
    """In units of the reference's standard deviations, on rows that count as independent."""
    one, other = (side.rows(LARGEST_SLICED) / reference.sd for side in (mine, reference))
    distance, floor = sliced_wasserstein_with_floor(one, other, generator)
    return _tested(mine, reference, distance, floor, classifier, generator)


def two_wide_samples(
    mine: SampleSummary,
    reference: SampleSummary,
    few: SampleSummary,
    few_of_reference: SampleSummary,
    classifier: bool,
    generator: np.random.Generator,
) -> TwoSamples:
    """The same of many numbers: the sliced distance is of all, the tests of a few that stand for them.

    Time O(rows × numbers × 100), rows 1,000 at most.
    """
    scale = reference.sd
    one, other = (side.rows(LARGEST_TESTED) for side in (mine, reference))
    found = []
    together = max(1, min(DIRECTIONS, LARGEST_DIRECTIONS // len(scale)))
    for first in range(0, DIRECTIONS, together):
        directions = generator.standard_normal((len(scale), min(together, DIRECTIONS - first)))
        directions /= np.linalg.norm(directions, axis=0) * scale[:, None]
        found.append([_along(rows, directions) for rows in (one, other)])
    a, b = (np.concatenate(parts, axis=1) for parts in zip(*found, strict=True))
    return _tested(few, few_of_reference, *_with_floor(a, b, generator), classifier, generator)


def _along(rows: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """rows @ directions in float64, some rows at a time."""
    step = max(1, LARGEST_DIRECTIONS // rows.shape[1])
    return np.concatenate([rows[k : k + step].astype(float) @ directions for k in range(0, len(rows), step)])


def _tested(
    mine: SampleSummary,
    reference: SampleSummary,
    distance: float,
    floor: float,
    classifier: bool,
    generator: np.random.Generator,
) -> TwoSamples:
    one, other = (side.rows(LARGEST_TESTED) / reference.sd for side in (mine, reference))
    energy, p = energy_test(one, other, generator)
    rows = min(len(one), len(other))
    accuracy = noise = None
    if classifier and has_scikit_learn() and rows >= LEAST_CLASSIFIED:
        first, second = (part[generator.permutation(len(part))[:rows]] for part in (other, one))
        accuracy, noise = c2st(first, second, quick=True), null_deviation(rows)
    return TwoSamples(distance, floor, energy, p, accuracy, noise, rows)


def reasons(found: TwoSamples, least_z: float) -> list[str]:
    """What speaks against equal distributions; least_z: of C2ST's accuracy."""
    said = []
    if found.energy_p <= 1 / (PERMUTATIONS + 1) + 1e-12:
        said.append(f"energy distance {found.energy:.3f} (p = {found.energy_p:.3f}, the least there is)")
    if found.accuracy is not None and found.accuracy_noise is not None:
        z = (found.accuracy - 0.5) / found.accuracy_noise
        if z > least_z:
            said.append(f"a classifier tells the draws apart, C2ST {found.accuracy:.3f} ({z:.1f} σ above ½)")
    return said


def left_out() -> str | None:
    """What a missing library leaves out, in words."""
    if has_scikit_learn():
        return None
    return "C2ST was left out: it needs scikit-learn, pip install 'sdeppl[diagnostics]'"


# ---- Energy distance between two sets of draws, with a permutation test


def energy_test(
    one: np.ndarray, other: np.ndarray, generator: np.random.Generator, permutations: int = PERMUTATIONS
) -> tuple[float, float]:
    """√(2 E|X - Y| - E|X - X'| - E|Y - Y'|) of (n, dim) and (m, dim), and its p-value.

    p: share of random exchanges of the rows, the given order among them, that are as far apart: exact for
    independent rows, at least 1 / (permutations + 1). The distance is zero for equal distributions alone.
    Cost: (n + m)² numbers, and as many products for each permutation. Source: Székely and Rizzo 2013,
    "Energy statistics", sections 2 and 4.
    """
    n, m = len(one), len(other)
    pooled = np.concatenate([one, other])
    distances = cdist(pooled, pooled)
    labels = np.zeros((permutations + 1, n + m))
    labels[:, :n] = 1.0
    labels[1:] = generator.permuted(labels[1:], axis=1)
    within = np.einsum("ij,ij->i", labels @ distances, labels)
    touched = labels @ distances.sum(axis=1)
    across = touched - within
    opposite = distances.sum() - 2 * touched + within
    found = 2 * across / (n * m) - within / n**2 - opposite / m**2
    ties = found[0] - 1e-12 * abs(found[0])  # as far apart as the first, to rounding
    extreme = int(np.count_nonzero(found >= ties))
    return math.sqrt(max(float(found[0]), 0.0)), extreme / (permutations + 1)


# ---- Sliced Wasserstein-1 distance between two sets of draws


def sliced_wasserstein_with_floor(
    one: np.ndarray, reference: np.ndarray, generator: np.random.Generator
) -> tuple[float, float]:
    """The distance of (n, dim) from (m, dim), and the mean distance of two such sets from the reference.

    The mean absolute difference of quantiles along random directions of unit length. The floor is of n
    and m rows drawn from the reference with replacement. Source: Bonneel et al. 2015, section 3.
    """
    directions = generator.standard_normal((one.shape[1], DIRECTIONS))
    directions /= np.linalg.norm(directions, axis=0)
    return _with_floor(one @ directions, reference @ directions, generator)


def _with_floor(a: np.ndarray, b: np.ndarray, generator: np.random.Generator) -> tuple[float, float]:
    """Of projections (n, directions) and (m, directions)."""
    floors = []
    for _ in range(REPEATS):
        first, second = (b[generator.integers(len(b), size=size)] for size in (len(a), len(b)))
        floors.append(_distance(first, second))
    return _distance(a, b), float(np.mean(floors))


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    levels = (np.arange(LEVELS) + 0.5) / LEVELS
    return float(np.mean(np.abs(np.quantile(a, levels, axis=0) - np.quantile(b, levels, axis=0))))


# ---- C2ST: how often a trained classifier tells two sets of draws apart


def c2st(
    reference: np.ndarray, draws: np.ndarray, seed: int = 1, jobs: int | None = None, quick: bool = False
) -> float:
    """Accuracy of a network with two hidden layers of 10 dim units, by 5-fold cross-validation.

    reference, draws: (n, dim), in any units: both are standardised with the reference's mean and
    standard deviation. ½ is perfect, 1 the worst. jobs: processes for the folds. The very numbers of
    `sbibm.metrics.c2st`, unless `quick`: then 30 to 100 units and 30 passes over the draws at five times
    the learning rate, which takes about a second for 1,000 draws and finds as much.

    Raises: ValueError for sets of other sizes or dimensions, or not finite; ImportError without
    scikit-learn. Source: Lopez-Paz & Oquab 2017; Lueckmann et al. 2021.
    """
    if reference.shape != draws.shape or reference.ndim != 2:
        raise ValueError(f"c2st needs two sets of one shape (n, dim); got {reference.shape}, {draws.shape}")
    if not (np.isfinite(reference).all() and np.isfinite(draws).all()):
        raise ValueError("c2st: the draws hold NaN or infinity")
    if not has_scikit_learn():
        raise ImportError("c2st needs scikit-learn: pip install 'sdeppl[diagnostics]'")
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import KFold, cross_val_score
    from sklearn.neural_network import MLPClassifier

    # in float32 by torch, as there: through training, rounding alone moves the score by up to .006
    first, second = (torch.as_tensor(np.asarray(a), dtype=torch.float32) for a in (reference, draws))
    mean, sd = torch.mean(first, dim=0), torch.std(first, dim=0)
    data = torch.cat([(first - mean) / sd, (second - mean) / sd]).clamp(-FARTHEST, FARTHEST).numpy()
    labels = np.repeat([0.0, 1.0], len(reference))
    units = 10 * reference.shape[1]
    options: dict[str, Any] = {"max_iter": 10_000}
    if quick:
        units = min(max(units, FEW_UNITS), MANY_UNITS)
        options = {"max_iter": 30, "learning_rate_init": 0.005}
    network = MLPClassifier((units, units), solver="adam", random_state=seed, **options)
    folds = KFold(n_splits=5, shuffle=True, random_state=seed)
    with SHARED, warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        scores = cross_val_score(network, data, labels, cv=folds, scoring="accuracy", n_jobs=jobs)
    return float(np.mean(scores))


def null_band(reference: np.ndarray, size: int, pairs: int, seed: int = 0) -> tuple[float, float]:
    """Mean and standard deviation of C2ST between disjoint parts of the reference, of `size` draws each.

    What perfect draws would get. Raises: ValueError where the reference is too small.
    """
    if 2 * size * pairs > len(reference):
        raise ValueError(f"{pairs} pairs of {size} need {2 * size * pairs} draws; there are {len(reference)}")
    order = np.random.default_rng(seed).permutation(len(reference))[: 2 * size * pairs]
    parts = reference[order].reshape(pairs, 2, size, -1)
    found = [c2st(first, second) for first, second in parts]
    return float(np.mean(found)), float(np.std(found, ddof=1)) if pairs > 1 else float("nan")


def null_deviation(size: int) -> float:
    """Standard deviation of C2ST of two sets of `size` independent draws from one distribution.

    √(¼ / 2 size): every draw is classified once, right with probability ½. Source: Lopez-Paz & Oquab
    2017, section 3.
    """
    return 0.5 / math.sqrt(2 * size)


def has_scikit_learn() -> bool:
    """Whether scikit-learn can be imported."""
    try:
        return importlib.util.find_spec("sklearn") is not None
    except ValueError:  # a module that was set to None
        return False
