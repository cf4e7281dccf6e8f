"""S⁻¹ (y - η) without forming S = H C Hᵀ + R: by conjugate gradients, or on few directions."""

from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

from ..backend import whole_number
from ..denoisers import Denoiser
from ..linalg import LinearOperator, conjugate_gradients
from .observation import Linearisation, Observation, SiteApproximation

TOLERANCE, LEARNED_TOLERANCE = 1e-6, 1e-3
LEARNED_ITERATIONS = 32
PRECONDITIONED = 512  # observed numbers up to which a matrix of their size is inverted in each step


def matrix_free_shift(
    observation: Observation,
    linear: Linearisation,
    covariance: LinearOperator,
    tolerance: float | None,
    iterations: int,
) -> Any:
    """C Hᵀ S⁻¹ (y - η), (batch, dim), by one product with C an iteration.

    Where C has a Gaussian part (`LinearOperator.near`), with one H and R for all rows, the iterations
    start from that part's S⁻¹, which leaves them what the network adds. A network's C is `learned`: 1e-3
    is its default tolerance, and 32 the most iterations, since its own error is larger. Of others it is 1e-6.
    """
    noise = observation.site_approximation(linear, 0 * linear.predicted)

    def product(v: Any) -> tuple[Any, Any]:
        wanted = covariance.matvec(linear.adjoint(v))
        return linear.forward(wanted) + noise.noise_product(v), wanted

    part = covariance.near
    learned = part is not None
    near = None if observation.hard else _near_inverse(linear, noise, part)  # without R it may not exist
    precondition = None if near is None else lambda r: r @ near
    residual = noise.y - linear.predicted
    goal = tolerance or (LEARNED_TOLERANCE if learned else TOLERANCE)
    most = min(iterations, LEARNED_ITERATIONS) if learned else iterations
    return conjugate_gradients(product, residual, goal, most, precondition, learned)


def _near_inverse(linear: Linearisation, noise: SiteApproximation, near: LinearOperator | None) -> Any:
    """(H C Hᵀ + R)⁻¹ (n, n) for a C near the true one, or None where no one matrix serves all rows."""
    count = noise.y.shape[-1]
    shared = linear.H.ndim == 2 and noise.R.ndim == (1 if noise.diagonal else 2)
    if near is None or not (near.shared and shared) or count > PRECONDITIONED:
        return None
    xp = array_namespace(linear.H)
    projected = linear.H @ near.matmat(linear.H.T)
    inverse = xp.linalg.inv(noise.add_noise(0.5 * (projected + projected.T)))
    return 0.5 * (inverse + inverse.T)


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
        rank = whole_number("rank", rank, 1)
        xp, sde = prior.backend.xp, prior.sde
        x = xp.zeros((1, prior.dim), dtype=prior.backend.dtype, device=prior.backend.device)
        moments = prior(x + sde.shift(sde.T), sde.T)
        H = observation.linearise(moments.mean).H
        H = H if H.ndim == 2 else H[0, ...]
        cross = moments.covariance.matmat(H.T)
        cross = cross if cross.ndim == 2 else cross[0, ...]
        projected = H @ cross
        _, basis = xp.linalg.eigh(0.5 * (projected + projected.T))
        return cls(basis[:, max(observation.count - rank, 0) :])

    def weights(self, observation: Observation, linear: Linearisation, covariance: LinearOperator) -> Any:
        """S⁻¹ (y - η), (batch, n), by rank products with C and Woodbury's identity."""
        xp = array_namespace(linear.predicted)
        columns = (
            linear.H.T @ self.directions
            if linear.H.ndim == 2
            else (xp.matrix_transpose(linear.H) @ self.directions)
        )
        Y = linear.H @ covariance.matmat(columns)
        core = self.directions.T @ Y
        core = 0.5 * (core + xp.matrix_transpose(core))
        noise = observation.site_approximation(linear, xp.sum(Y * self.directions, axis=-1))
        R = noise.add_noise(0 * (Y @ xp.matrix_transpose(Y)))
        residual = (noise.y - linear.predicted)[..., None]
        scaled = xp.linalg.solve(R, xp.broadcast_to(Y, (*residual.shape[:-2], *Y.shape[-2:])))
        inner = core + xp.matrix_transpose(Y) @ scaled
        alone = xp.linalg.solve(R, residual)
        return (alone - scaled @ xp.linalg.solve(inner, xp.matrix_transpose(Y) @ alone))[..., 0]
