"""Affine SDEs: what they know in closed form."""

import math
from abc import abstractmethod
from typing import Any, NamedTuple

from array_api_compat import array_namespace, device

from ..backend import Array, Number, elementary
from ..backend.sharing import warn
from .base import SDE


class Transition(NamedTuple):
    """x_t given x_s ~ N(map x_s + shift, covariance).

    For an `IsotropicSDE` map and covariance are numbers (times the identity), and shift is a number
    or (dim,); for a matrix SDE they are (dim, dim), (dim,) and (dim, dim).
    """

    map: Any
    shift: Any
    covariance: Any


class StepCoefficients(NamedTuple):
    """Numbers of one exponential step from s to t of a semilinear SDE, dx = (L x + N) dt + noise.

    x_t ≈ decay x_s + first N(x_s, s) + second (N(x_t, t) - N(x_s, s)) + noise z + shift, with
    z ~ N(0, I); shift is None where there is none.
    """

    decay: float
    first: float
    second: float
    noise: float
    shift: Number | None = None


class AffineSDE(SDE):
    """dx = (A(t) x + u(t)) dt + B(t) dW: Gaussian transitions between any two times, in closed form.

    `T` is where the noising ends.
    """

    noise = "additive"
    T: float = 1.0

    @abstractmethod
    def transition(self, s: Number, t: Number) -> Transition:
        """Of x_t given x_s, for s ≤ t; exact."""

    @abstractmethod
    def moments(self, mean: Array, covariance: Array, t: float, s: float = 0.0) -> tuple[Array, Array]:
        """Mean (..., dim) and covariance (..., dim, dim) of x_t for those of x_s."""

    @abstractmethod
    def advance(self, x: Array, s: float, t: float, z: Array) -> Array:
        """x_t given x_s = x, exactly in law, from standard normals z like x."""

    @abstractmethod
    def snr(self, t: Number) -> Number:
        """Signal-to-noise ratio of x_t: α²/σ², or its matrix Φᵀ Q⁻¹ Φ; infinite at t = 0."""


class IsotropicSDE(AffineSDE):
    """dx = (f(t) x + u(t)) dt + g(t) dW with numbers f and g, so x_t = α(t) x_0 + m(t) + σ(t) ε.

    A subclass gives `transition`, `rate` (f) and `amplitude` (g), and where u is not zero `shift`
    (m) and `push` (u). Times are Python floats, or arrays where the marginal of many times is
    wanted at once.
    """

    shifted: bool = False  # whether m(t) may differ from zero

    @abstractmethod
    def rate(self, t: float) -> float:
        """f(t) = d ln α/dt."""

    @abstractmethod
    def amplitude(self, t: float) -> float:
        """g(t)."""

    def push(self, t: float) -> Number:
        """u(t): a number or (dim,)."""
        return 0.0

    def shift(self, t: Number) -> Number:
        """m(t): mean of x_t for x_0 = 0; a number or (dim,)."""
        return self.transition(0.0, t).shift if self.shifted else 0.0

    def centre(self, x: Array, t: Number) -> Array:
        """x - m(t), which follows the same SDE without u."""
        return x - self.shift(t) if self.shifted else x

    def alpha_sigma(self, t: Number) -> tuple[Number, Number]:
        """α(t) and σ(t), from one evaluation."""
        found = self.transition(0.0, t)
        return found.map, elementary(t).sqrt(found.covariance)

    def levels(self, t: Number) -> tuple[Number, Number]:
        """The former name of `alpha_sigma`."""
        warn("levels is called alpha_sigma now", DeprecationWarning, stacklevel=2)
        return self.alpha_sigma(t)

    def alpha(self, t: Number) -> Number:
        """α(t): what is left of x_0 at t."""
        return self.transition(0.0, t).map

    def sigma(self, t: Number) -> Number:
        """σ(t): standard deviation of the noise at t; σ(0) = 0."""
        return elementary(t).sqrt(self.transition(0.0, t).covariance)

    def snr(self, t: Number) -> Number:
        """α²/σ²; +∞ where σ = 0, as at t = 0."""
        alpha, sigma = self.alpha_sigma(t)
        if isinstance(t, (int, float)) and sigma == 0:
            return math.inf
        return (alpha / sigma) ** 2

    def log_snr(self, t: Number) -> Number:
        """ln(α²/σ²); it falls with t. +∞ where σ = 0."""
        return 2 * self.half_log_snr(t)

    def half_log_snr(self, t: Number) -> Number:
        """ln(α/σ), the λ of Lu et al. 2022 (DPM-Solver)."""
        alpha, sigma = self.alpha_sigma(t)
        if isinstance(t, (int, float)) and sigma == 0:
            return math.inf
        functions = elementary(t)
        return functions.log(alpha) - functions.log(sigma)

    def moments(self, mean: Array, covariance: Array, t: float, s: float = 0.0) -> tuple[Array, Array]:
        """α m + shift and α² C + σ² I, of the step from s to t."""
        require_forward(s, t)
        phi, shift, q = self.transition(s, t)
        xp = array_namespace(mean, covariance)
        identity = xp.eye(mean.shape[-1], dtype=covariance.dtype, device=device(covariance))
        return phi * mean + shift, phi * phi * covariance + q * identity

    def advance(self, x: Array, s: float, t: float, z: Array) -> Array:
        """φ x + shift + √q z."""
        require_forward(s, t)
        phi, shift, q = self.transition(s, t)
        return phi * x + shift + math.sqrt(q) * z

    def drift(self, x: Array, t: float) -> Array:
        return self.rate(t) * x + self.push(t) if self.shifted else self.rate(t) * x

    def diffusion(self, x: Array, t: float) -> float:
        return self.amplitude(t)

    def coefficients(self, s: float, t: float) -> StepCoefficients:
        """The exact transition as a step; nothing is left for N. Raises: ValueError for t < s."""
        require_forward(s, t)
        phi, shift, q = self.transition(s, t)
        return StepCoefficients(phi, 0.0, 0.0, math.sqrt(q), shift if self.shifted else None)

    def nonlinear(self, x: Array, t: float) -> None:
        """The part that an exponential step cannot solve exactly: nothing."""
        return None


def require_forward(s: float, t: float) -> None:
    """Raises: ValueError for a step back in time."""
    if t < s:
        raise ValueError(f"a forward SDE runs forward: got a step from t={s} to t={t}; use ReverseSDE")


def require_isotropic(
    sde: object,
    what: str,
    otherwise: str = "for Gaussian mixtures under other affine SDEs use AffineMarginals",
) -> None:
    """Raises: TypeError, naming `what`, for an SDE whose α and σ are not numbers; `otherwise`: what to do."""
    if not isinstance(sde, IsotropicSDE):
        got = f"the class {sde.__name__}" if isinstance(sde, type) else type(sde).__name__
        raise TypeError(
            f"{what} needs a forward SDE with x_t = α x_0 + σ ε for numbers α and σ, as VPSDE() has; got "
            f"{got}; {otherwise}"
        )
