"""Variance-exploding SDEs: geometric, user-given, and the one whose time is its noise level."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from scipy.optimize import brentq

from ..backend import Number, array_namespace, elementary, python_floats, real_number, require_positive
from ..backend.arguments import told_apart
from .base import IsotropicSDE, Transition
from .schedules import integrate

STEP = 1e-4  # of the differences that stand for dσ²/dt, as a share of T
CANCELLED = 1e-6  # share of σ² below which a difference of two has lost its digits
STENCILS = {
    "central": ((-2, 1 / 12), (-1, -2 / 3), (1, 2 / 3), (2, -1 / 12)),
    "forward": ((0, -25 / 12), (1, 4.0), (2, -3.0), (3, 4 / 3), (4, -1 / 4)),
    "backward": ((0, 25 / 12), (-1, -4.0), (-2, 3.0), (-3, -4 / 3), (-4, 1 / 4)),
}


@dataclass(frozen=True)
class VESDE(IsotropicSDE):
    """dx = √(dσ²/dt) dW with the geometric σ_min (σ_max/σ_min)^{t/T}: α = 1.

    The noise added since t = 0 has variance σ_min² ((σ_max/σ_min)^{2t/T} - 1), so that x_0 is the
    data itself. σ in units of x. Raises: ValueError unless 0 < σ_min < σ_max and T > 0.
    Source: Song et al. 2021, eq. 9 and 29.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0
    T: float = 1.0

    def __post_init__(self) -> None:
        python_floats(self)
        if not (0 < self.sigma_min < self.sigma_max < math.inf and 0 < self.T < math.inf):
            raise ValueError(f"VESDE: need 0 < sigma_min < sigma_max < ∞ and 0 < T < ∞; got {self}")

    @property
    def _growth(self) -> float:
        """d ln σ²/dt."""
        return 2 * math.log(self.sigma_max / self.sigma_min) / self.T

    def transition(self, s: Number, t: Number) -> Transition:
        functions = elementary(t)
        start = self.sigma_min**2 * elementary(s).exp(self._growth * s)
        return Transition(functions.exp(0.0 * t), 0.0, start * functions.expm1(self._growth * (t - s)))

    def rate(self, t: float) -> float:
        return 0.0

    def amplitude(self, t: float) -> float:
        return math.sqrt(self._growth) * self.sigma_min * math.exp(0.5 * self._growth * t)

    def level(self, t: Number) -> Number:
        """σ_min (σ_max/σ_min)^{t/T}: NCSN's noise level, σ_min of which is there at t = 0."""
        return self.sigma_min * elementary(t).exp(0.5 * self._growth * t)

    def time_of_level(self, level: float) -> float:
        """The time at which `level(t)` has this value."""
        return 2 * math.log(level / self.sigma_min) / self._growth


class CallableVESDE(IsotropicSDE):
    """dx = √(dσ²/dt) dW for a rising σ(t) that the user gives: α = 1.

    sigma: t ↦ σ(t), in units of x, on [0, T]; the noise added since t = 0 has variance
    σ²(t) - σ²(0). For arrays of times, as in training, it must take arrays. variance_rate: t ↦
    dσ²/dt; without it, differences of order 4 with steps of 1e-4 T, of relative error 1e-11 where ln σ²
    changes by 20 over T, but of error 1e-11 σ²/T where dσ²/dt is close to 0: give it then.

    Raises: TypeError for a σ or a rate that is not a function; ValueError for a T that is not positive
    and finite, and, when evaluated at a float, for a σ that is negative, not finite or falls, or a
    negative rate. Source: Song et al. 2021, eq. 9.
    """

    def __init__(
        self,
        sigma: Callable[[Number], Number],
        variance_rate: Callable[[Number], Number] | None = None,
        T: float = 1.0,
    ) -> None:
        if not callable(sigma):
            raise TypeError(f"CallableVESDE: σ must be a function of t; got {sigma!r}")
        if variance_rate is not None and not callable(variance_rate):
            raise TypeError(f"CallableVESDE: dσ²/dt must be a function of t; got {variance_rate!r}")
        number = real_number(T)
        if number is None or not 0 < number < math.inf:
            raise ValueError(f"CallableVESDE: T must be positive and finite; got {T!r}")
        self._sigma, self._rate, self.T = sigma, variance_rate, float(T)

    def level(self, t: Number) -> Number:
        """σ(t) as the user gives it, with what is there at t = 0."""
        if not isinstance(t, (int, float)):
            return self._sigma(t)
        value = float(self._sigma(t))
        if not 0 <= value < math.inf:
            raise ValueError(f"CallableVESDE: σ must be at least 0 and finite; got σ({t:.6g}) = {value!r}")
        return value

    def time_of_level(self, level: float) -> float:
        """The time at which `level(t)` has this value, within [0, T]."""
        return brentq(lambda t: self.level(t) - level, 0.0, self.T, xtol=1e-15 * self.T, rtol=1e-15)

    def transition(self, s: Number, t: Number) -> Transition:
        if not isinstance(t, (int, float)) or not isinstance(s, (int, float)):
            return self._transition_of_arrays(s, t)
        early, late = self.level(s), self.level(t)
        if late < early and t > s:
            (one, two), (low, high) = told_apart(s, t, digits=6), told_apart(early, late, digits=6)
            raise ValueError(f"CallableVESDE: σ must rise with t; got σ({one}) = {low}, σ({two}) = {high}")
        variance = (late - early) * (late + early)
        if variance < CANCELLED * late * late:
            variance = integrate(self._variance_rate, s, t)
        return Transition(1.0, 0.0, variance)

    def _transition_of_arrays(self, s: Number, t: Number) -> Transition:
        span = t - s
        xp = array_namespace(span)
        # in float64, for float32 has no digits for the difference of two variances
        early, late = (
            self.level(r if isinstance(r, (int, float)) else xp.astype(r, xp.float64)) for r in (s, t)
        )
        variance = xp.astype((late - early) * (late + early), span.dtype)
        return Transition(xp.exp(0.0 * span), 0.0, variance)

    def rate(self, t: float) -> float:
        return 0.0

    def amplitude(self, t: float) -> float:
        return math.sqrt(self._variance_rate(t))

    def _variance_rate(self, t: float) -> float:
        """dσ²/dt, at least 0."""
        if self._rate is not None:
            rate, rounding = float(self._rate(t)), 0.0
        else:
            h = STEP * self.T
            side = "forward" if t < 2 * h else "backward" if t > self.T - 2 * h else "central"
            parts = [weight * self.level(t + k * h) ** 2 for k, weight in STENCILS[side]]
            rate, rounding = sum(parts) / h, 1e-14 * max(map(abs, parts)) / h
        if not -rounding <= rate < math.inf:
            raise ValueError(
                f"CallableVESDE: dσ²/dt must be at least 0 and finite; got {rate:.6g} at t = {t:.6g}"
            )
        return max(rate, 0.0)


@dataclass(frozen=True)
class EDMSDE(IsotropicSDE):
    """dx = √(2t) dW: α = 1, σ(t) = t, in units of x.

    T: the largest noise level. Raises: ValueError for a T that is not positive and finite.
    Source: Karras et al. 2022 (EDM), table 1 and section 3.
    """

    T: float = 80.0

    def __post_init__(self) -> None:
        python_floats(self)
        require_positive(self, "T")

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
