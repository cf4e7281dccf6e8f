"""Mean likelihoods from draws of p(x_0 given x_t), weighted by p(y given x_0)."""

import math
from typing import Any

from array_api_compat import array_namespace

from ..denoisers import Moments
from .base import Guided
from .observation import Observation

SHRINKAGE = 0.2  # share of the unweighted covariance in the weighted one: few draws make it too narrow


def weigh(observation: Observation, moments: Moments, draws: Any) -> Guided:
    """ln l = ln of the mean of p(y given x_0) over draws (batch, M, dim); mean and covariance weighted by it.

    With draws of p(x_0 given x_t) this is E[x_0 given x_t, y] as M grows, for any p(y given x_0), and no
    derivative is needed: m + σ²/α ∂ ln l/∂x_t is that mean.
    """
    xp = array_namespace(draws)
    batch, count, dim = draws.shape
    log_weights = xp.reshape(observation.log_prob(xp.reshape(draws, (batch * count, dim))), (batch, count))
    largest = xp.max(log_weights, axis=-1, keepdims=True)
    # a row none of whose draws can have led to y is guided by nothing
    largest = xp.where(xp.isfinite(largest), largest, xp.zeros_like(largest))
    weights = xp.exp(log_weights - largest)
    total = xp.sum(weights, axis=-1, keepdims=True)
    tiny = float(xp.finfo(draws.dtype).smallest_normal)
    log_likelihood = (largest + xp.log(total + tiny))[:, 0] - math.log(count)
    weights = xp.where(
        total > 0, weights / xp.where(total > 0, total, xp.ones_like(total)), 1.0 / count + 0 * weights
    )
    mean = xp.sum(weights[..., None] * draws, axis=1)
    centred = draws - mean[:, None, :]
    covariance = xp.matrix_transpose(weights[..., None] * centred) @ centred
    spread = draws - xp.mean(draws, axis=1, keepdims=True)
    unweighted = xp.matrix_transpose(spread) @ spread / count
    covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * unweighted
    return Guided(moments, mean, log_likelihood, covariance=covariance)
