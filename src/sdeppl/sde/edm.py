"""The variance-exploding SDE whose time is its noise level."""

import math
from dataclasses import dataclass

from ..backend import Number, elementary, python_floats
from .affine import IsotropicSDE, Transition


@dataclass(frozen=True)
class EDMSDE(IsotropicSDE):
    """dx = √(2t) dW: α = 1, σ(t) = t, in units of x.

    T: the largest noise level. Raises: ValueError for a T that is not positive and finite.
    Source: Karras et al. 2022 (EDM), table 1 and section 3.
    """

    T: float = 80.0

    def __post_init__(self) -> None:
        python_floats(self)
        if not 0 < self.T < math.inf:
            raise ValueError(f"EDMSDE: T must be positive and finite; got {self.T!r}")

    def transition(self, s: Number, t: Number) -> Transition:
        return Transition(elementary(t).exp(0.0 * t), 0.0, (t - s) * (t + s))

    def rate(self, t: float) -> float:
        return 0.0

    def amplitude(self, t: float) -> float:
        return math.sqrt(2 * t)

    def level(self, t: Number) -> Number:
        """σ(t) = t."""
        return t

    def time_of_level(self, level: float) -> float:
        """The time at which σ = level."""
        return level
