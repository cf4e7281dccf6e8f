"""What a denoiser is."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from ..backend import Backend
from ..sde import IsotropicSDE
from .covariance import Covariance


@dataclass(frozen=True)
class Moments:
    """mean: E[x_0 given x_t], (batch, dim); covariance: Cov[x_0 given x_t], an operator."""

    mean: Any
    covariance: Covariance


class Denoiser(ABC):
    """The first two moments of p(x_0 given x_t) under a forward SDE, x_t = α x_0 + σ ε.

    `denoiser(x, t)` gives both from one evaluation; `mean` alone may be cheaper. x: (batch, dim),
    an array of `backend`; t: a float in (0, T]. `sde`: the forward SDE; `dim`: numbers in x_0.
    `covariance_is_slope`: whether the covariance is σ²/α ∂mean/∂x, as of exact moments.
    """

    covariance_is_slope: ClassVar[bool] = True

    sde: IsotropicSDE
    dim: int
    backend: Backend

    @abstractmethod
    def __call__(self, x: Any, t: float) -> Moments:
        """Mean and covariance of x_0 given x_t = x."""

    @abstractmethod
    def mean(self, x: Any, t: float) -> Any:
        """E[x_0 given x_t = x], (batch, dim)."""

    def score(self, x: Any, t: float) -> Any:
        """∂ ln p(x_t) = (α E[x_0 given x_t] - x)/σ² (Tweedie's formula), (batch, dim)."""
        return (self.sde.alpha(t) * self.mean(x, t) - self.sde.centre(x, t)) / self.sde.sigma(t) ** 2

    def eps(self, x: Any, t: float) -> Any:
        """ε̂ = E[ε given x_t] = -σ score, (batch, dim)."""
        return (self.sde.centre(x, t) - self.sde.alpha(t) * self.mean(x, t)) / self.sde.sigma(t)
