"""The exact posteriors of many data sets at once, where they have a closed form."""

import copy
from typing import Any

from ..backend import Backend
from ..denoisers import Denoiser, Dense, GaussianDenoiser, GaussianMixtureDenoiser, Moments
from ..sde import IsotropicSDE
from .base import require_fit
from .exact import condition_gaussians
from .observation import Observation


class MixtureRows(Denoiser):
    """x_0 given x_t under a mixture of its own for each row: Σ_k w_rk N(m_rk, C_k), r the row's data set.

    log_weights (data sets, components), normalised; means (data sets, components, dim); covariances
    (1 or components, dim, dim), which the data sets share, positive semidefinite. log_evidence: ln p(y) of
    each data set, (data sets,). A call takes as many rows x_t as there are data sets: `of_sets` repeats
    them. It costs components × dim² for each row.
    """

    def __init__(
        self, sde: IsotropicSDE, backend: Backend, log_weights: Any, means: Any, C: Any, log_evidence: Any
    ) -> None:
        self.sde, self.backend, self.dim = sde, backend, means.shape[-1]
        self.log_weights, self.means, self.log_evidence = log_weights, means, log_evidence
        xp = backend.xp
        eigenvalues, self.bases = xp.linalg.eigh(C)
        # what rounding leaves of a direction without variance
        floor = 4 * self.dim * float(xp.finfo(C.dtype).eps) * xp.max(eigenvalues)
        self.eigenvalues = xp.where(eigenvalues > floor, eigenvalues, xp.zeros_like(eigenvalues))

    @property
    def sets(self) -> int:
        """Number of data sets."""
        count: int = self.means.shape[0]
        return count

    @property
    def smallest_sd(self) -> float:
        """Of x_0 given y, within a component, along any direction in which it varies."""
        xp, variances = self.backend.xp, self.eigenvalues
        varying = xp.where(variances > 0, variances, xp.max(variances) + 0 * variances)
        return float(xp.sqrt(xp.min(varying)))

    def of_sets(self, index: Any) -> "MixtureRows":
        """The data sets `index` (rows,), one for each row of x_t."""
        xp, chosen = self.backend.xp, copy.copy(self)
        for name in ("log_weights", "means", "log_evidence"):
            setattr(chosen, name, xp.take(getattr(self, name), index, axis=0))
        return chosen

    def mean(self, x: Any, t: float) -> Any:
        shares, means, _ = self._parts(x, t)
        return self.backend.xp.sum(shares[..., None] * means, axis=1)

    def __call__(self, x: Any, t: float) -> Moments:
        xp, (shares, means, variances) = self.backend.xp, self._parts(x, t)
        mean = xp.sum(shares[..., None] * means, axis=1)
        within = (self.bases * variances[:, None, :]) @ xp.matrix_transpose(self.bases)
        count = means.shape[1]
        within = xp.broadcast_to(within, (count, self.dim, self.dim))
        flat = shares @ xp.reshape(within, (count, self.dim * self.dim))
        offsets = means - mean[:, None, :]
        between = xp.matrix_transpose(shares[..., None] * offsets) @ offsets
        return Moments(mean, Dense(xp.reshape(flat, between.shape) + between))

    def end(self, uniforms: Any, z: Any) -> Any:
        """x_T given y, exactly: uniforms (rows,) choose the component, normals z (rows, dim) the place."""
        xp, sde, count = self.backend.xp, self.sde, self.means.shape[1]
        alpha, sigma = sde.alpha(sde.T), sde.sigma(sde.T)
        below = xp.cumulative_sum(xp.exp(self.log_weights), axis=1)[:, :-1]
        chosen = xp.sum(xp.astype(below <= uniforms[:, None], xp.int64), axis=-1)
        scales = xp.sqrt(alpha**2 * self.eigenvalues + sigma**2)
        roots = (self.bases * scales[:, None, :]) @ xp.matrix_transpose(self.bases)
        places = xp.arange(count, dtype=xp.int64, device=self.backend.device)
        picked = xp.astype(places == chosen[:, None], z.dtype)[..., None]
        mean = xp.sum(picked * self.means, axis=1)
        if roots.shape[0] == 1:
            moved = z @ roots[0, ...]
        else:
            moved = xp.sum(picked * xp.permute_dims(z @ roots, (1, 0, 2)), axis=1)
        return alpha * mean + moved + sde.shift(sde.T)

    def _parts(self, x: Any, t: float) -> tuple[Any, Any, Any]:
        """Responsibilities (rows, k), means of x_0 given x_t (rows, k, dim), variances (1 or k, dim)."""
        xp, sde = self.backend.xp, self.sde
        alpha, sigma = sde.alpha(t), sde.sigma(t)
        variances = alpha**2 * self.eigenvalues + sigma**2
        centred = sde.centre(x, t)[:, None, :] - alpha * self.means
        inside = self._rotated(centred, self.bases)
        squares = xp.sum(inside * inside / variances + xp.log(variances), axis=-1)
        log_joint = self.log_weights - 0.5 * squares
        joint = xp.exp(log_joint - xp.max(log_joint, axis=-1, keepdims=True))
        shares = joint / xp.sum(joint, axis=-1, keepdims=True)
        moved = self._rotated(alpha * self.eigenvalues / variances * inside, xp.matrix_transpose(self.bases))
        return shares, self.means + moved, sigma**2 * self.eigenvalues / variances

    def _rotated(self, v: Any, matrices: Any) -> Any:
        """v (rows, k, dim) times a matrix (dim, dim) for each k, or one for all."""
        if matrices.shape[0] == 1:
            return v @ matrices[0, ...]
        xp = self.backend.xp
        return xp.permute_dims(xp.permute_dims(v, (1, 0, 2)) @ matrices, (1, 0, 2))


def exact_rows(prior: Denoiser, observation: Observation) -> MixtureRows:
    """`exact_posterior` of each data set of the observation, y (data sets, observations).

    prior and observation: such that `has_exact_posterior`. Raises: as `exact_posterior`.
    """
    require_fit(prior, observation)
    xp = prior.backend.xp
    if isinstance(prior, GaussianDenoiser):
        covariance = (prior.basis * prior.eigenvalues) @ prior.basis.T
        means, C, logs = condition_gaussians(prior.location[None, :], covariance, observation)
        return MixtureRows(prior.sde, prior.backend, 0 * logs, means, C[None, ...], logs[:, 0])
    assert isinstance(prior, GaussianMixtureDenoiser)
    if prior.mixture.covariances.shared:  # one covariance for all
        means, C, logs = condition_gaussians(prior.means, prior.covariances[0, ...], observation)
        C = C[None, ...]
    else:
        each = [
            condition_gaussians(prior.means[k : k + 1, :], prior.covariances[k, ...], observation)
            for k in range(prior.means.shape[0])
        ]
        means = xp.concat([mean for mean, _, _ in each], axis=1)
        C = xp.stack([covariance for _, covariance, _ in each])
        logs = xp.concat([log for _, _, log in each], axis=1)
    log_joint = prior.log_weights + logs
    largest = xp.max(log_joint, axis=1, keepdims=True)
    evidence = largest + xp.log(xp.sum(xp.exp(log_joint - largest), axis=1, keepdims=True))
    return MixtureRows(prior.sde, prior.backend, log_joint - evidence, means, C, evidence[:, 0])
