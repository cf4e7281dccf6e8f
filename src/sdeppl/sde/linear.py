"""The linear SDE: Brownian motion (a = 0) and the Ornstein–Uhlenbeck process (a > 0)."""

import math
from dataclasses import dataclass

from ..backend import Number, elementary, python_floats
from .affine import IsotropicSDE, Transition


@dataclass(frozen=True)
class LinearSDE(IsotropicSDE):
    """dx = -a x dt + b dW: α = e^{-at}, σ² = b²/(2a) (1 - e^{-2at}), or b² t for a = 0.

    a: rate per unit of time, of any sign; b > 0: amplitude, in units of x per √time; T: where
    noising ends when it carries data to noise. Raises: ValueError for parameters that are not
    finite numbers, b ≤ 0 or T ≤ 0. Source: Gardiner, Stochastic Methods, §4.5.4.
    """

    a: float
    b: float
    T: float = 1.0

    def __post_init__(self) -> None:
        python_floats(self)
        for name, value in (("a", self.a), ("b", self.b), ("T", self.T)):
            if not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ValueError(f"LinearSDE: {name} must be a finite number; got {value!r}")
        if self.b <= 0 or self.T <= 0:
            raise ValueError(f"LinearSDE: b and T must be positive; got b={self.b}, T={self.T}")

    def transition(self, s: Number, t: Number) -> Transition:
        functions = elementary(t)
        span = t - s
        if self.a == 0:
            return Transition(functions.exp(0.0 * span), 0.0, self.b**2 * span)
        variance = -functions.expm1(-2 * self.a * span) * (self.b**2 / (2 * self.a))
        return Transition(functions.exp(-self.a * span), 0.0, variance)

    def rate(self, t: float) -> float:
        return -self.a

    def amplitude(self, t: float) -> float:
        return self.b
