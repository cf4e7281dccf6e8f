"""The variance-preserving SDE."""

import math
from dataclasses import dataclass, field
from typing import Any

from ..backend import elementary, python_floats
from .affine import IsotropicSDE, Transition
from .schedules import LinearSchedule, Schedule, check_scheduled


@dataclass(frozen=True)
class VPSDE(IsotropicSDE):
    """dx = -β(t)/2 x dt + √β(t) dW: α² = e^{-∫β}, σ² = 1 - α².

    Raises: ValueError for a schedule that is none, or T that is not positive and finite.
    Source: Song et al. 2021 (Score-based generative modeling through SDEs), eq. 11.
    """

    schedule: Schedule = field(default_factory=LinearSchedule)
    T: float = 1.0

    def __post_init__(self) -> None:
        python_floats(self)
        check_scheduled(self)

    def transition(self, s: Any, t: Any) -> Transition:
        span = self.schedule.between(s, t)
        functions = elementary(span)
        return Transition(functions.exp(-0.5 * span), 0.0, -functions.expm1(-span))

    def rate(self, t: float) -> float:
        return -0.5 * self.schedule.beta(t)

    def amplitude(self, t: float) -> float:
        return math.sqrt(self.schedule.beta(t))
