"""The exact denoiser of a Gaussian mixture x_0."""

import math
from typing import Any

from ..backend import require_arrays
from ..sde import AffineMarginals, IsotropicSDE, require_isotropic
from .base import Denoiser, Moments
from .covariance import MatrixCovariance


class GaussianMixtureDenoiser(Denoiser):
    """x_0 ~ Σ_k w_k N(m_k, C_k): the mixture of the components' Gaussian conditionals.

    weights (components,), positive, normalised here; means (components, dim); covariances
    (components, dim, dim), positive definite; data units, one backend.
    Mean Σ r_k μ_k, covariance Σ r_k (S_k + μ_k μ_kᵀ) - mean meanᵀ, with responsibilities r_k of x_t.

    Raises: ValueError for shapes that do not fit, weights that are not positive, and covariances
    that are not symmetric and positive definite; TypeError for what is no array, or of another dtype.
    """

    def __init__(self, sde: IsotropicSDE, weights: Any, means: Any, covariances: Any) -> None:
        require_isotropic(sde, type(self).__name__)
        self.sde = sde
        name = type(self).__name__
        self.backend = require_arrays(name, means=means, weights=weights, covariances=covariances)
        shapes = tuple(weights.shape), tuple(means.shape), tuple(covariances.shape)
        if means.ndim != 2 or shapes != (shapes[1][:1], shapes[1], shapes[1] + shapes[1][1:]):
            raise ValueError(
                "expected weights (k,), means (k, dim), covariances (k, dim, dim); got "
                f"{shapes[0]}, {shapes[1]}, {shapes[2]}"
            )
        self.dim = means.shape[1]
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

    def __repr__(self) -> str:
        return f"GaussianMixtureDenoiser({self.sde}, components={self.means.shape[0]}, dim={self.dim})"

    def __call__(self, x: Any, t: float) -> Moments:
        xp = self.backend.xp
        if x.ndim != 2 or x.shape[1] != self.dim:
            raise ValueError(f"GaussianMixtureDenoiser: x must be (batch, {self.dim}); got {tuple(x.shape)}")
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
        if x.shape[-1] != self.dim:
            raise ValueError(f"GaussianMixtureDenoiser: x must be (..., {self.dim}); got {tuple(x.shape)}")
        responsibilities, means = self._components(xp.reshape(x, (-1, self.dim)), t)
        return xp.reshape(xp.sum(responsibilities[..., None] * means, axis=0), x.shape)

    @property
    def marginals(self) -> AffineMarginals:
        """p_t in closed form; `marginals.sample(T, n)` starts a reverse SDE exactly."""
        xp = self.backend.xp
        covariances = (self.bases * self.eigenvalues[:, None, :]) @ xp.matrix_transpose(self.bases)
        return AffineMarginals(self.sde, xp.exp(self.log_weights), self.means, covariances)

    def log_density(self, x: Any, t: float) -> Any:
        """ln p_t(x), (batch,)."""
        return self.marginals.log_density(x, t)

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
