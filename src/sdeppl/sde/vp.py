"""The variance-preserving SDE and its relatives on a noise schedule."""

import itertools
import math
from dataclasses import dataclass, field
from numbers import Real

from ..backend import Array, Number, elementary, python_floats
from .base import IsotropicSDE, Transition
from .schedules import LinearSchedule, Schedule, check_scheduled, panel_nodes, within

PANELS = 8


@dataclass(frozen=True)
class ScheduledSDE(IsotropicSDE):
    """An SDE on a schedule β(t) up to T, with f = -β/2 and g = √β unless a subclass says otherwise.

    Raises: ValueError for a schedule that is none, or T that is not positive and finite.
    """

    schedule: Schedule = field(default_factory=LinearSchedule)
    T: float = 1.0

    def __post_init__(self) -> None:
        python_floats(self)
        check_scheduled(self)

    def rate(self, t: float) -> float:
        return -0.5 * self.schedule.beta(t)

    def amplitude(self, t: float) -> float:
        return math.sqrt(self.schedule.beta(t))


@dataclass(frozen=True)
class VPSDE(ScheduledSDE):
    """dx = -β(t)/2 x dt + √β(t) dW: α² = e^{-∫β}, σ² = 1 - α².

    Raises: ValueError for a schedule that is none, or T that is not positive and finite.
    Source: Song et al. 2021 (Score-based generative modeling through SDEs), eq. 11.
    """

    def transition(self, s: Number, t: Number) -> Transition:
        alpha, variance = self._moments(s, t)
        return Transition(alpha, 0.0, variance)

    def alpha_sigma(self, t: Number) -> tuple[Number, Number]:
        # without a Transition: each step of a solve asks for it three times
        alpha, variance = self._moments(0.0, t)
        return alpha, elementary(variance).sqrt(variance)

    def _moments(self, s: Number, t: Number) -> tuple[Number, Number]:
        """Map and variance of x_t given x_s."""
        span = self.schedule.between(s, t)
        functions = elementary(span)
        return functions.exp(-0.5 * span), -functions.expm1(-span)


@dataclass(frozen=True)
class SubVPSDE(ScheduledSDE):
    """dx = -β/2 x dt + √(β (1 - e^{-2B})) dW with B = ∫_0^t β: α = e^{-B/2}, σ = 1 - e^{-B}.

    Its variance stays below that of the VP SDE with the same β. Between s and t the variance is
    (1 - e^{-(B_t - B_s)}) (1 - e^{-(B_t + B_s)}).

    Raises: ValueError for a schedule that is none, or T that is not positive and finite.
    Source: Song et al. 2021 (Score-based generative modeling through SDEs), eq. 12 and appendix B.
    """

    def transition(self, s: Number, t: Number) -> Transition:
        span = self.schedule.between(s, t)
        functions = elementary(span)
        total = span + 2 * self.schedule.integral(s)
        variance = functions.expm1(-span) * functions.expm1(-total)
        return Transition(functions.exp(-0.5 * span), 0.0, variance)

    def amplitude(self, t: float) -> float:
        return math.sqrt(-self.schedule.beta(t) * math.expm1(-2 * self.schedule.integral(t)))


@dataclass(frozen=True)
class ShiftedVPSDE(IsotropicSDE):
    """dx = -β/2 (x + μ(t)) dt + √β dW: α and σ of VPSDE, and the mean for x_0 = 0 is

    m(t) = -∫_0^t e^{-(B_t - B_r)/2} β(r)/2 μ(r) dr, B = ∫β; for a constant μ it is -μ (1 - α).

    μ: a number, an array (dim,) of the states' library, device and dtype, or a function of time that
    returns either, in units of x; where arrays of times (batch, 1) are used, as in training, the
    function takes them and returns (batch, 1) or (batch, dim). Functions take Gauss–Legendre on 8
    panels of 16 nodes that halve towards t: error 1e-11 of μ where μ is smooth on half of the interval
    and B_t is at most 4,000.

    Some texts call this process 'sub-VP'. It is not the sub-VP SDE of Song et al., which is SubVPSDE.

    Raises: ValueError for a μ that is not finite, a schedule that is none or T that is not positive
    and finite; TypeError for a μ of another kind.
    """

    mu: Number
    schedule: Schedule = field(default_factory=LinearSchedule)
    T: float = 1.0
    shifted = True

    def __post_init__(self) -> None:
        python_floats(self, gradients=True)
        check_scheduled(self)
        if isinstance(self.mu, float) and not math.isfinite(self.mu):
            raise ValueError(f"ShiftedVPSDE: μ must be finite; got {self.mu!r}")
        if not (isinstance(self.mu, float) or callable(self.mu) or hasattr(self.mu, "shape")):
            raise TypeError(
                "ShiftedVPSDE: μ must be a number, an array (dim,) or a function of time; got "
                f"{type(self.mu).__name__}"
            )

    def transition(self, s: Number, t: Number) -> Transition:
        span = self.schedule.between(s, t)
        functions = elementary(span)
        shift = self._pushed(s, t) if callable(self.mu) else self.mu * functions.expm1(-0.5 * span)
        return Transition(functions.exp(-0.5 * span), shift, -functions.expm1(-span))

    def rate(self, t: float) -> float:
        return -0.5 * self.schedule.beta(t)

    def amplitude(self, t: float) -> float:
        return math.sqrt(self.schedule.beta(t))

    def push(self, t: float) -> Number:
        mu = self._mu_at(t) if callable(self.mu) else self.mu
        return -0.5 * self.schedule.beta(t) * mu

    def _mu_at(self, t: Number) -> Number:
        mu = self.mu(t)
        # a float, lest a NumPy scalar raise float32 arrays to float64
        return float(mu) if isinstance(mu, Real) else mu

    def _pushed(self, s: Number, t: Number) -> Number:
        """-∫_s^t e^{-(B_t - B_r)/2} β(r)/2 μ(r) dr, piece by piece where β has kinks."""
        total: Number = 0.0
        for low, high in itertools.pairwise((0.0, *self.schedule.kinks, math.inf)):
            early, late = within(s, low, high), within(t, low, high)
            left = self.schedule.between(late, t)
            total = total + elementary(left).exp(-0.5 * left) * self._pushed_smoothly(early, late)
        return total

    def _pushed_smoothly(self, s: Number, t: Number) -> Number:
        # all happens near t where B_t - B_s is large
        total: Number = 0.0
        for node, weight in zip(*panel_nodes(PANELS, graded=True), strict=True):
            r = t - (t - s) * node
            left = self.schedule.between(r, t)
            kept = elementary(left).exp(-0.5 * left)
            total = total + (weight * kept * self.schedule.beta(r)) * self._mu_at(r)
        return -0.5 * (t - s) * total


@dataclass(frozen=True)
class DataAnchoredSDE(ScheduledSDE):
    """The Markov SDE with the marginals of dx = -β/2 (x - x_0) dt + √β dW: α = 1, σ² = 1 - e^{-B}.

    The anchored process itself keeps x_0 for ever: x_t = x_0 + √(1 - e^{-B}) ε with B = ∫_0^t β. It is
    not Markov in x alone, so where x_0 is unknown, as for a denoiser and the reverse SDE, this class is
    dx = √β e^{-B/2} dW, a variance-exploding SDE with the same marginal at every time.
    `given(x_0)` is the anchored process for a known x_0, with its own joint law. σ stays below 1, so
    the data should be small beside 1 for x_T to be mostly noise.

    Some texts call the anchored process 'sub-VP'. It is not the sub-VP SDE of Song et al., which is
    SubVPSDE.

    Raises: ValueError for a schedule that is none, or T that is not positive and finite.
    """

    def given(self, x0: Array) -> ShiftedVPSDE:
        """dx = -β/2 (x - x_0) dt + √β dW for a known x_0: a number, or an array (dim,).

        Between s and t: map φ = e^{-(B_t - B_s)/2}, shift (1 - φ) x_0, covariance 1 - φ²; it is
        ShiftedVPSDE with μ = -x_0. Raises: ValueError or TypeError for an x_0 that is neither.
        """
        if callable(x0) or not (isinstance(x0, (int, float)) or hasattr(x0, "shape")):
            raise TypeError(f"DataAnchoredSDE: x_0 must be a number or an array; got {type(x0).__name__}")
        return ShiftedVPSDE(-x0, self.schedule, self.T)

    def transition(self, s: Number, t: Number) -> Transition:
        span, start = self.schedule.between(s, t), self.schedule.integral(s)
        functions = elementary(span)
        variance = -elementary(start).exp(-start) * functions.expm1(-span)
        return Transition(functions.exp(0.0 * span), 0.0, variance)

    def rate(self, t: float) -> float:
        return 0.0

    def amplitude(self, t: float) -> float:
        return math.sqrt(self.schedule.beta(t)) * math.exp(-0.5 * self.schedule.integral(t))
