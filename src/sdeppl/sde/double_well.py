"""Overdamped Langevin dynamics in a double well."""

import math
from dataclasses import dataclass
from functools import cached_property

from array_api_compat import array_namespace

from ..backend import Array, python_floats, require_positive
from .base import SDE


@dataclass(frozen=True)
class DoubleWell(SDE):
    """dx = -U'(x) dt + √(2 T) dW with U = barrier ((x/well)² - 1)², in each component alone.

    The wells lie at ±well, in units of x; barrier and temperature T are energies, in units of x²
    per time. The stationary density is ∝ e^{-U/T}. Raises: ValueError for parameters that are not
    positive and finite. Source: Gardiner, Stochastic Methods, §5.2.2 and 14.
    """

    barrier: float = 1.0
    well: float = 1.0
    temperature: float = 0.5
    noise = "additive"

    def __post_init__(self) -> None:
        python_floats(self)
        require_positive(self, "barrier", "well", "temperature")

    def drift(self, x: Array, t: float) -> Array:
        stiffness = 4 * self.barrier / self.well**2
        return x * (stiffness - (stiffness / self.well**2) * x * x)

    def diffusion(self, x: Array, t: float) -> float:
        return math.sqrt(2 * self.temperature)

    def potential(self, x: Array) -> Array:
        """U summed over the components: (...) for x (..., dim)."""
        return array_namespace(x).sum(self.barrier * ((x / self.well) ** 2 - 1) ** 2, axis=-1)

    def stationary_log_density(self, x: Array) -> Array:
        """ln of the density that stays as it is: -U/T - dim ln ∫ e^{-U(y)/T} dy, (...)."""
        return -self.potential(x) / self.temperature - x.shape[-1] * self._log_integral

    def stationary_score(self, x: Array) -> Array:
        """-U'(x)/T, like x."""
        return self.drift(x, 0.0) / self.temperature

    @cached_property
    def _log_integral(self) -> float:
        """ln ∫ e^{-U(y)/T} dy over one component, by quadrature to 1e-12."""
        from scipy.integrate import quad  # half a second, which other SDEs do without

        height = self.barrier / self.temperature
        tail = math.sqrt(1 + math.sqrt(750 / height))  # beyond it e^{-U/T} underflows
        value, _ = quad(
            lambda u: math.exp(-height * (u * u - 1) ** 2), 0, tail, points=[1.0], epsabs=0, epsrel=1e-12
        )
        return math.log(2 * self.well * value)
