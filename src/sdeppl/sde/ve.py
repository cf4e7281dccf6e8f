"""The variance-exploding SDE."""

import math
from dataclasses import dataclass
from typing import Any

from ..backend import elementary, python_floats
from .affine import IsotropicSDE, Transition


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

    def transition(self, s: Any, t: Any) -> Transition:
        functions = elementary(t)
        start = self.sigma_min**2 * elementary(s).exp(self._growth * s)
        return Transition(functions.exp(0.0 * t), 0.0, start * functions.expm1(self._growth * (t - s)))

    def rate(self, t: float) -> float:
        return 0.0

    def amplitude(self, t: float) -> float:
        return math.sqrt(self._growth) * self.sigma_min * math.exp(0.5 * self._growth * t)
