"""Normal noise, recorded whole, beyond a bound only, or to an interval only."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from array_api_compat import array_namespace, is_array_api_obj

from ...backend import Array, log_ndtr, python_floats
from ..tilted_moments import TiltedMoments, normal_innovation
from ..truncated_normal import TruncatedNormal, truncated_normal
from .base import ConvolvedFamily, require_numbers


@dataclass(frozen=True)
class Normal(ConvolvedFamily):
    """y ~ N(η, scale²). scale: a number, or an array (observations,), in units of y.

    Raises: ValueError where it is not positive. `LinearGaussian` is the same, and knows that it is linear.
    """

    scale: Array
    per_row = ("scale",)

    def __post_init__(self) -> None:
        python_floats(self)
        require_numbers(self, ("scale",))

    def __call__(self, eta: Array, y: Array) -> Array:
        return log_normal(y - eta, self.scale**2 + 0 * eta)

    def tilted_moments(self, predicted: Array, y: Array, variance: Array, nodes: int) -> TiltedMoments:
        total = variance + self.scale**2
        mean = (y - predicted) / array_namespace(predicted).sqrt(total)
        log_mass = log_normal(y - predicted, total)
        return normal_innovation(log_mass, mean, 0 * mean, self.scale**2, variance)


@dataclass(frozen=True)
class Censored(ConvolvedFamily):
    """N(η, scale²), recorded as `low` or `high` where it lies beyond: a saturated or limited instrument.

    ln p: ln Φ((low - η)/scale) at y = low, ln Φ((η - high)/scale) at y = high, the normal density between.
    scale, low, high: numbers or arrays (observations,), in units of y; low may be -∞, high +∞.
    Raises: ValueError for a scale that is not positive and bounds that do not rise.
    Source: Tobin, Estimation of relationships for limited dependent variables, 1958.
    """

    scale: Array
    low: float | Array = -math.inf
    high: float | Array = math.inf
    per_row = ("scale", "low", "high")
    support: ClassVar[str] = "numbers from low to high"

    def __post_init__(self) -> None:
        python_floats(self)
        require_numbers(self, ("scale",))
        require_rising(self)

    def __call__(self, eta: Array, y: Array) -> Array:
        xp = array_namespace(eta)
        under, over = y <= self.low, y >= self.high
        # at a bound y is the bound: no infinity enters, and with it no NaN into a gradient
        z = (y - eta) / self.scale
        beyond = log_ndtr(xp.where(over, -z, z))
        return xp.where(under | over, beyond, log_normal(y - eta, self.scale**2 + 0 * eta))

    def tilted_moments(self, predicted: Array, y: Array, variance: Array, nodes: int) -> TiltedMoments:
        xp = array_namespace(predicted)
        total = variance + self.scale**2
        z = (y - predicted) / xp.sqrt(total)
        under, over = y <= self.low, y >= self.high
        infinite = math.inf + 0 * xp.abs(z)
        tail = truncated_normal(xp.where(over, z, -infinite), xp.where(over, infinite, z), infinite)
        seen = ~(under | over)
        log_mass = xp.where(seen, log_normal(y - predicted, total), tail.log_mass)
        spread = xp.where(seen, 0 * z, tail.variance)
        return normal_innovation(log_mass, xp.where(seen, z, tail.mean), spread, self.scale**2, variance)

    def supports(self, y: Array) -> Array:
        return (y >= self.low) & (y <= self.high)


@dataclass(frozen=True)
class Interval(ConvolvedFamily):
    """N(η, scale²) known to lie between low and high: p = Φ((high - η)/scale) - Φ((low - η)/scale).

    Rounded or grouped data, a survival time between two visits. low, high: numbers or arrays
    (observations,), one of them may be infinite; y: any number between, such as the middle, NaN where not
    observed; its value does not enter. p is the probability of the interval.
    Raises: ValueError for a scale that is not positive and bounds that do not rise.
    """

    low: Array
    high: Array
    scale: Array
    per_row = ("low", "high", "scale")
    support: ClassVar[str] = "numbers from low to high"

    def __post_init__(self) -> None:
        python_floats(self)
        require_numbers(self, ("scale",))
        require_rising(self)

    def __call__(self, eta: Array, y: Array) -> Array:
        return self._between(eta, self.scale).log_mass

    def tilted_moments(self, predicted: Array, y: Array, variance: Array, nodes: int) -> TiltedMoments:
        found = self._between(predicted, array_namespace(predicted).sqrt(variance + self.scale**2))
        return normal_innovation(found.log_mass, found.mean, found.variance, self.scale**2, variance)

    def supports(self, y: Array) -> Array:
        return (y >= self.low) & (y <= self.high)

    def _between(self, eta: Array, scale: Array) -> TruncatedNormal:
        width = (self.high - self.low) / scale + 0 * eta
        return truncated_normal((self.low - eta) / scale, (self.high - eta) / scale, width)


def log_normal(residual: Array, variance: Array) -> Array:
    """ln N(residual; 0, variance), elementwise."""
    xp = array_namespace(residual)
    return -0.5 * (xp.log(2 * math.pi * variance) + residual * residual / variance)


def require_rising(family: Any) -> None:
    """Check that low < high, numbers or arrays. Raises: ValueError."""
    below = family.low < family.high
    if not (bool(array_namespace(below).all(below)) if is_array_api_obj(below) else below):
        raise ValueError(
            f"{type(family).__name__}: low must be less than high; got low={family.low!r}, "
            f"high={family.high!r}"
        )
