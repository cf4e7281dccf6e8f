"""A variable recorded at a bound where it lies beyond it, or as the interval that it lies in."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution, constraints

from ..backend import host_numbers
from .tails import has_tails, log1mexp, log_between, log_cdf, log_survival
from .typing import Distribution


class _Bounded(TorchDistribution):
    """A univariate base with bounds, of which an observation tells something."""

    arg_constraints: ClassVar[dict[str, Any]] = {"low": constraints.real, "high": constraints.real}

    def __init__(
        self, base: Distribution, low: object = None, high: object = None, validate_args: bool | None = None
    ):
        require_univariate(type(self).__name__, base)
        shape, (self.low, self.high) = broadcast_bounds(base, low, high)
        self.base_dist = base.expand(shape)
        super().__init__(shape, torch.Size(), validate_args=validate_args)
        if self._validate_args and not bool((self.low < self.high).all()):
            raise ValueError(f"{type(self).__name__}: need low < high; got low={low}, high={high}")

    def expand(self, batch_shape: Sequence[int], _instance: object = None) -> Any:
        new: Any = object.__new__(type(self))
        shape = torch.Size(batch_shape)
        new.base_dist = self.base_dist.expand(shape)
        new.low, new.high = self.low.expand(shape), self.high.expand(shape)
        TorchDistribution.__init__(new, shape, torch.Size(), validate_args=False)
        new._validate_args = self._validate_args
        return new


class Censored(_Bounded):
    """X of the distribution `base`, recorded as `low` where X ≤ low and as `high` where X ≥ high.

    ln p(y) = ln P(X ≤ low) for y ≤ low, ln P(X ≥ high) for y ≥ high, and base's ln density between:
    a detection limit, a saturated sensor, a survival time cut off at the end of the study. `sample`
    clamps. base: univariate and continuous, with a cdf; low, high: numbers or tensors, or None for no
    bound, broadcast with base; give each entry its own where they differ. Right in far tails for
    Normal, Laplace, Cauchy, Logistic, Exponential, HalfNormal and monotone functions of them, such as
    LogNormal.

        pyro.sample("y", Censored(dist.Normal(x, 0.5), high=3.0).to_event(1), obs=y)

    Raises: TypeError for a base without cdf, ValueError for one that is not univariate or for bounds
    that do not rise. Source: Tobin, Estimation of relationships for limited dependent variables, 1958.
    """

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return bool(self.base_dist.has_rsample)

    @property
    def support(self) -> constraints.Constraint:
        return self.base_dist.support

    def sample(self, sample_shape: Sequence[int] = ()) -> torch.Tensor:
        with torch.no_grad():
            return self._clamp(self.base_dist.sample(torch.Size(sample_shape)))

    def rsample(self, sample_shape: Sequence[int] = ()) -> torch.Tensor:
        return self._clamp(self.base_dist.rsample(torch.Size(sample_shape)))

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        if self._validate_args:
            self._validate_sample(value)
        under, over = value <= self.low, value >= self.high
        # the base is asked at the value itself, which lies in its support: no NaN enters a gradient
        between = self.base_dist.log_prob(value)
        below, above = log_cdf(self.base_dist, self.low), log_survival(self.base_dist, self.high)
        return torch.where(under, below, torch.where(over, above, between))

    def _clamp(self, x: torch.Tensor) -> torch.Tensor:
        return torch.minimum(torch.maximum(x, self.low.to(x)), self.high.to(x))


def require_univariate(who: str, base: Distribution) -> None:
    """Check that base is a univariate distribution with a cdf. Raises: TypeError, ValueError."""
    if not isinstance(base, torch.distributions.Distribution):
        raise TypeError(f"{who}: base must be a distribution; got {type(base).__name__}")
    if base.event_shape:
        raise ValueError(
            f"{who}: base must be univariate; got events of shape {tuple(base.event_shape)}. Call to_event "
            f"on {who}, not on its base"
        )
    if not has_tails(base):
        raise TypeError(
            f"{who}: {type(base).__name__} has no cdf to take the mass beyond a bound from; use a continuous "
            "one that has, such as Normal, Laplace, Logistic, LogNormal or Exponential"
        )


def broadcast_bounds(base: Distribution, low: object, high: object) -> tuple[torch.Size, list[torch.Tensor]]:
    """The batch shape of all three, and the bounds in it; None is infinity."""
    bounds = [-math.inf if low is None else low, math.inf if high is None else high]
    # numbers in the base's precision: 0.1 in float32 is not the bound that was meant
    dtype = _floating(base) or torch.get_default_dtype()
    tensors = [
        bound
        if isinstance(bound, torch.Tensor)
        else torch.tensor(host_numbers(bound, f"the bound {name}:"), dtype=dtype)
        for name, bound in zip(("low", "high"), bounds, strict=True)
    ]
    shape = torch.broadcast_shapes(base.batch_shape, *(bound.shape for bound in tensors))
    return shape, [bound.expand(shape) for bound in tensors]


def _floating(fn: Distribution) -> torch.dtype | None:
    """The dtype of a distribution's parameters."""
    for value in vars(fn).values():
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            return value.dtype
        if isinstance(value, torch.distributions.Distribution) and (found := _floating(value)):
            return found
    return None


class Interval(_Bounded):
    """1 where X of the distribution `base` lies in (low, high], else 0.

    ln p(1) = ln P(low < X ≤ high) and ln p(0) = ln(1 - P): data known only to an interval, such as
    rounded or grouped ones, are observed as 1, each with its own bounds. base: univariate and
    continuous, with a cdf; low, high: numbers or tensors, or None for no bound, broadcast with base.
    Far tails as for `Censored`.

        pyro.sample("y", Interval(dist.Normal(x, 0.5), y - 0.05, y + 0.05).to_event(1), obs=ones)

    Raises: as `Censored`.
    """

    support = constraints.boolean

    def sample(self, sample_shape: Sequence[int] = ()) -> torch.Tensor:
        with torch.no_grad():
            x = self.base_dist.sample(torch.Size(sample_shape))
        return ((x > self.low) & (x <= self.high)).to(x.dtype)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        if self._validate_args:
            self._validate_sample(value)
        inside = log_between(self.base_dist, self.low, self.high)
        # not asked for where it is not taken: at P = 1 its slope is infinite
        outside = log1mexp(torch.where(value == 1, -1.0, inside))
        return torch.where(value == 1, inside, outside)
