"""Weighted draws of x_0, row by row of x_t."""

import math
from typing import Any

from array_api_compat import array_namespace

from ..denoisers import Moments
from .base import Guided
from .observation import Observation

SHRINKAGE = 0.2  # share of the unweighted covariance in the weighted one: few draws make it too narrow
EFFECTIVE = 1 / 3  # share of draws that tempering leaves
HALVINGS = 10


def log_mean_weights(log_weights: Any) -> tuple[Any, Any]:
    """Weights (batch, M) that sum to one, and ln of the mean of the unnormalised ones, (batch,).

    A row without any weight gets equal ones, and the logarithm of the smallest number.
    """
    xp, count = array_namespace(log_weights), log_weights.shape[-1]
    largest = xp.max(log_weights, axis=-1, keepdims=True)
    largest = xp.where(xp.isfinite(largest), largest, xp.zeros_like(largest))
    weights = xp.exp(log_weights - largest)
    total = xp.sum(weights, axis=-1, keepdims=True)
    tiny = float(xp.finfo(log_weights.dtype).smallest_normal)
    log_mean = (largest + xp.log(total + tiny))[:, 0] - math.log(count)
    possible = total > 0
    equal = xp.ones_like(weights) / count
    return xp.where(possible, weights / xp.where(possible, total, xp.ones_like(total)), equal), log_mean


def tempered(log_weights: Any) -> Any:
    """Weights ∝ exp(β log_weights), the largest β ≤ 1 that leaves a third of them effective: (batch, M)."""
    xp, count = array_namespace(log_weights), log_weights.shape[-1]
    finite = xp.clip(log_weights, min=-1e30)  # 0 × -∞ would be NaN
    low = xp.zeros_like(finite[:, :1])
    high = xp.ones_like(low)
    best = high
    for _ in range(HALVINGS):
        weights, _ = log_mean_weights(best * finite)
        enough = 1 / xp.sum(weights * weights, axis=-1, keepdims=True) >= EFFECTIVE * count
        low, high = xp.where(enough, best, low), xp.where(enough, high, best)
        best = xp.where(low < 1, 0.5 * (low + high), low)
    return log_mean_weights(low * finite)[0]


def weighted_moments(weights: Any, draws: Any) -> tuple[Any, Any]:
    """Mean (batch, dim) and covariance (batch, dim, dim) of draws (batch, M, dim)."""
    xp = array_namespace(draws)
    mean = xp.sum(weights[..., None] * draws, axis=1)
    centred = draws - mean[:, None, :]
    return mean, xp.matrix_transpose(weights[..., None] * centred) @ centred


def weigh(observation: Observation, moments: Moments, draws: Any) -> Guided:
    """ln l = ln of the mean of p(y given x_0) over draws (batch, M, dim) of p(x_0 given x_t); so the moments.

    That is E[x_0 given x_t, y] as M grows, for any p(y given x_0), and no derivative is needed: it is
    m + σ²/α ∂ ln l/∂x_t.
    """
    xp = array_namespace(draws)
    batch, count, dim = draws.shape
    flat = xp.reshape(draws, (batch * count, dim))
    weights, log_likelihood = log_mean_weights(xp.reshape(observation.log_prob(flat), (batch, count)))
    mean, narrow = weighted_moments(weights, draws)
    _, wide = weighted_moments(xp.ones_like(weights) / count, draws)
    return Guided(moments, mean, log_likelihood, covariance=(1 - SHRINKAGE) * narrow + SHRINKAGE * wide)
