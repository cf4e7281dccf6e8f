"""The exact denoiser of a Gaussian mixture x_0."""

import math
from typing import Any

from scipy.special import ndtri

from ..backend import place, require_arrays, to_host
from ..sde import AffineMarginals, IsotropicSDE, require_isotropic
from .base import Denoiser, Moments
from .covariance import MatrixCovariance
from .mixture_covariance import MixtureCovariance

MATRIX_LIMIT = 32  # dim up to which the covariance is a matrix for each row


class GaussianMixtureDenoiser(Denoiser):
    """x_0 ~ Σ_k w_k N(m_k, C_k): the mixture of the components' Gaussian conditionals.

    weights (components,), positive, normalised here; means (components, dim); covariances
    (components, dim, dim), positive definite; data units, one backend.
    Mean Σ r_k μ_k, covariance Σ r_k (S_k + μ_k μ_kᵀ) - mean meanᵀ, with responsibilities r_k of x_t.
    Where all C_k are equal one of them is kept (`eigenvalues` (1, dim), `bases` (1, dim, dim)), and no
    array has components × batch × dim numbers; where all are diagonal `bases` is None, and a call
    costs components × dim for each row. Above dim = 32 the covariance is an operator.

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
        self.eigenvalues, self.bases = self._decompose(covariances)
        if not bool(xp.all(self.eigenvalues > 0)):
            raise ValueError("the covariances of a mixture must be positive definite")
        # of all components, so that offsets from it lose no digits to a mean that is far from zero
        self.centre = xp.sum(xp.exp(self.log_weights)[:, None] * means, axis=0)
        self.relative: Any = self._rotate(means - self.centre) if self.eigenvalues.shape[0] == 1 else None

    def __repr__(self) -> str:
        return f"GaussianMixtureDenoiser({self.sde}, components={self.means.shape[0]}, dim={self.dim})"

    def __call__(self, x: Any, t: float) -> Moments:
        if x.ndim != 2 or x.shape[1] != self.dim:
            raise ValueError(f"GaussianMixtureDenoiser: x must be (batch, {self.dim}); got {tuple(x.shape)}")
        mean, covariance = self._conditional(x, t)
        small = self.dim <= MATRIX_LIMIT
        return Moments(mean, MatrixCovariance(covariance.dense()) if small else covariance)

    def mean(self, x: Any, t: float) -> Any:
        xp = self.backend.xp
        if x.shape[-1] != self.dim:
            raise ValueError(f"GaussianMixtureDenoiser: x must be (..., {self.dim}); got {tuple(x.shape)}")
        mean, _ = self._conditional(xp.reshape(x, (-1, self.dim)), t)
        return xp.reshape(mean, x.shape)

    def covariance_slope(self, x: Any, t: float, V: Any, w: Any) -> Any:
        """As of any denoiser, here in closed form."""
        _, covariance = self._conditional(x, t)
        return self.sde.alpha(t) / self.sde.sigma(t) ** 2 * covariance.third_moment(V, w)

    @property
    def covariances(self) -> Any:
        """C_k, (components, dim, dim)."""
        xp = self.backend.xp
        if self.bases is None:
            identity = xp.eye(self.dim, dtype=self.backend.dtype, device=self.backend.device)
            matrices = self.eigenvalues[:, None, :] * identity
        else:
            matrices = (self.bases * self.eigenvalues[:, None, :]) @ xp.matrix_transpose(self.bases)
        return xp.broadcast_to(matrices, (*self.means.shape, self.dim))

    @property
    def marginals(self) -> AffineMarginals:
        """p_t in closed form; `marginals.sample(T, n)` starts a reverse SDE exactly."""
        return AffineMarginals(self.sde, self.backend.xp.exp(self.log_weights), self.means, self.covariances)

    def log_density(self, x: Any, t: float) -> Any:
        """ln p_t(x), (batch,)."""
        xp, sde = self.backend.xp, self.sde
        alpha = sde.alpha(t)
        variances = alpha**2 * self.eigenvalues + sde.sigma(t) ** 2
        if self.relative is None:
            _, log_joint = self._several(sde.centre(x, t), alpha, variances)
            common = 0.5 * self.dim * math.log(2 * math.pi)
        else:
            centred, log_joint = self._one_covariance(sde.centre(x, t), alpha, variances)
            common = 0.5 * xp.sum(centred * centred / variances + xp.log(2 * math.pi * variances), axis=-1)
        largest = xp.max(log_joint, axis=-1)
        return largest + xp.log(xp.sum(xp.exp(log_joint - largest[:, None]), axis=-1)) - common

    def sample(self, t: float, z: Any) -> Any:
        """Draws of x_t, (n, dim), from normals z (n, dim + 1), whose first column chooses the component.

        α m_k + shift + (α² C_k + σ² I)^½ z, with the symmetric root: alike on every backend.
        """
        xp, alpha = self.backend.xp, self.sde.alpha(t)
        below = to_host(xp.cumulative_sum(xp.exp(self.log_weights)))[:-1]
        edges = place(ndtri(below.clip(0.0, 1.0)), self.backend)
        chosen = xp.sum(xp.astype(z[:, :1] > edges, xp.int64), axis=-1)
        scales = xp.sqrt(alpha**2 * self.eigenvalues + self.sde.sigma(t) ** 2)
        moved = xp.zeros_like(z[:, 1:])
        for k in range(scales.shape[0]):
            basis = None if self.bases is None else self.bases[k, :, :]
            along = z[:, 1:] if basis is None else z[:, 1:] @ basis
            stretched = scales[k, :] * along if basis is None else (scales[k, :] * along) @ basis.T
            one = self.relative is not None
            moved = stretched if one else xp.where((chosen == k)[:, None], stretched, moved)
        return alpha * xp.take(self.means, chosen, axis=0) + moved + self.sde.shift(t)

    def _decompose(self, covariances: Any) -> tuple[Any, Any]:
        """Eigenvalues and eigenvectors: one row where all are equal, no vectors where all are diagonal."""
        xp = self.backend.xp
        if bool(xp.all(covariances == covariances[:1, :, :])):
            covariances = covariances[:1, :, :]
        asymmetry = xp.abs(covariances - xp.matrix_transpose(covariances))
        if not bool(xp.all(asymmetry <= 1e-6 * xp.max(xp.abs(covariances)))):
            raise ValueError("the covariances of a mixture must be symmetric and finite")
        diagonal = xp.linalg.diagonal(covariances)
        identity = xp.eye(self.dim, dtype=covariances.dtype, device=self.backend.device)
        if bool(xp.all(covariances == diagonal[:, None, :] * identity)):
            return diagonal, None
        return xp.linalg.eigh(covariances)

    def _rotate(self, x: Any, back: bool = False) -> Any:
        """x (..., dim) in the components' eigenbases, or back from these."""
        if self.bases is None:
            return x
        bases = self.bases if self.eigenvalues.shape[0] > 1 else self.bases[0, :, :]
        return x @ (self.backend.xp.matrix_transpose(bases) if back else bases)

    def _conditional(self, x: Any, t: float) -> tuple[Any, MixtureCovariance]:
        """Mean and covariance of x_0 given x_t = x."""
        x = self.sde.centre(x, t)
        alpha, sigma = self.sde.alpha(t), self.sde.sigma(t)
        variances = alpha**2 * self.eigenvalues + sigma**2
        spread = sigma**2 * self.eigenvalues / variances
        moments = self._of_one_covariance if self.eigenvalues.shape[0] == 1 else self._of_several
        shares, mean, offsets = moments(x, alpha, sigma, variances)
        return mean, MixtureCovariance(shares, offsets, spread, self.bases)

    def _one_covariance(self, x: Any, alpha: float, variances: Any) -> tuple[Any, Any]:
        """x - α centre in the eigenbasis, and log joints (batch, components) without what all share: ln
        N(x; α centre, ·), whose size would cost their differences digits."""
        xp, relative = self.backend.xp, self.relative
        centred = self._rotate(x - alpha * self.centre)
        squares = 0.5 * alpha**2 * xp.sum(relative * relative / variances, axis=-1)
        return centred, self.log_weights - squares + (alpha / variances * centred) @ relative.T

    def _several(self, x: Any, alpha: float, variances: Any) -> tuple[Any, Any]:
        """x - α m_k in the eigenbases, (components, batch, dim), and log joints without powers of 2π."""
        xp, variances = self.backend.xp, variances[:, None, :]
        centred = self._rotate(x[None, :, :] - alpha * self.means[:, None, :])
        squares = xp.sum(centred * centred / variances + xp.log(variances), axis=-1)
        return centred, self.log_weights - 0.5 * squares.T

    def _of_one_covariance(self, x: Any, alpha: float, sigma: float, variances: Any) -> tuple[Any, Any, Any]:
        """Shares (batch, components), mean (batch, dim) and offsets (components, dim) of the conditionals."""
        centred, log_joint = self._one_covariance(x, alpha, variances)
        shares = self._normalise(log_joint)
        offsets = self._rotate(sigma**2 / variances * self.relative, back=True)
        pulled = self._rotate(alpha * self.eigenvalues / variances * centred, back=True)
        return shares, self.centre + pulled + shares @ offsets, offsets

    def _of_several(self, x: Any, alpha: float, sigma: float, variances: Any) -> tuple[Any, Any, Any]:
        """The same, offsets (batch, components, dim)."""
        centred, log_joint = self._several(x, alpha, variances)
        xp, shares, variances = self.backend.xp, self._normalise(log_joint), variances[:, None, :]
        if alpha > sigma:  # from x/α, which they are near to: small numbers keep their digits
            origin = x / alpha
            offsets = self._rotate(sigma**2 / (-alpha * variances) * centred, back=True)
        else:
            origin, factor = self.centre, alpha * self.eigenvalues[:, None, :] / variances
            offsets = (self.means - origin)[:, None, :] + self._rotate(factor * centred, back=True)
        offsets = xp.permute_dims(offsets, (1, 0, 2))
        return shares, origin + xp.sum(shares[..., None] * offsets, axis=1), offsets

    def _normalise(self, log_joint: Any) -> Any:
        """Responsibilities (batch, components)."""
        xp = self.backend.xp
        joint = xp.exp(log_joint - xp.max(log_joint, axis=-1, keepdims=True))
        return joint / xp.sum(joint, axis=-1, keepdims=True)
