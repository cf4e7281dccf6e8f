"""S⁻¹ (y - η) without forming S = H C Hᵀ + R: by conjugate gradients, or on few directions."""

from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

from ..denoisers import Covariance, Denoiser
from .conjugate_gradients import conjugate_gradients
from .observation import Linearisation, Observation


def matrix_free_weights(
    observation: Observation, linear: Linearisation, covariance: Covariance, tolerance: float, iterations: int
) -> Any:
    """S⁻¹ (y - η), (batch, n), by one product with C an iteration."""
    noise = observation.surrogate(linear, 0 * linear.predicted)

    def product(v: Any) -> Any:
        return linear.forward(covariance.product(linear.adjoint(v))) + noise.noise_product(v)

    return conjugate_gradients(product, noise.y - linear.predicted, tolerance, iterations)


@dataclass(frozen=True)
class LowRank:
    """S ≈ Y (Ωᵀ Y)⁻¹ Yᵀ + R with Y = H C Hᵀ Ω (Nyström), Ω (n, rank) the same at every t.

    Ω: the leading eigenvectors of H C Hᵀ at T, where C is nearly the prior's covariance. Exact where
    H C Hᵀ has no more than `rank` directions. Source: Williams & Seeger 2001.
    """

    directions: Any

    @classmethod
    def of(cls, prior: Denoiser, observation: Observation, rank: int) -> "LowRank":
        """From the prior's covariance at T. Raises: ValueError for a rank below 1."""
        if rank < 1:
            raise ValueError(f"rank must be at least 1; got {rank}")
        xp, sde = prior.backend.xp, prior.sde
        x = xp.zeros((1, prior.dim), dtype=prior.backend.dtype, device=prior.backend.device)
        moments = prior(x + sde.shift(sde.T), sde.T)
        H = observation.linearise(moments.mean).H
        H = H if H.ndim == 2 else H[0, ...]
        cross = moments.covariance.columns(H.T)
        cross = cross if cross.ndim == 2 else cross[0, ...]
        projected = H @ cross
        _, basis = xp.linalg.eigh(0.5 * (projected + projected.T))
        return cls(basis[:, max(observation.count - rank, 0) :])

    def weights(self, observation: Observation, linear: Linearisation, covariance: Covariance) -> Any:
        """S⁻¹ (y - η), (batch, n), by rank products with C and Woodbury's identity."""
        xp = array_namespace(linear.predicted)
        columns = (
            linear.H.T @ self.directions
            if linear.H.ndim == 2
            else (xp.matrix_transpose(linear.H) @ self.directions)
        )
        Y = linear.H @ covariance.columns(columns)
        core = self.directions.T @ Y
        core = 0.5 * (core + xp.matrix_transpose(core))
        noise = observation.surrogate(linear, xp.sum(Y * self.directions, axis=-1))
        R = noise.add_noise(0 * (Y @ xp.matrix_transpose(Y)))
        residual = (noise.y - linear.predicted)[..., None]
        scaled = xp.linalg.solve(R, xp.broadcast_to(Y, (*residual.shape[:-2], *Y.shape[-2:])))
        inner = core + xp.matrix_transpose(Y) @ scaled
        alone = xp.linalg.solve(R, residual)
        return (alone - scaled @ xp.linalg.solve(inner, xp.matrix_transpose(Y) @ alone))[..., 0]
