"""The sub-variance-preserving SDE of Song et al."""

import math
from dataclasses import dataclass

from ..backend import Number, elementary
from .affine import Transition
from .scheduled import ScheduledSDE


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
