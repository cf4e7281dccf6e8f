"""Sliced Wasserstein-1 distance between two sets of draws."""

import numpy as np

DIRECTIONS = 100
REPEATS = 5
LEVELS = 512


def sliced_wasserstein_with_floor(
    one: np.ndarray, reference: np.ndarray, generator: np.random.Generator
) -> tuple[float, float]:
    """The distance of (n, dim) from (m, dim), and the mean distance of two such sets from the reference.

    The mean absolute difference of quantiles along random directions of unit length. The floor is of n
    and m rows drawn from the reference with replacement. Source: Bonneel et al. 2015, section 3.
    """
    directions = generator.standard_normal((one.shape[1], DIRECTIONS))
    directions /= np.linalg.norm(directions, axis=0)
    a, b = one @ directions, reference @ directions
    floors = []
    for _ in range(REPEATS):
        first, second = (b[generator.integers(len(b), size=size)] for size in (len(a), len(b)))
        floors.append(_distance(first, second))
    return _distance(a, b), float(np.mean(floors))


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    levels = (np.arange(LEVELS) + 0.5) / LEVELS
    return float(np.mean(np.abs(np.quantile(a, levels, axis=0) - np.quantile(b, levels, axis=0))))
