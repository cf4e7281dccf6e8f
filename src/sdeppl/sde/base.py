"""What a stochastic differential equation is, and what an affine one knows in closed form."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from ..backend import elementary


@dataclass(frozen=True)
class StepCoefficients:
    """Numbers of one exponential step from s to t of a semilinear SDE, dx = (L x + N) dt + noise.

    x_t ≈ decay x_s + first N(x_s, s) + second (N(x_t, t) - N(x_s, s)) + noise z, with z ~ N(0, I).
    """

    decay: float
    first: float
    second: float
    noise: float


class SDE(ABC):
    """dx = f(x, t) dt + g(x, t) dW in Itô's sense, on states (..., dim).

    `falling`: whether it is solved with time running down.
    """

    falling: ClassVar[bool] = False

    @abstractmethod
    def drift(self, x: Any, t: float) -> Any:
        """f(x, t), with the shape of x."""

    @abstractmethod
    def diffusion(self, x: Any, t: float) -> Any:
        """g(x, t): a number, or an array that broadcasts against x."""

    def deterministic(self, s: float, t: float) -> bool:
        """Whether no noise enters between s and t."""
        return False


class AffineSDE(SDE):
    """dx = f(t) x dt + g(t) dW with numbers f and g, so x_t = α(t) x_0 + σ(t) ε.

    A subclass gives `transition`, `rate` (f) and `amplitude` (g). Times are Python floats, or
    arrays where the marginal of many times is wanted at once. `T` is where the noising ends.
    """

    T: float = 1.0

    @abstractmethod
    def transition(self, s: Any, t: Any) -> tuple[Any, Any]:
        """(φ, q) with x_t given x_s ~ N(φ x_s, q I), for s ≤ t; exact."""

    @abstractmethod
    def rate(self, t: float) -> float:
        """f(t) = d ln α/dt."""

    @abstractmethod
    def amplitude(self, t: float) -> float:
        """g(t)."""

    def alpha(self, t: Any) -> Any:
        """α(t): what is left of x_0 at t."""
        return self.transition(0.0, t)[0]

    def sigma(self, t: Any) -> Any:
        """σ(t): standard deviation of the noise at t; σ(0) = 0."""
        return elementary(t).sqrt(self.transition(0.0, t)[1])

    def log_snr(self, t: Any) -> Any:
        """ln(α/σ), half the log signal-to-noise ratio; it falls with t. +∞ at t = 0."""
        if isinstance(t, (int, float)) and t == 0:
            return math.inf
        functions = elementary(t)
        return functions.log(self.alpha(t)) - functions.log(self.sigma(t))

    def moments(self, mean: Any, covariance: Any, t: float) -> tuple[Any, Any]:
        """Mean (dim,) and covariance (dim, dim) of x_t for those of x_0: α m and α² C + σ² I."""
        from array_api_compat import array_namespace, device

        phi, q = self.transition(0.0, t)
        xp = array_namespace(mean, covariance)
        identity = xp.eye(mean.shape[-1], dtype=covariance.dtype, device=device(covariance))
        return phi * mean, phi * phi * covariance + q * identity

    def drift(self, x: Any, t: float) -> Any:
        return self.rate(t) * x

    def diffusion(self, x: Any, t: float) -> float:
        return self.amplitude(t)

    def coefficients(self, s: float, t: float) -> StepCoefficients:
        """The exact transition as a step; nothing is left for N. Raises: ValueError for t < s."""
        if t < s:
            raise ValueError(f"a forward SDE runs forward: got a step from t={s} to t={t}; use ReverseSDE")
        phi, q = self.transition(s, t)
        return StepCoefficients(phi, 0.0, 0.0, math.sqrt(q))

    def nonlinear(self, x: Any, t: float) -> None:
        """The part that an exponential step cannot solve exactly: nothing."""
        return None
