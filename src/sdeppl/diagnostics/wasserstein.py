"""Sliced Wasserstein-1 distance between two sets of draws."""

import numpy as np

DIRECTIONS = 100
SPLITS = 5
LEVELS = 512


def sliced_wasserstein_with_floor(
    one: np.ndarray, other: np.ndarray, generator: np.random.Generator
) -> tuple[float, float]:
    """The distance of (n, dim) and (m, dim), and its mean under random exchange of their rows.

    The mean absolute difference of quantiles along random directions of unit length. Source:
    Bonneel et al. 2015, section 3.
    """
    directions = generator.standard_normal((one.shape[1], DIRECTIONS))
    directions /= np.linalg.norm(directions, axis=0)
    a, b = one @ directions, other @ directions
    pooled = np.concatenate([a, b])
    floors = []
    for _ in range(SPLITS):
        order = generator.permutation(pooled.shape[0])
        floors.append(_distance(pooled[order[: a.shape[0]]], pooled[order[a.shape[0] :]]))
    return _distance(a, b), float(np.mean(floors))


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    levels = (np.arange(LEVELS) + 0.5) / LEVELS
    return float(np.mean(np.abs(np.quantile(a, levels, axis=0) - np.quantile(b, levels, axis=0))))
