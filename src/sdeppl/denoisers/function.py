"""A black box as a denoiser."""

from collections.abc import Callable
from typing import Any

from ..backend import Backend
from ..sde import IsotropicSDE, require_isotropic
from .base import Denoiser, Moments
from .covariance import Covariance


class CallableDenoiser(Denoiser):
    """E[x_0 given x_t] and its covariance from functions of (x, t) that the user gives.

    mean: (x (batch, dim), t) ↦ (batch, dim); covariance: (x, t) ↦ a `Covariance`; backend: that
    of the arrays they take and return.
    """

    def __init__(
        self,
        sde: IsotropicSDE,
        mean: Callable[[Any, float], Any],
        covariance: Callable[[Any, float], Covariance],
        dim: int,
        backend: Backend,
    ) -> None:
        require_isotropic(sde, type(self).__name__)
        self.sde = sde
        self.dim = dim
        self.backend = backend
        self._mean = mean
        self._covariance = covariance

    def __call__(self, x: Any, t: float) -> Moments:
        return Moments(self._mean(x, t), self._covariance(x, t))

    def mean(self, x: Any, t: float) -> Any:
        return self._mean(x, t)
