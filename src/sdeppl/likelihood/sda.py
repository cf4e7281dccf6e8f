"""Score-based data assimilation: a simple variance in place of C."""

import math
from abc import abstractmethod

from ..backend import Array, real_parameter
from ..denoisers import Denoiser, Moments
from ..linalg import Diagonal
from .base import Guided, Innovation, MeanLikelihood
from .observation import Linearisation, Observation, SiteApproximation


class FixedVarianceDenoiser(MeanLikelihood):
    """l(y given x_t) = N(y; η(m), R + P) with P independent of x_t; its gradient goes through m alone.

    Mean m + C Hᵀ (R + P)⁻¹ (y - η(m)), where C is the pullback through m. One product with C.
    """

    needs = "jacobian"

    @abstractmethod
    def predicted_variance(self, linear: Linearisation, t: float) -> Array:
        """The diagonal of P, (n,) or (batch, n)."""

    @abstractmethod
    def innovation(
        self, noise: SiteApproximation, linear: Linearisation, t: float
    ) -> tuple[Array, Linearisation, Array]:
        """(R + P)⁻¹ (y - η), what leads from it to x_0, whose adjoint is wanted, and ln l."""

    def row_numbers(self) -> int:
        n, dim = self.observation.count, self.dim
        return 2 * n * dim + 4 * n * n + 4 * dim

    def _guided(self, x: Array, t: float, moments: Moments) -> Guided:
        linear = self.observation.linearise(moments.mean)
        noise = self.observation.site_approximation(linear, self.predicted_variance(linear, t))
        weights, linear, log_likelihood = self.innovation(noise, linear, t)
        shift = moments.covariance.matvec(linear.jacobian.rmatvec(weights))
        return Guided(moments, moments.mean + shift, log_likelihood)


class SDADenoiser(FixedVarianceDenoiser):
    """S = R + γ σ²/α² I: the variance of the predicted observation is a multiple of the noise in x_t.

    Assumes that H C Hᵀ is γ σ²/α² I, which grows without bound towards T, where the prior's own bounds it.
    gamma: γ > 0, in units of η² per x_0². Raises: as `MeanLikelihood`; ValueError for γ ≤ 0. Source: Rozet &
    Louppe 2023 (SDA), eq. 11, Var = γ σ²/α².
    """

    name = "sda"

    def __init__(self, prior: Denoiser, observation: Observation, gamma: float = 1.0) -> None:
        super().__init__(prior, observation)
        if not real_parameter("SDADenoiser: gamma", gamma) > 0:
            raise ValueError(f"SDADenoiser: gamma must be positive; got {gamma!r}")
        self.gamma = gamma

    def predicted_variance(self, linear: Linearisation, t: float) -> Array:
        xp, backend = self.backend.xp, self.backend
        variance = self.gamma * self.sde.sigma(t) ** 2 / self.sde.alpha(t) ** 2
        return xp.full((self.observation.count,), variance, dtype=backend.dtype, device=backend.device)

    def innovation(
        self, noise: SiteApproximation, linear: Linearisation, t: float
    ) -> tuple[Array, Linearisation, Array]:
        xp, P = self.backend.xp, Diagonal(self.predicted_variance(linear, t))
        if not noise.diagonal:
            whole = Innovation.of(noise, linear, P.dense())
            return whole.weights, linear, whole.log_likelihood
        variance, residual = noise.noise.diagonal() + P.values, noise.y - linear.predicted
        pull = residual / variance
        logs = xp.sum(xp.log(2 * math.pi * variance), axis=-1)
        return pull, linear, noise.log_scale - 0.5 * (xp.sum(residual * pull, axis=-1) + logs)
