"""The variance-preserving SDE."""

import math
from dataclasses import dataclass

from ..backend import Number, elementary
from .affine import Transition
from .scheduled import ScheduledSDE


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

    def amplitude(self, t: float) -> float:
        return math.sqrt(self.schedule.beta(t))
