"""Whether a variable lies in an interval."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution, constraints

from .censored import broadcast_bounds, expanded, require_univariate
from .tails import log1mexp, log_between
from .typing import Distribution


class Interval(TorchDistribution):
    """1 where X of the distribution `base` lies in (low, high], else 0.

    ln p(1) = ln P(low < X ≤ high) and ln p(0) = ln(1 - P): data known only to an interval, such as
    rounded or grouped ones, are observed as 1, each with its own bounds. base: univariate and
    continuous, with a cdf; low, high: numbers or tensors, or None for no bound, broadcast with base.
    Far tails as for `Censored`.

        pyro.sample("y", Interval(dist.Normal(x, 0.5), y - 0.05, y + 0.05).to_event(1), obs=ones)

    Raises: as `Censored`.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"low": constraints.real, "high": constraints.real}
    support = constraints.boolean

    def __init__(
        self, base: Distribution, low: Any = None, high: Any = None, validate_args: bool | None = None
    ):
        require_univariate(type(self).__name__, base)
        shape, (self.low, self.high) = broadcast_bounds(base, low, high)
        self.base_dist = base.expand(shape)
        super().__init__(shape, torch.Size(), validate_args=validate_args)
        if self._validate_args and not bool((self.low < self.high).all()):
            raise ValueError(f"Interval: need low < high; got low={low}, high={high}")

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "Interval":
        return expanded(self, batch_shape)

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
