"""The process that is pulled back to its own start."""

import math
from dataclasses import dataclass

from ..backend import Array, Number, elementary
from .affine import Transition
from .scheduled import ScheduledSDE
from .shifted import ShiftedVPSDE


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
