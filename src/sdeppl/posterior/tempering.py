"""Powers of a likelihood, and what runs that moved their particles are worth."""

from typing import Any

from array_api_compat import array_namespace

BISECTIONS = 60


def next_power(log_likelihood: Any, power: float, share: float) -> float:
    """The next λ ≤ 1, by which `share` of the particles that can have led to the data stay effective.

    log_likelihood: ln p(y given x_0) of particles that are equally likely at λ = power. Raises:
    FloatingPointError where none of them can have led to the data, or p(y given x_0) is infinite.
    """
    xp = array_namespace(log_likelihood)
    possible = xp.isfinite(log_likelihood)
    infinite = int(xp.count_nonzero(log_likelihood == xp.inf))
    if infinite:
        raise FloatingPointError(
            f"p(y given x_0) is infinite at {infinite} of {log_likelihood.shape[0]} draws, which would "
            "outweigh all others; check the density of the data there"
        )
    count = int(xp.count_nonzero(possible))
    if count == 0:
        raise FloatingPointError(
            "no draw of the prior can have led to the data: they lie outside what the model can give, or so "
            "far out that its density underflows; check data and model"
        )
    zero = xp.zeros_like(log_likelihood)
    values = xp.where(possible, log_likelihood, zero)
    values = values - xp.max(xp.where(possible, log_likelihood, zero - xp.inf))

    def effective(rise: float) -> float:
        weights = xp.where(possible, xp.exp(rise * values), zero)
        return float(xp.sum(weights) ** 2 / xp.sum(weights * weights)) / count

    low, high = 0.0, 1.0 - power
    if effective(high) >= share:
        return 1.0
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if effective(middle) >= share else (low, middle)
    return power + low


def moved_share(moments: Any, particles: int) -> float:
    """Effective share of particles that moved apart: their variance over `particles` × that of runs' means.

    moments: the runs' means of x and of x², (runs, 2, dim). A mean over the numbers in x of the inverse.
    """
    xp = array_namespace(moments)
    means, squares = moments[:, 0, :], moments[:, 1, :]
    pooled = xp.mean(means, axis=0)
    variance = xp.mean(squares, axis=0) - pooled * pooled
    between = xp.sum((means - pooled) ** 2, axis=0) / (means.shape[0] - 1)
    varies = variance > 0
    ratio = particles * between / xp.where(varies, variance, xp.ones_like(variance))
    total = xp.sum(xp.where(varies, ratio, xp.zeros_like(ratio)))
    mean = float(total) / max(int(xp.count_nonzero(varies)), 1)
    return min(1 / mean, 1.0) if mean > 0 else 1.0
