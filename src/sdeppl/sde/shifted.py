"""The variance-preserving SDE whose mean is pushed away."""

import itertools
import math
from dataclasses import dataclass, field
from numbers import Real

from ..backend import Number, elementary, python_floats
from .affine import IsotropicSDE, Transition
from .quadrature import panel_nodes, within
from .schedules import LinearSchedule, Schedule, check_scheduled

PANELS = 8


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
