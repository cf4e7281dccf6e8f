"""The exact denoiser of a Gaussian mixture x_0."""

import math
from typing import Any

from ..backend import backend_of, require_floating, require_same
from ..sde import AffineMarginals, IsotropicSDE, require_isotropic
from .base import Denoiser, Moments
from .covariance import MatrixCovariance


class GaussianMixtureDenoiser(Denoiser):
    """x_0 ~ Σ_k w_k N(m_k, C_k): the mixture of the components' Gaussian conditionals.

    weights (components,), positive, normalised here; means (components, dim); covariances
    (components, dim, dim), positive definite; data units, one backend.
    Mean Σ r_k μ_k, covariance Σ r_k (S_k + μ_k μ_kᵀ) - mean meanᵀ, with responsibilities r_k of x_t.

    Raises: ValueError for shapes that do not fit, weights that are not positive, and covariances
    that are not symmetric and positive definite.
    """

    def __init__(self, sde: IsotropicSDE, weights: Any, means: Any, covariances: Any) -> None:
        require_isotropic(sde, type(self).__name__)
        self.sde = sde
        self.backend = backend_of(means)
        require_floating(self.backend)
        require_same(self.backend, weights=weights, covariances=covariances)
        components, self.dim = means.shape
        shapes = tuple(weights.shape), tuple(covariances.shape)
        if shapes != ((components,), (components, self.dim, self.dim)):
            raise ValueError(
                f"expected weights (k,), means (k, dim), covariances (k, dim, dim); got {shapes[0]}, "
                f"{tuple(means.shape)}, {shapes[1]}"
            )
        xp = self.backend.xp
        if not bool(xp.all(weights > 0)):
            raise ValueError("the weights of a mixture must be positive")
        self.log_weights = xp.log(weights / xp.sum(weights))
        self.means = means
        asymmetry = xp.abs(covariances - xp.matrix_transpose(covariances))
        if not bool(xp.all(asymmetry <= 1e-6 * xp.max(xp.abs(covariances)))):
            raise ValueError("the covariances of a mixture must be symmetric and finite")
        self.eigenvalues, self.bases = xp.linalg.eigh(covariances)
        if not bool(xp.all(self.eigenvalues > 0)):
            raise ValueError("the covariances of a mixture must be positive definite")

    def __call__(self, x: Any, t: float) -> Moments:
        xp = self.backend.xp
        responsibilities, means = self._components(x, t)
        mean = xp.sum(responsibilities[..., None] * means, axis=0)
        alpha, sigma = self.sde.alpha(t), self.sde.sigma(t)
        scales = sigma**2 * self.eigenvalues / (alpha**2 * self.eigenvalues + sigma**2)
        within = (self.bases * scales[:, None, :]) @ xp.matrix_transpose(self.bases)
        shape = (within.shape[0], self.dim * self.dim)
        weighted = responsibilities.T @ xp.reshape(within, shape)
        centred = xp.sqrt(responsibilities)[..., None] * (means - mean)
        centred = xp.permute_dims(centred, (1, 2, 0))
        matrix = xp.reshape(weighted, (-1, self.dim, self.dim)) + centred @ xp.matrix_transpose(centred)
        return Moments(mean, MatrixCovariance(matrix))

    def mean(self, x: Any, t: float) -> Any:
        xp = self.backend.xp
        responsibilities, means = self._components(x, t)
        return xp.sum(responsibilities[..., None] * means, axis=0)

    def log_density(self, x: Any, t: float) -> Any:
        """ln p_t(x), (batch,)."""
        xp = self.backend.xp
        covariances = (self.bases * self.eigenvalues[:, None, :]) @ xp.matrix_transpose(self.bases)
        return AffineMarginals(self.sde, xp.exp(self.log_weights), self.means, covariances).log_density(x, t)

    def _components(self, x: Any, t: float) -> tuple[Any, Any]:
        """Responsibilities (components, batch) and conditional means (components, batch, dim)."""
        xp, x = self.backend.xp, self.sde.centre(x, t)
        alpha, sigma = self.sde.alpha(t), self.sde.sigma(t)
        variance = (alpha**2 * self.eigenvalues + sigma**2)[:, None, :]
        centred = (x[None, :, :] - alpha * self.means[:, None, :]) @ self.bases
        squared = xp.sum(centred * centred / variance + xp.log(2 * math.pi * variance), axis=-1)
        log_joint = self.log_weights[:, None] - 0.5 * squared
        log_joint = log_joint - xp.max(log_joint, axis=0)
        joint = xp.exp(log_joint)
        shrunk = alpha * self.eigenvalues[:, None, :] / variance * centred
        means = self.means[:, None, :] + shrunk @ xp.matrix_transpose(self.bases)
        return joint / xp.sum(joint, axis=0), means
