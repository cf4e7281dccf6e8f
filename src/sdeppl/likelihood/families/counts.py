"""Counts and yes-or-no data."""

import math
from dataclasses import dataclass
from typing import ClassVar

from array_api_compat import array_namespace

from ...backend import Array, lgamma, python_floats
from .base import Family, require_numbers, softplus


@dataclass(frozen=True)
class Poisson(Family):
    """y ~ Poisson(e^η): ln p = y η - e^η - ln y!. η: ln of the rate; that of an exposure is an offset."""

    support: ClassVar[str] = "whole numbers from 0"

    def __call__(self, eta: Array, y: Array) -> Array:
        xp = array_namespace(eta)
        largest = math.log(float(xp.finfo(eta.dtype).max)) - 1  # ln p is finite there, and low enough
        return y * eta - xp.exp(xp.clip(eta, max=largest)) - lgamma(y + 1)

    def supports(self, y: Array) -> Array:
        return _whole(y)


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
class Binomial(_Logits):
    """y successes in total_count trials, each with probability σ(η). η is the logit.

    total_count: a whole number, or an array (observations,). Raises: ValueError where it is not positive.
    """

    total_count: Array
    per_row = ("total_count",)
    support: ClassVar[str] = "whole numbers from 0 to total_count"

    def __post_init__(self) -> None:
        python_floats(self)
        require_numbers(self, ("total_count",))

    def trials(self, y: Array) -> float | Array:
        return self.total_count

    def constant(self, y: Array) -> Array:
        n = self.total_count
        return lgamma(n + 1) - lgamma(y + 1) - lgamma(n - y + 1)

    def supports(self, y: Array) -> Array:
        return _whole(y) & (y <= self.total_count)


@dataclass(frozen=True)
class NegativeBinomial(_Logits):
    """y successes, each with probability σ(η), before the total_count-th failure: mean total_count e^η.

    η is the logit, as in `torch.distributions`; total_count > 0: a number, need not be whole, or an array
    (observations,). ln p = ln Γ(y + r) - ln Γ(r) - ln y! + y ln σ(η) + r ln σ(-η), r = total_count.
    Raises: ValueError where it is not positive.
    """

    total_count: Array
    per_row = ("total_count",)
    support: ClassVar[str] = "whole numbers from 0"

    def __post_init__(self) -> None:
        python_floats(self)
        require_numbers(self, ("total_count",))

    def trials(self, y: Array) -> float | Array:
        return y + self.total_count

    def constant(self, y: Array) -> Array:
        return lgamma(y + self.total_count) - lgamma(self.total_count) - lgamma(y + 1)

    def supports(self, y: Array) -> Array:
        return _whole(y)


def _whole(y: Array) -> Array:
    return (y >= 0) & (y == array_namespace(y).round(y))
