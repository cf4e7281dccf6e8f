"""Noise with heavy tails, and mixtures of normal noises."""

import math
from dataclasses import dataclass

from array_api_compat import array_namespace, device

from ...backend import Array, lgamma, python_floats
from ..tilted_moments import TiltedMoments, scale_mixture
from ..truncated_normal import truncated_normal
from .base import ConvolvedFamily, require_numbers
from .normal import log_normal

TAIL = 30.0  # e^{-30} of a density is left out


@dataclass(frozen=True)
class NormalMixture(ConvolvedFamily):
    """y - η ~ Σ_k w_k N(m_k, s_k²): noise with outliers, or with several modes.

    weights, means, scales: k numbers each, common to all y, in units of y; the weights are normalised here.
    Raises: ValueError for unequal lengths, and for weights and scales that are not positive.
    """

    weights: tuple[float, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]

    @property
    def scale(self) -> float:
        """The smallest of the scales."""
        return min(self.scales)

    def __post_init__(self) -> None:
        for name in ("weights", "means", "scales"):
            object.__setattr__(self, name, tuple(float(number) for number in getattr(self, name)))
        if not len(self.weights) == len(self.means) == len(self.scales) > 0:
            raise ValueError(
                "NormalMixture: weights, means and scales must have one number for each component; got "
                f"{len(self.weights)}, {len(self.means)} and {len(self.scales)}"
            )
        if not all(0 < number < math.inf for number in (*self.weights, *self.scales)):
            raise ValueError(
                f"NormalMixture: weights and scales must be positive and finite; got weights={self.weights}, "
                f"scales={self.scales}"
            )
        total = sum(self.weights)
        object.__setattr__(self, "weights", tuple(weight / total for weight in self.weights))

    def __call__(self, eta: Array, y: Array) -> Array:
        return self.tilted_moments(eta, y, 0 * eta, 0).log_mass

    def tilted_moments(self, predicted: Array, y: Array, variance: Array, nodes: int) -> TiltedMoments:
        xp, like = array_namespace(predicted), predicted
        logs, means, scales = (
            xp.reshape(xp.asarray(values, dtype=like.dtype, device=device(like)), (-1,) + (1,) * like.ndim)
            for values in ([math.log(w) for w in self.weights], list(self.means), list(self.scales))
        )
        return scale_mixture(logs, (y - predicted)[None, ...] - means, scales**2, variance)


@dataclass(frozen=True)
class StudentT(ConvolvedFamily):
    """y - η ~ scale × Student's t with df degrees of freedom.

    df, scale: positive numbers, or arrays (observations,). As a mixture of N(0, scale²/λ) over λ ~
    Gamma(df/2, df/2), by the trapezoidal rule in ln λ, its mean over η keeps outlier and bulk apart.
    Raises: ValueError where df or scale is not positive.
    """

    df: Array
    scale: Array
    per_row = ("df", "scale")

    def __post_init__(self) -> None:
        python_floats(self)
        require_numbers(self, ("df", "scale"))

    def __call__(self, eta: Array, y: Array) -> Array:
        xp, df = array_namespace(eta), self.df
        z = (y - eta) / self.scale
        constant = (
            lgamma(0.5 * df + 0.5) - lgamma(0.5 * df) - xp.log(self.scale * (df * math.pi) ** 0.5 + 0 * z)
        )
        return constant - 0.5 * (df + 1) * xp.log1p(z * z / df)

    def tilted_moments(self, predicted: Array, y: Array, variance: Array, nodes: int) -> TiltedMoments:
        xp, residual = array_namespace(predicted), y - predicted
        half, zero = 0.5 * self.df, 0 * predicted
        # the leftmost that ln λ given y can peak at, and how far its tails go
        least = xp.log((2 * half + 1) / (2 * half + (residual / self.scale) ** 2))
        spread = xp.sqrt(2 * TAIL / half + zero)
        low = least - TAIL / (half + 0.5) - xp.clip(spread, max=1.0)
        high = xp.log1p(spread + TAIL / half)
        steps = xp.linspace(0.0, 1.0, 2 * nodes, dtype=zero.dtype, device=device(zero))
        log_lambda = low + (high - low) * xp.reshape(steps, (-1,) + (1,) * zero.ndim)
        precision = xp.exp(log_lambda)
        constant = half * xp.log(half + zero) - lgamma(half) + xp.log((high - low) / (2 * nodes - 1))
        log_weights = half * (log_lambda - precision) + constant
        return scale_mixture(log_weights, residual, self.scale**2 / precision, variance)


@dataclass(frozen=True)
class Laplace(ConvolvedFamily):
    """y - η ~ Laplace(0, scale): ln p = -|y - η|/scale - ln(2 scale).

    scale: a positive number, or an array (observations,). Its mean over η ~ N(predicted, v) is that of two
    truncated normal distributions. Raises: ValueError where scale is not positive.
    """

    scale: Array
    per_row = ("scale",)

    def __post_init__(self) -> None:
        python_floats(self)
        require_numbers(self, ("scale",))

    def __call__(self, eta: Array, y: Array) -> Array:
        xp = array_namespace(eta)
        return -xp.abs(y - eta) / self.scale - xp.log(2 * self.scale + 0 * eta)

    def tilted_moments(self, predicted: Array, y: Array, variance: Array, nodes: int) -> TiltedMoments:
        """With r = √v/scale, δ = (y - predicted)/√v and z = (η - predicted)/√v, the product is
        N(z; r, 1) e^{r²/2 - δ r}/(2 scale) below δ and N(z; -r, 1) e^{r²/2 + δ r}/(2 scale) above."""
        xp = array_namespace(predicted)
        least = (float(xp.finfo(predicted.dtype).eps) * self.scale) ** 2
        variance = xp.clip(variance, min=0.0) + least
        root = xp.sqrt(variance)
        r, delta = root / self.scale, (y - predicted) / root
        infinite = math.inf + 0 * r
        below = truncated_normal(-infinite, delta - r, infinite)
        above = truncated_normal(delta + r, infinite, infinite)
        # r²/2 ∓ δ r - peak²/2 without the squares that cancel: where the peak is at the kink it is -δ²/2
        kink, apart = -0.5 * delta * delta, 0.5 * r * r
        log_below = below.log_scaled + xp.where(delta < r, kink, apart - delta * r)
        log_above = above.log_scaled + xp.where(delta > -r, kink, apart + delta * r)
        largest = xp.maximum(log_below, log_above)
        log_mass = largest + xp.log(xp.exp(log_below - largest) + xp.exp(log_above - largest))
        p, q = xp.exp(log_below - log_mass), xp.exp(log_above - log_mass)
        mean_below = below.offset + xp.where(delta < r, delta, r)
        mean_above = above.offset + xp.where(delta > -r, delta, -r)
        shrinkage = p * below.variance + q * above.variance + p * q * (mean_below - mean_above) ** 2
        # by Stein's identity where the noise is wide, by the moments where it is narrow: neither cancels
        log_mass = log_mass - xp.log(2 * self.scale + 0 * r)
        at_kink = xp.exp(log_normal(y - predicted, variance) - log_mass) / self.scale**2
        wide = r < 1
        slope = xp.where(wide, (p - q) / self.scale, (p * mean_below + q * mean_above) / root)
        information = xp.where(wide, at_kink - 4 * p * q / self.scale**2, (1 - shrinkage) / variance)
        return TiltedMoments(log_mass, slope, information, shrinkage)
