"""The local covariance of x_t given y, as the scale of a Langevin step."""

from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

from ..denoisers import Denoiser
from ..likelihood import Guided, MeanLikelihood, PseudoObservation, psd_part
from ..linalg import LinearOperator
from .kernel import DENSE_LIMIT, LEARNED_LIMIT, rows

VISIBLE = 32  # units of rounding below which 1 - α²/σ² λ is not known


@dataclass(frozen=True)
class LocalScale:
    """P = V diag(v) Vᵀ, positive definite: where it is local, one for each row.

    variances: v, (batch, dim) or (dim,), or a number; basis: V, (batch, dim, dim) or (dim, dim), None for I.
    """

    variances: Any
    basis: Any | None = None

    @property
    def local(self) -> bool:
        """Whether each row has its own."""
        return self.basis is not None and self.basis.ndim == 3

    @property
    def log_volume(self) -> Any:
        """½ ln det P but for what is the same for all rows: (batch,) where local, else 0."""
        if not self.local:
            return 0.0
        xp = array_namespace(self.variances)
        return 0.5 * xp.sum(xp.log(self.variances), axis=-1)

    def inside(self, v: Any) -> Any:
        """Vᵀ v, row by row: (batch, dim)."""
        if self.basis is None:
            return v
        return rows(array_namespace(v).matrix_transpose(self.basis), v)

    def outside(self, v: Any) -> Any:
        """V v, row by row: (batch, dim)."""
        return v if self.basis is None else rows(self.basis, v)

    @property
    def deviations(self) -> Any:
        """√v."""
        if isinstance(self.variances, float):
            return self.variances**0.5
        return array_namespace(self.variances).sqrt(self.variances)

    def take(self, chosen: Any, other: "LocalScale") -> "LocalScale":
        """This one in the rows where `chosen` (batch,), else the other."""
        if not self.local:
            return self
        xp = array_namespace(chosen)
        return LocalScale(
            xp.where(chosen[:, None], self.variances, other.variances),
            xp.where(chosen[:, None, None], self.basis, other.basis),
        )


def is_cheap(covariance: LinearOperator, dim: int) -> bool:
    """Whether eigenvectors of the covariance are affordable at every step."""
    return covariance.shared or dim <= (LEARNED_LIMIT if covariance.may_be_indefinite else DENSE_LIMIT)


def local_scale(denoiser: Denoiser, guided: Guided, t: float) -> LocalScale:
    """What -∂² ln p(x_t given y) says of its width: P = σ² |I - α²/σ² C_y|⁻¹, C_y = Cov[x_0 given x_t, y].

    By Tweedie's formula the matrix in bars, over σ², is that Hessian for an exact likelihood. For Gaussians P
    is the covariance of x_t given y, α² Cov[x_0 given y] + σ²; for a mixture that of the mode near x_t;
    between modes, where the Hessian has negative eigenvalues, their absolute values count. The eigenvectors
    of each row cost about dim³: done up to 64 numbers in x, 16 where C is learned and takes a product for
    each, and at any number where one matrix serves all rows. Otherwise P = σ², the least that P can be
    along any direction: no step is then too long, but many are needed to move further than the noise.

    Source: Betancourt 2013 (SoftAbs), for the absolute value.
    """
    alpha, sigma = denoiser.sde.alpha(t), denoiser.sde.sigma(t)
    if not is_cheap(guided.prior.covariance, denoiser.dim):
        return LocalScale(sigma**2)
    matrix = _guided_covariance(denoiser, guided)
    xp = array_namespace(matrix)
    matrix = 0.5 * (matrix + xp.matrix_transpose(matrix))
    # eigenvectors of NaN are an error in some libraries; such a row is never accepted anyway
    finite = xp.all(xp.isfinite(matrix), axis=(-2, -1), keepdims=True)
    shares, basis = xp.linalg.eigh(xp.where(finite, matrix, xp.zeros_like(matrix)))
    visible = VISIBLE * float(xp.finfo(matrix.dtype).eps)
    return LocalScale(sigma**2 / xp.clip(xp.abs(1 - (alpha / sigma) ** 2 * shares), min=visible), basis)


def _guided_covariance(denoiser: Denoiser, guided: Guided) -> Any:
    """C - C Hᵀ (H C Hᵀ + R)⁻¹ H C, (dim, dim) or (batch, dim, dim).

    By the observation's own H where the method gives none, and without one by C alone. Not by draws: at small
    t all that matters is by how little α²/σ² C_y differs from I, which they do not see.
    """
    covariance = psd_part(guided.prior.covariance, denoiser.dim)
    matrix = covariance.dense()
    pseudo = guided.pseudo_observation
    if pseudo is None and isinstance(denoiser, MeanLikelihood) and denoiser.observation.has_jacobian:
        pseudo = _pseudo_observation(denoiser, guided, matrix)
    if pseudo is None:
        return matrix
    xp = array_namespace(matrix)
    reduction = pseudo.reduction(covariance.matmat(xp.matrix_transpose(pseudo.H)))
    return matrix - reduction @ xp.matrix_transpose(reduction)


def _pseudo_observation(
    denoiser: MeanLikelihood, guided: Guided, covariance: Any
) -> PseudoObservation | None:
    """The observation as a Gaussian one near E[x_0 given x_t]."""
    if not denoiser.observation.count:
        return None
    linear = denoiser.observation.linearise(guided.prior.mean)
    xp = array_namespace(linear.predicted)
    projected = linear.H @ covariance @ xp.matrix_transpose(linear.H)
    return PseudoObservation(
        linear.H, denoiser.observation.site_approximation(linear, xp.linalg.diagonal(projected))
    )
