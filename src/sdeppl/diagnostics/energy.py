"""Energy distance between two sets of draws, with a permutation test."""

import math

import numpy as np
from scipy.spatial.distance import cdist

PERMUTATIONS = 999


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
