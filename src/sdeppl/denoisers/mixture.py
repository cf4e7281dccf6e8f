"""The exact denoiser of a Gaussian mixture x_0."""

import math
from typing import Any

from ..backend import require_arrays
from ..sde import AffineMarginals, IsotropicSDE, require_isotropic
from .base import Denoiser, Moments
from .covariance import MatrixCovariance
from .mixture_covariance import MixtureCovariance
from .spread import OneSpread, SeveralSpreads

MATRIX_LIMIT = 32  # dim up to which the covariance is a matrix for each row


class GaussianMixtureDenoiser(Denoiser):
    """x_0 ~ Σ_k w_k N(m_k, C_k): the mixture of the components' Gaussian conditionals.

    weights (components,), positive, normalised here; means (components, dim); covariances
    (components, dim, dim), positive definite; data units, one backend.
    Mean Σ r_k μ_k, covariance Σ r_k (S_k + μ_k μ_kᵀ) - mean meanᵀ, with responsibilities r_k of x_t.
    Where all C_k are equal one of them is kept (`eigenvalues` (1, dim), `bases` (1, dim, dim)), and no
    array has components × batch × dim numbers; where all are diagonal `bases` is None, and a call
    costs components × dim for each row; one covariance that is a multiple of I but for q directions adds
    q × dim, any other dim². Above dim = 32 the covariance is an operator.

    Raises: ValueError for shapes that do not fit, weights that are not positive, and covariances
    that are not symmetric and positive definite; TypeError for what is no array, or of another dtype.
    """

    def __init__(self, sde: IsotropicSDE, weights: Any, means: Any, covariances: Any) -> None:
        require_isotropic(sde, type(self).__name__)
        self.sde = sde
        name = type(self).__name__
        self.backend = require_arrays(name, means=means, weights=weights, covariances=covariances)
        if any(part is None for part in (weights, means, covariances)):
            raise TypeError(f"{name}: weights, means and covariances must be arrays; got None")
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
        basis = None if self.bases is None else self.bases[0, :, :]
        self.one = OneSpread.of(self.eigenvalues[0, :], basis) if self.eigenvalues.shape[0] == 1 else None

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
        matrices = SeveralSpreads(self.eigenvalues, self.bases).matrices()
        return self.backend.xp.broadcast_to(matrices, (*self.means.shape, self.dim))

    @property
    def marginals(self) -> AffineMarginals:
        """p_t in closed form; `marginals.sample(T, n)` starts a reverse SDE exactly."""
        return AffineMarginals(self.sde, self.backend.xp.exp(self.log_weights), self.means, self.covariances)

    def log_density(self, x: Any, t: float) -> Any:
        """ln p_t(x), (batch,)."""
        xp, alpha, sigma = self.backend.xp, self.sde.alpha(t), self.sde.sigma(t)
        variances = alpha**2 * self.eigenvalues + sigma**2
        x = self.sde.centre(x, t)
        if self.one is None:
            _, log_joint = self._several(x, alpha, variances)
            common = 0.5 * self.dim * math.log(2 * math.pi)
        else:
            inverse = self.one.map(lambda values: 1 / (alpha**2 * values + sigma**2))
            centred, log_joint, _ = self._one_covariance(x, alpha, inverse)
            squares = xp.sum(centred * inverse.rows(centred), axis=-1)
            common = 0.5 * (squares + xp.sum(xp.log(2 * math.pi * variances)))
        largest = xp.max(log_joint, axis=-1)
        return largest + xp.log(xp.sum(xp.exp(log_joint - largest[:, None]), axis=-1)) - common

    def sample(self, t: float, uniforms: Any, z: Any) -> Any:
        """Draws of x_t, (n, dim): uniforms (n,) choose the components, normals z (n, dim) the place.

        α m_k + shift + (α² C_k + σ² I)^½ z, with the symmetric root: alike on every backend.
        """
        xp, alpha, variance = self.backend.xp, self.sde.alpha(t), self.sde.sigma(t) ** 2
        below = xp.cumulative_sum(xp.exp(self.log_weights))[:-1]
        chosen = xp.sum(xp.astype(below <= uniforms[:, None], xp.int64), axis=-1)
        if self.one is not None:
            moved = self.one.map(lambda values: xp.sqrt(alpha**2 * values + variance)).rows(z)
        else:
            moved, roots = xp.zeros_like(z), xp.sqrt(alpha**2 * self.eigenvalues + variance)
            spreads = SeveralSpreads(roots, self.bases)
            for k in range(roots.shape[0]):
                moved = xp.where((chosen == k)[:, None], spreads.product(k, z.T).T, moved)
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

    def _conditional(self, x: Any, t: float) -> tuple[Any, MixtureCovariance]:
        """Mean and covariance of x_0 given x_t = x."""
        x, alpha, sigma = self.sde.centre(x, t), self.sde.alpha(t), self.sde.sigma(t)
        if self.one is None:
            return self._with_several(x, alpha, sigma)
        return self._with_one(self.one, x, alpha, sigma)

    def _one_covariance(self, x: Any, alpha: float, inverse: OneSpread) -> tuple[Any, Any, Any]:
        """x - α centre; log joints (batch, components) without what all share: ln N(x; α centre, ·), whose
        size would cost their differences digits; V⁻¹ (m_k - centre), with V⁻¹ given as `inverse`."""
        xp, relative = self.backend.xp, self.means - self.centre
        scaled, centred = inverse.rows(relative), x - alpha * self.centre
        squares = 0.5 * alpha**2 * xp.sum(relative * scaled, axis=-1)
        return centred, self.log_weights - squares + alpha * (centred @ scaled.T), scaled

    def _with_one(self, one: OneSpread, x: Any, alpha: float, sigma: float) -> tuple[Any, MixtureCovariance]:
        """Where all covariances are equal: μ_k = centre + α C V⁻¹ (x - α centre) + σ² V⁻¹ (m_k - centre)."""

        def over_variance(number: float) -> OneSpread:
            return one.map(lambda values: number * values / (alpha**2 * values + sigma**2))

        inverse = one.map(lambda values: 1 / (alpha**2 * values + sigma**2))
        centred, log_joint, scaled = self._one_covariance(x, alpha, inverse)
        shares, offsets = self._normalise(log_joint), sigma**2 * scaled
        mean = self.centre + over_variance(alpha).rows(centred) + shares @ offsets
        return mean, MixtureCovariance(shares, offsets, over_variance(sigma**2))

    def _several(self, x: Any, alpha: float, variances: Any) -> tuple[Any, Any]:
        """x - α m_k in the eigenbases, (components, batch, dim), and log joints without powers of 2π."""
        xp, variances = self.backend.xp, variances[:, None, :]
        centred = x[None, :, :] - alpha * self.means[:, None, :]
        centred = centred if self.bases is None else centred @ self.bases
        squares = xp.sum(centred * centred / variances + xp.log(variances), axis=-1)
        return centred, self.log_weights - 0.5 * squares.T

    def _with_several(self, x: Any, alpha: float, sigma: float) -> tuple[Any, MixtureCovariance]:
        """μ_k = m_k + α C_k V_k⁻¹ (x - α m_k) = x/α - σ²/α V_k⁻¹ (x - α m_k)."""
        xp = self.backend.xp
        variances = alpha**2 * self.eigenvalues + sigma**2
        spread = SeveralSpreads(sigma**2 * self.eigenvalues / variances, self.bases)
        centred, log_joint = self._several(x, alpha, variances)
        shares, variances = self._normalise(log_joint), variances[:, None, :]
        near = alpha > sigma  # to x/α: from there the offsets are small numbers, which keep their digits
        factor = (
            -(sigma**2) / (alpha * variances) if near else alpha * self.eigenvalues[:, None, :] / variances
        )
        moved = factor * centred
        moved = moved if self.bases is None else moved @ xp.matrix_transpose(self.bases)
        origin = x / alpha if near else self.centre
        offsets = moved if near else (self.means - origin)[:, None, :] + moved
        offsets = xp.permute_dims(offsets, (1, 0, 2))
        mean = origin + xp.sum(shares[..., None] * offsets, axis=1)
        return mean, MixtureCovariance(shares, offsets, spread)

    def _normalise(self, log_joint: Any) -> Any:
        """Responsibilities (batch, components)."""
        xp = self.backend.xp
        joint = xp.exp(log_joint - xp.max(log_joint, axis=-1, keepdims=True))
        return joint / xp.sum(joint, axis=-1, keepdims=True)
