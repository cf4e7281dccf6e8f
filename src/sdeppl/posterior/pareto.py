"""The shape of the tail of importance weights."""

import math
from collections.abc import Sequence

LEAST = 25  # weights below which a tail has too few values to say anything


def pareto_shape(weights: Sequence[float]) -> float:
    """k̂ of a generalised Pareto distribution fitted to the largest weights; NaN for fewer than 25.

    Weights with k̂ above 0.7 have averages that no practical number of them settles; above 0.5 their variance
    is infinite. The tail is the min(n/5, 3 √n) largest; equal weights have k̂ = -∞. Source: Vehtari et al.
    2024 (Pareto smoothed importance sampling), section 2; the fit is Zhang & Stephens 2009.
    """
    count = len(weights)
    if count < LEAST:
        return math.nan
    ordered = sorted(weights)
    size = int(min(0.2 * count, 3 * math.sqrt(count)))
    cut = ordered[-size - 1]
    tail = [w - cut for w in ordered[-size:]]
    if tail[-1] <= 1e-12 * ordered[-1]:
        return -math.inf
    tail = [max(x, 1e-300) for x in tail]
    quartile, largest = tail[max(int(size / 4 + 0.5) - 1, 0)], tail[-1]
    grid = 30 + int(math.sqrt(size))
    thetas = [
        1 / largest + (1 - math.sqrt(grid / (j - 0.5))) / (3 * max(quartile, 1e-12 * largest))
        for j in range(1, grid + 1)
    ]
    profiles = []
    for theta in thetas:
        k = _shape(theta, tail)
        profiles.append(size * (math.log(-theta / k) - k - 1) if theta * k < 0 else -math.inf)
    best = max(profiles)
    shares = [math.exp(p - best) for p in profiles]
    theta = sum(t * s for t, s in zip(thetas, shares, strict=True)) / sum(shares)
    # drawn towards 0.5 by ten values' worth, which steadies small tails
    return (size * _shape(theta, tail) + 5) / (size + 10)


def _shape(theta: float, tail: Sequence[float]) -> float:
    return sum(math.log1p(-theta * x) for x in tail) / len(tail)
