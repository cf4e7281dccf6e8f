"""Systematic resampling of many independent runs at once."""

from typing import Any

from array_api_compat import array_namespace, device


def normalised(log_weights: Any) -> tuple[Any, Any]:
    """Weights that sum to one, and ln of the mean of the unnormalised ones: (runs, particles) and (runs,).

    A run all of whose particles are impossible (-∞) gets equal weights, and -∞.
    """
    xp = array_namespace(log_weights)
    largest = xp.max(log_weights, axis=1, keepdims=True)
    finite = xp.where(largest > -xp.inf, largest, xp.zeros_like(largest))
    weights = xp.exp(log_weights - finite)
    total = xp.sum(weights, axis=1, keepdims=True)
    possible = total > 0
    share = weights / xp.where(possible, total, xp.ones_like(total))
    equal = xp.ones_like(weights) / weights.shape[1]
    log_mean = finite + xp.log(total / weights.shape[1])
    return xp.where(possible, share, equal), log_mean[:, 0]


def ess_fraction(weights: Any) -> Any:
    """1/Σ w² over the number of particles, in (0, 1], for each run of weights (runs, particles)."""
    xp = array_namespace(weights)
    return 1 / (xp.sum(weights * weights, axis=1) * weights.shape[1])


def systematic(weights: Any, uniforms: Any, kept: int) -> Any:
    """Indices (runs, kept) of particles of weights w (runs, particles), ⌊kept w⌋ or ⌈kept w⌉ times each.

    uniforms: (runs,), in [0, 1). The comparison takes runs × kept × particles bits, and no
    synchronisation. Source: Kitagawa 1996; Douc, Cappé & Moulines 2005.
    """
    xp = array_namespace(weights)
    places = xp.arange(kept, dtype=weights.dtype, device=device(weights))
    places = (places[None, :] + uniforms[:, None]) / kept
    reached = xp.cumulative_sum(weights, axis=1)
    reached = reached / reached[:, -1:]  # rounding must not leave the last place without a particle
    index = xp.sum(xp.astype(reached[:, None, :] <= places[:, :, None], xp.int64), axis=-1)
    return xp.clip(index, max=weights.shape[1] - 1)


def in_all(index: Any, count: int) -> Any:
    """Indices (runs, kept) within runs of `count` particles as indices of all particles, (runs × kept,)."""
    xp, (runs, _) = array_namespace(index), index.shape
    first = count * xp.arange(runs, dtype=xp.int64, device=device(index))
    return xp.reshape(index + first[:, None], (-1,))
