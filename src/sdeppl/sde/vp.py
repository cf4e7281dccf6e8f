"""The variance-preserving SDE."""

import math
from dataclasses import dataclass, field
from typing import Any

from ..backend import elementary
from .base import AffineSDE
from .schedules import LinearSchedule, Schedule


@dataclass(frozen=True)
class VPSDE(AffineSDE):
    """dx = -β(t)/2 x dt + √β(t) dW: α² = e^{-∫β}, σ² = 1 - α².

    Source: Song et al. 2021 (Score-based generative modeling through SDEs), eq. 11.
    """

    schedule: Schedule = field(default_factory=LinearSchedule)
    T: float = 1.0

    def transition(self, s: Any, t: Any) -> tuple[Any, Any]:
        span = self.schedule.integral(t) - self.schedule.integral(s)
        functions = elementary(span)
        return functions.exp(-0.5 * span), -functions.expm1(-span)

    def rate(self, t: float) -> float:
        return -0.5 * self.schedule.beta(t)

    def amplitude(self, t: float) -> float:
        return math.sqrt(self.schedule.beta(t))
