"""Families p(y given η) of single numbers for `IndependentObservation`: callables (eta, y) ↦ ln p."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar

from array_api_compat import device, is_array_api_obj

from ..backend import Array, array_namespace, lgamma, log_ndtr, python_floats, require_arrays
from .tilted_moments import TiltedMoments, TruncatedNormal, normal_innovation, scale_mixture, truncated_normal


class Family(ABC):
    """ln p(y given η) of numbers y that are independent given their predictors η.

    `family(eta, y)`: elementwise, eta (..., observations), y (observations,). A subclass is a frozen
    dataclass; its fields named in `per_row` are numbers or arrays (observations,), one for each y, the rest
    is common to all. `support`: in words, for messages.
    """

    per_row: ClassVar[tuple[str, ...]] = ()
    support: ClassVar[str] = "any number"

    @abstractmethod
    def __call__(self, eta: Array, y: Array) -> Array:
        """ln p(y given η), normalised over y."""

    def supports(self, y: Array) -> Array:
        """Whether each y is in the support, an array of booleans."""
        return y == y

    def rows(self, y: Array, kept: Array) -> "Family":
        """The family of the rows `kept`, indices, out of those of y.

        Raises: ValueError for parameters of another shape; BackendMismatch, TypeError for another dtype.
        """
        taken, shape = {}, tuple(y.shape)
        for name, value in self.arrays().items():
            xp = require_arrays(type(self).__name__, y=y, **{name: value}).xp
            if tuple(value.shape) != shape:
                raise ValueError(
                    f"{type(self).__name__}: {name} must be a number or of shape {shape}, as y is; got "
                    f"{tuple(value.shape)}"
                )
            taken[name] = xp.take(value, kept, axis=0)
        return replace(self, **taken) if taken else self  # type: ignore[type-var]

    def arrays(self) -> dict[str, Any]:
        """The parameters that differ from row to row."""
        values = {name: getattr(self, name) for name in self.per_row}
        return {name: value for name, value in values.items() if is_array_api_obj(value)}

    def require_data(self, y: Array) -> None:
        """Check y (..., observations). Raises: ValueError naming the first that is outside the support."""
        xp = array_namespace(y)
        outside = xp.reshape(y, (-1,))[xp.reshape(~self.supports(y), (-1,))]
        if outside.shape[0]:
            raise ValueError(
                f"{type(self).__name__} takes {self.support}; got {float(outside[0]):g}, one of "
                f"{outside.shape[0]} such values. Correct the data, or mark them as not observed with NaN"
            )


class ConvolvedFamily(Family):
    """A family whose mean over η ~ N(predicted, v) is known, so that nothing need be searched for.

    `scale`: a number or an array (observations,), how far η must move to matter.
    """

    scale: Any

    @abstractmethod
    def tilted_moments(self, predicted: Array, y: Array, variance: Array, nodes: int) -> TiltedMoments:
        """p(y given η) under η ~ N(predicted, variance), elementwise; nodes: of a quadrature, if any."""


class _Checked(Family):
    """A family whose numbers become Python's, those of `positive` being so, and finite, number or array."""

    positive: ClassVar[tuple[str, ...]] = ("scale",)

    def __post_init__(self) -> None:
        python_floats(self)
        for name in self.positive:
            value = getattr(self, name)
            if is_array_api_obj(value):
                xp = array_namespace(value)
                fine = bool(xp.all((value > 0) & xp.isfinite(value)))
            else:
                fine = isinstance(value, float) and 0 < value < math.inf
            if not fine:
                raise ValueError(
                    f"{type(self).__name__}: {name} must be positive and finite, number or array; got "
                    f"{value!r}"
                )


class _Bounded(_Checked):
    """Of numbers from low to high, numbers or arrays that rise."""

    low: Any
    high: Any
    support: ClassVar[str] = "numbers from low to high"

    def __post_init__(self) -> None:
        super().__post_init__()
        below = self.low < self.high
        if not (bool(array_namespace(below).all(below)) if is_array_api_obj(below) else below):
            raise ValueError(
                f"{type(self).__name__}: low must be less than high; got low={self.low!r}, high={self.high!r}"
            )

    def supports(self, y: Array) -> Array:
        return (y >= self.low) & (y <= self.high)


class _Counts(Family):
    """Of whole numbers."""

    support: ClassVar[str] = "whole numbers from 0"

    def supports(self, y: Array) -> Array:
        return (y >= 0) & (y == array_namespace(y).round(y))


def softplus(x: Array) -> Array:
    """ln(1 + e^x), elementwise, without overflow."""
    xp = array_namespace(x)
    return xp.clip(x, min=0.0) + xp.log1p(xp.exp(-xp.abs(x)))


@dataclass(frozen=True)
class Normal(_Checked, ConvolvedFamily):
    """y ~ N(η, scale²). scale: a number, or an array (observations,), in units of y.

    Raises: ValueError where it is not positive. `LinearGaussian` is the same, and knows that it is linear.
    """

    scale: Array
    per_row = ("scale",)

    def __call__(self, eta: Array, y: Array) -> Array:
        return log_normal(y - eta, self.scale**2 + 0 * eta)

    def tilted_moments(self, predicted: Array, y: Array, variance: Array, nodes: int) -> TiltedMoments:
        total = variance + self.scale**2
        mean = (y - predicted) / array_namespace(predicted).sqrt(total)
        log_mass = log_normal(y - predicted, total)
        return normal_innovation(log_mass, mean, 0 * mean, self.scale**2, variance)


@dataclass(frozen=True)
class Censored(_Bounded, ConvolvedFamily):
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


@dataclass(frozen=True)
class Interval(_Bounded, ConvolvedFamily):
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

    def __call__(self, eta: Array, y: Array) -> Array:
        return self._between(eta, self.scale).log_mass

    def tilted_moments(self, predicted: Array, y: Array, variance: Array, nodes: int) -> TiltedMoments:
        found = self._between(predicted, array_namespace(predicted).sqrt(variance + self.scale**2))
        return normal_innovation(found.log_mass, found.mean, found.variance, self.scale**2, variance)

    def _between(self, eta: Array, scale: Array) -> TruncatedNormal:
        width = (self.high - self.low) / scale + 0 * eta
        return truncated_normal((self.low - eta) / scale, (self.high - eta) / scale, width)


def log_normal(residual: Array, variance: Array) -> Array:
    """ln N(residual; 0, variance), elementwise."""
    xp = array_namespace(residual)
    return -0.5 * (xp.log(2 * math.pi * variance) + residual * residual / variance)


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
class StudentT(_Checked, ConvolvedFamily):
    """y - η ~ scale × Student's t with df degrees of freedom.

    df, scale: positive numbers, or arrays (observations,). As a mixture of N(0, scale²/λ) over λ ~
    Gamma(df/2, df/2), by the trapezoidal rule in ln λ, its mean over η keeps outlier and bulk apart.
    Raises: ValueError where df or scale is not positive.
    """

    df: Array
    scale: Array
    per_row = positive = ("df", "scale")

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
class Laplace(_Checked, ConvolvedFamily):
    """y - η ~ Laplace(0, scale): ln p = -|y - η|/scale - ln(2 scale).

    scale: a positive number, or an array (observations,). Its mean over η ~ N(predicted, v) is that of two
    truncated normal distributions. Raises: ValueError where scale is not positive.
    """

    scale: Array
    per_row = ("scale",)

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


@dataclass(frozen=True)
class Poisson(_Counts):
    """y ~ Poisson(e^η): ln p = y η - e^η - ln y!. η: ln of the rate; that of an exposure is an offset."""

    def __call__(self, eta: Array, y: Array) -> Array:
        xp = array_namespace(eta)
        largest = math.log(float(xp.finfo(eta.dtype).max)) - 1  # ln p is finite there, and low enough
        return y * eta - xp.exp(xp.clip(eta, max=largest)) - lgamma(y + 1)


class _Logits(Family):
    """ln p = y ln σ(η) + (trials - y) ln σ(-η) + constant = y η - trials ln(1 + e^η) + constant."""

    def trials(self, y: Array) -> float | Array:
        """What y is the number of successes of, or its sum with the failures."""
        raise NotImplementedError

    def constant(self, y: Array) -> float | Array:
        """What does not depend on η."""
        return 0.0

    def __call__(self, eta: Array, y: Array) -> Array:
        return self.constant(y) + y * eta - self.trials(y) * softplus(eta)


@dataclass(frozen=True)
class Bernoulli(_Logits):
    """y = 1 with probability σ(η) = 1/(1 + e^{-η}), else 0. η is the logit."""

    support: ClassVar[str] = "0 and 1"

    def trials(self, y: Array) -> float | Array:
        return 1.0

    def supports(self, y: Array) -> Array:
        return (y == 0) | (y == 1)


@dataclass(frozen=True)
class Binomial(_Logits, _Counts, _Checked):
    """y successes in total_count trials, each with probability σ(η). η is the logit.

    total_count: a whole number, or an array (observations,). Raises: ValueError where it is not positive.
    """

    total_count: Array
    per_row = positive = ("total_count",)
    support: ClassVar[str] = "whole numbers from 0 to total_count"

    def trials(self, y: Array) -> float | Array:
        return self.total_count

    def constant(self, y: Array) -> Array:
        n = self.total_count
        return lgamma(n + 1) - lgamma(y + 1) - lgamma(n - y + 1)

    def supports(self, y: Array) -> Array:
        return super().supports(y) & (y <= self.total_count)


@dataclass(frozen=True)
class NegativeBinomial(_Logits, _Counts, _Checked):
    """y successes, each with probability σ(η), before the total_count-th failure: mean total_count e^η.

    η is the logit, as in `torch.distributions`; total_count > 0: a number, need not be whole, or an array
    (observations,). ln p = ln Γ(y + r) - ln Γ(r) - ln y! + y ln σ(η) + r ln σ(-η), r = total_count.
    Raises: ValueError where it is not positive.
    """

    total_count: Array
    per_row = positive = ("total_count",)

    def trials(self, y: Array) -> float | Array:
        return y + self.total_count

    def constant(self, y: Array) -> Array:
        return lgamma(y + self.total_count) - lgamma(self.total_count) - lgamma(y + 1)


@dataclass(frozen=True)
class Ordinal(_Counts):
    """y = k where η plus logistic noise lies between two of the cutpoints: c_{k-1} and c_k.

    P(y = k) = σ(c_k - η) - σ(c_{k-1} - η), k = 0 … len(cutpoints), with -∞ before the first and +∞ after
    the last, as Pyro's OrderedLogistic. cutpoints: rising numbers, common to all y.
    Raises: ValueError where they do not rise.
    """

    cutpoints: tuple[float, ...]
    support: ClassVar[str] = "whole numbers from 0 to the number of cutpoints"

    def __post_init__(self) -> None:
        points = tuple(float(point) for point in self.cutpoints)
        object.__setattr__(self, "cutpoints", points)
        if not points or not all(a < b for a, b in pairwise((-math.inf, *points, math.inf))):
            raise ValueError(f"Ordinal: cutpoints must be finite and rise; got {points}")

    def __call__(self, eta: Array, y: Array) -> Array:
        # σ(b) - σ(a) = σ(b) σ(-a) (1 - e^{a - b}), where every factor keeps its digits
        low, high = self._bounds(y)
        gap = array_namespace(y).log(-array_namespace(y).expm1(low - high))
        return gap - softplus(low - eta) - softplus(eta - high)

    def supports(self, y: Array) -> Array:
        return super().supports(y) & (y <= len(self.cutpoints))

    def _bounds(self, y: Array) -> tuple[Array, Array]:
        xp = array_namespace(y)
        points = xp.asarray([-math.inf, *self.cutpoints, math.inf], dtype=y.dtype, device=device(y))
        category = xp.reshape(xp.astype(y, xp.int64), (-1,))
        low, high = xp.take(points, category), xp.take(points, category + 1)
        return xp.reshape(low, y.shape), xp.reshape(high, y.shape)
