"""p(y given η) seen from N(η; predicted, v): the moments of their product, and the Gaussian that has them."""

import math
from dataclasses import dataclass

from array_api_compat import array_namespace

from ..backend import Array
from ..linalg import Diagonal
from .observation import SiteApproximation


@dataclass(frozen=True)
class TiltedMoments:
    """Of each number, Z(η) = ∫ p(y given e) N(e; η, v) de, (batch, observations) each.

    log_mass: ln Z; slope: ∂ ln Z/∂η; information: -∂² ln Z/∂η², negative where p is not log-concave;
    shrinkage: Var[e]/v under the product, 1 - v information, kept apart for its digits near 0.
    """

    log_mass: Array
    slope: Array
    information: Array
    shrinkage: Array


def gaussian_of(tilt: TiltedMoments, predicted: Array, variance: Array, width: Array) -> SiteApproximation:
    """The Gaussian of η that gives Z, its slope and, where that is negative, its second derivative.

    R = 1/information - v, y = η + slope (v + R). Where there is little or negative information it is put at
    ε^0.4 slope²/(1 + |ln Z|) + 100 ε/(v + width²), ε the rounding of the dtype and width the scale of p in
    η: the Gaussian then has value and slope, and next to no curvature. Less would cost log_scale its digits;
    so it keeps them to about 1e-10 (1 + |ln Z|) in float64.
    """
    xp = array_namespace(predicted)
    epsilon = float(xp.finfo(predicted.dtype).eps)
    squared = tilt.slope * tilt.slope
    # an impossible y has no slope either
    size = xp.where(xp.isfinite(tilt.log_mass), xp.abs(tilt.log_mass), xp.zeros_like(squared))
    least = epsilon**0.4 * squared / (1 + size) + 100 * epsilon / (variance + width**2)
    information = xp.maximum(tilt.information, least)
    shrinkage = xp.where(tilt.information > least, tilt.shrinkage, xp.ones_like(least))
    R = xp.clip(shrinkage, min=epsilon**2) / information
    total = variance + R
    log_scale = tilt.log_mass + 0.5 * (xp.log(2 * math.pi * total) + squared * total)
    return SiteApproximation(predicted + tilt.slope * total, Diagonal(R), xp.sum(log_scale, axis=-1))


def normal_innovation(
    log_mass: Array, mean: Array, spread: Array, squared_scale: Array, variance: Array
) -> TiltedMoments:
    """The tilt where y is a function of η plus normal noise of variance s².

    mean, spread: mean and variance, given y, of (η + noise - predicted)/√(v + s²), which is standard
    normal before y is known.
    """
    xp = array_namespace(mean)
    total = variance + squared_scale
    shrinkage = (squared_scale + variance * spread) / total
    return TiltedMoments(log_mass, mean / xp.sqrt(total), (1 - spread) / total, shrinkage)


def scale_mixture(
    log_weights: Array, residual: Array, squared_scales: Array, variance: Array
) -> TiltedMoments:
    """The tilt of noise Σ_k w_k N(m_k, s_k²).

    log_weights, residual y - predicted - m_k and s_k², each with the components in front, (k, ...).
    """
    xp = array_namespace(residual)
    total = squared_scales + variance
    pull = residual / total
    log_joint = log_weights - 0.5 * (xp.log(2 * math.pi * total) + residual * pull)
    largest = xp.max(log_joint, axis=0)
    joint = xp.exp(log_joint - largest)
    mass = xp.sum(joint, axis=0)
    share = joint / mass
    slope = xp.sum(share * pull, axis=0)
    disagreement = xp.sum(share * (pull - slope) ** 2, axis=0)
    information = xp.sum(share / total, axis=0) - disagreement
    shrinkage = xp.sum(share * squared_scales / total, axis=0) + variance * disagreement
    return TiltedMoments(largest + xp.log(mass), slope, information, shrinkage)
