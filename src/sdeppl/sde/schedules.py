"""Noise schedules β(t) of the variance-preserving SDE and its relatives, and integrals over time."""

import functools
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scipy.special import roots_legendre

from ..backend import Number, array_namespace, elementary, python_floats, require_positive

PANELS = 8  # of the quadrature for arrays of times
TOLERANCE = 1e-9  # relative error at which an adaptive integral is refused
CANCELLED = 1e-6  # share of ∫β below which a difference of two given integrals has lost its digits
NODES = 16


class Schedule(ABC):
    """β(t) > 0 on [0, T], with its integral from 0.

    `kinks`: the times, rising, between which β is smooth.
    """

    kinks: tuple[float, ...] = ()

    @abstractmethod
    def beta(self, t: Number) -> Number:
        """β(t), per unit of time."""

    @abstractmethod
    def integral(self, t: Number) -> Number:
        """∫_0^t β(r) dr."""

    def between(self, s: Number, t: Number) -> Number:
        """∫_s^t β(r) dr; a schedule that can gives it all its digits however close s and t are."""
        return self.integral(t) - self.integral(s)


@dataclass(frozen=True)
class ConstantSchedule(Schedule):
    """β(t) = β. Raises: ValueError for β ≤ 0."""

    value: float

    def __post_init__(self) -> None:
        python_floats(self)
        if not 0 < self.value < math.inf:
            raise ValueError(f"ConstantSchedule: β must be positive and finite; got {self.value!r}")

    def beta(self, t: Number) -> Number:
        return self.value + 0.0 * t

    def integral(self, t: Number) -> Number:
        return self.value * t

    def between(self, s: Number, t: Number) -> Number:
        return self.value * (t - s)


@dataclass(frozen=True)
class LinearSchedule(Schedule):
    """β(t) = β_min + (β_max - β_min) t / T.

    Raises: ValueError unless 0 < β_min ≤ β_max and T > 0. Source: Song et al. 2021, appendix C.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    T: float = 1.0

    def __post_init__(self) -> None:
        python_floats(self)
        if not (0 < self.beta_min <= self.beta_max < math.inf and self.T > 0):
            raise ValueError(f"LinearSchedule: need 0 < beta_min <= beta_max < ∞ and T > 0; got {self}")

    def beta(self, t: Number) -> Number:
        return self.beta_min + (self.beta_max - self.beta_min) / self.T * t

    def integral(self, t: Number) -> Number:
        return self.beta_min * t + (self.beta_max - self.beta_min) / (2 * self.T) * t * t

    def between(self, s: Number, t: Number) -> Number:
        return (t - s) * (self.beta_min + (self.beta_max - self.beta_min) / (2 * self.T) * (s + t))


@dataclass(frozen=True)
class CosineSchedule(Schedule):
    """α²(t) = e^{-∫β} = cos²θ(t)/cos²θ(0) with θ = π/2 (t/T + offset)/(1 + offset), β at most beta_max.

    β(t) = π/(T (1 + offset)) tan θ(t) has a pole at T. It is followed until it reaches `beta_max` (per
    unit of time), about 2/beta_max before T, and stays there; `integral` is that of the capped β,
    exactly. The default 999 is the source's cap β_i ≤ 0.999 on each of 1,000 steps, N β_i.

    Raises: ValueError for offset ≤ 0, T ≤ 0 or beta_max ≤ β(0). Source: Nichol & Dhariwal 2021
    (Improved denoising diffusion probabilistic models), eq. 17.
    """

    offset: float = 0.008
    beta_max: float = 999.0
    T: float = 1.0

    def __post_init__(self) -> None:
        python_floats(self)
        require_positive(self, "offset", "T")
        first = 2 * self._speed * math.tan(self._angle(0.0))
        if not first < self.beta_max < math.inf:
            raise ValueError(
                f"CosineSchedule: beta_max must be finite and more than β(0) = {first:.3g}; "
                f"got {self.beta_max!r}"
            )

    @property
    def _speed(self) -> float:
        """dθ/dt."""
        return math.pi / (2 * self.T * (1 + self.offset))

    @property
    def capped_from(self) -> float:
        """The time from which β = beta_max."""
        return math.atan(self.beta_max / (2 * self._speed)) / self._speed - self.offset * self.T

    @property
    def kinks(self) -> tuple[float, ...]:  # type: ignore[override]
        return (self.capped_from,)

    def _angle(self, t: Number) -> Number:
        return self._speed * (t + self.offset * self.T)

    def beta(self, t: Number) -> Number:
        return 2 * self._speed * elementary(t).tan(self._angle(within(t, 0.0, self.capped_from)))

    def integral(self, t: Number) -> Number:
        return self.between(0.0, t)

    def between(self, s: Number, t: Number) -> Number:
        # -2 ln(cos θ_t/cos θ_s), with the ratio written as 1 + what is small where the step is short
        cap = self.capped_from
        early, late = within(s, 0.0, cap), within(t, 0.0, cap)
        step = self._speed * (late - early)
        functions = elementary(step)
        slope = elementary(early).tan(self._angle(early))
        change = -2 * functions.sin(0.5 * step) ** 2 - slope * functions.sin(step)
        return -2 * functions.log1p(change) + self.beta_max * ((t - late) - (s - early))


class CallableSchedule(Schedule):
    """β(t) from a function, with its integral from 0 as another function or by quadrature.

    beta: t ↦ β(t), per unit of time; integral: t ↦ ∫_0^t β. Without `integral`, a float t takes
    adaptive quadrature to 1e-12; an array of times, as in training, takes Gauss–Legendre on 8 equal
    panels of 16 nodes, so β must then be written for arrays; for a β that is smooth on an eighth of
    the interval the two agree to 1e-12. Give `integral` for one with kinks, or where speed counts.

    Raises: TypeError for a β or an integral that is not a function; ValueError for an integral that
    is not 0 at 0, and, when evaluated at a float, for β < 0 or not finite, or an integral that does
    not converge.
    """

    def __init__(
        self, beta: Callable[[Number], Number], integral: Callable[[Number], Number] | None = None
    ) -> None:
        if not callable(beta):
            raise TypeError(
                f"CallableSchedule: β must be a function of t; got {beta!r}; use ConstantSchedule"
            )
        if integral is not None and not callable(integral):
            raise TypeError(f"CallableSchedule: the integral must be a function of t; got {integral!r}")
        self._beta, self._integral = beta, integral
        if integral is not None and abs(float(integral(0.0))) > 1e-12:
            raise ValueError(
                f"CallableSchedule: the integral from 0 must be 0 at t = 0; got {float(integral(0.0)):.3g}"
            )

    def beta(self, t: Number) -> Number:
        if not isinstance(t, (int, float)):
            return self._beta(t)
        value = float(self._beta(t))
        if not 0 <= value < math.inf:
            raise ValueError(f"CallableSchedule: β must be at least 0 and finite; got β({t:.6g}) = {value!r}")
        return value

    def integral(self, t: Number) -> Number:
        if self._integral is None:
            return self.between(0.0, t)
        return float(self._integral(t)) if isinstance(t, (int, float)) else self._integral(t)

    def between(self, s: Number, t: Number) -> Number:
        are_floats = isinstance(s, (int, float)) and isinstance(t, (int, float))
        if self._integral is not None:
            end = self.integral(t)
            span = end - self.integral(s)
            if are_floats and abs(span) < CANCELLED * abs(end):
                return integrate(self.beta, s, t)
            return span
        if not are_floats:
            return integrate(self.beta, s, t, PANELS)
        from scipy.integrate import quad  # half a second, which other schedules do without

        value, error = quad(self.beta, s, t, epsabs=0.0, epsrel=1e-12, limit=200, full_output=True)[:2]
        if not error <= TOLERANCE * abs(value):
            raise ValueError(
                f"CallableSchedule: the integral of β from {s:.6g} to {t:.6g} did not converge: {value:.6g} "
                f"± {error:.1g}; give CallableSchedule its integral"
            )
        return value


def check_scheduled(sde: Any) -> None:
    """Raises: ValueError, naming the SDE, for a schedule that is none, or T not positive and finite."""
    name = type(sde).__name__
    if not isinstance(sde.schedule, Schedule):
        hint = "; make a function one by CallableSchedule(function)" if callable(sde.schedule) else ""
        hint = f"; write {sde.schedule.__name__}(...)" if isinstance(sde.schedule, type) else hint
        raise ValueError(
            f"{name}: schedule must be a Schedule, as LinearSchedule is; got {sde.schedule!r}{hint}"
        )
    require_positive(sde, "T")


@functools.cache
def panel_nodes(panels: int, graded: bool = False) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Composite Gauss–Legendre nodes in (0, 1) and their weights, 16 to a panel.

    The panels are equal, or `graded`: each is half as long as the one to its right and the first two
    are equal, so that what happens near 0 on any scale down to 2^{-panels} is resolved.
    """
    roots, masses = (values.tolist() for values in roots_legendre(NODES))  # array-lint: on the host
    if graded:
        edges = [0.0, *(0.5 ** (panels - 1 - k) for k in range(panels))]
    else:
        edges = [k / panels for k in range(panels + 1)]
    nodes: list[float] = []
    weights: list[float] = []
    for low, high in itertools.pairwise(edges):
        nodes += [low + 0.5 * (high - low) * (1 + root) for root in roots]
        weights += [0.5 * (high - low) * mass for mass in masses]
    return tuple(nodes), tuple(weights)


def integrate(function: Callable[[Number], Number], s: Number, t: Number, panels: int = 1) -> Number:
    """∫_s^t function(r) dr on equal panels: exact for polynomials of degree 31 on each."""
    nodes, weights = panel_nodes(panels)
    total: Number = 0.0
    for node, weight in zip(nodes, weights, strict=True):
        total = total + weight * function(s + (t - s) * node)
    return total * (t - s)


def within(t: Number, low: float, high: float) -> Number:
    """The time in [low, high] nearest to t."""
    if isinstance(t, (int, float)):
        return min(max(t, low), high)
    return array_namespace(t).clip(t, low, high)
