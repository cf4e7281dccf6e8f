"""The exact denoiser of a Gaussian mixture x_0."""

import copy

from array_api_compat import device

from ..backend import Array, array_namespace, backend_of, require_arrays
from ..linalg import Dense, Diagonal, Diagonalisable, LinearOperator, Spectral, Symmetric, matmat
from ..sde import AffineMarginals, IsotropicSDE, require_isotropic
from ..sde.marginals import GaussianMixture, combined, shares
from .base import Denoiser, Moments, weight_matrix

MATRIX_LIMIT = 32  # dim up to which the covariance is a matrix for each row


class MixtureCovariance(Symmetric):
    """Of Σ_k r_k N(μ_k, S_k): C = Σ_k r_k S_k + Σ_k r_k δ_k δ_kᵀ, with δ_k = μ_k - Σ_j r_j μ_j.

    shares: r_k, (batch, components), summing to one; offsets: μ_k up to a vector that is the same for all
    k, (components, dim) where nothing else depends on the row, or (batch, components, dim); within: the S_k,
    or the one that they all are. A product costs components × dim for each row, and that with the S_k.
    """

    def __init__(self, shares: Array, offsets: Array, within: LinearOperator) -> None:
        dim = offsets.shape[-1]
        super().__init__((dim, dim), shares.shape[0], shares)
        self.shares, self.offsets, self.within = shares, offsets, within

    def matvec(self, v: Array) -> Array:
        if v.ndim == 2:
            return self.matmat(v[..., None])[..., 0]
        xp = array_namespace(v)
        return xp.permute_dims(self.matmat(xp.permute_dims(v, (1, 2, 0))), (2, 0, 1))

    def matmat(self, M: Array) -> Array:
        xp, weighted = array_namespace(M), self.shares[..., None] * self._deviations(M)
        between = matmat(xp.matrix_transpose(self.offsets), weighted)
        if self.within.shared:
            return self.within.matmat(M) + between
        return sum(
            (self.shares[:, k, None, None] * part.matmat(M) for k, part in enumerate(self._parts())),
            start=between,
        )

    def dense(self) -> Array:
        xp, dim = array_namespace(self.shares), self.offsets.shape[-1]
        self._identity()
        deviations = self.offsets - matmat(self.shares[:, None, :], self.offsets)
        # not as the square of √r_k δ_k, for √ has no derivative where a share is 0
        between = xp.matrix_transpose(deviations) @ (self.shares[..., None] * deviations)
        matrices = self.within.dense()
        if self.within.shared:
            return matrices + between
        within = self.shares @ xp.reshape(matrices, (-1, dim * dim))
        return xp.reshape(within, between.shape) + between

    def third_moment(self, V: Array, w: Array) -> Array:
        """E[d (dᵀ W d)] for d = x_0 - E[x_0] and W = V w Vᵀ, (batch, dim).

        Σ_k r_k [δ_k (δ_kᵀ W δ_k + tr(W S_k)) + 2 S_k W δ_k]; where all S_k are equal, δ_k δ_kᵀ W δ_k
        alone is left. V, w: as for `Denoiser.covariance_slope`.
        """
        xp, w = array_namespace(V), weight_matrix(w)
        deviations = self._deviations(V)
        pulled = deviations @ w
        squares, along = xp.sum(deviations * pulled, axis=-1), None
        if not self.within.shared:
            traces, along = self._within_terms(V, w, pulled)
            squares = squares + traces
        weights = self.shares * squares
        weights = weights - self.shares * xp.sum(weights, axis=-1, keepdims=True)
        found = matmat(weights[:, None, :], self.offsets)[:, 0, :]
        return found if along is None else found + along

    def _deviations(self, M: Array) -> Array:
        """δ_kᵀ M, (batch, components, k)."""
        seen = matmat(self.offsets, M)
        return seen - matmat(self.shares[:, None, :], seen)

    def _within_terms(self, V: Array, w: Array, pulled: Array) -> tuple[Array, Array]:
        """tr(W S_k), (batch, components), and 2 Σ_k r_k S_k W δ_k, (batch, dim)."""
        xp, traces, along = array_namespace(V), [], 0 * self.offsets[..., 0, :]
        for k, part in enumerate(self._parts()):
            image = part.matmat(V)
            traces.append(xp.sum((xp.matrix_transpose(V) @ image) * w, axis=(-2, -1)))
            weighted = self.shares[:, k, None] * pulled[:, k, :]
            along = along + 2 * matmat(image, weighted[..., None])[..., 0]
        return xp.stack(traces, axis=-1), along

    def _parts(self) -> list[LinearOperator]:
        """The S_k, one by one."""
        return [self.within.take(k) for k in range(self.offsets.shape[-2])]

    def _take(self, index: Array | int) -> LinearOperator:
        if isinstance(index, int):
            raise TypeError("the covariances of a mixture belong to their rows; take them with an array")
        xp = array_namespace(index)
        offsets = xp.take(self.offsets, index, axis=0) if self.offsets.ndim == 3 else self.offsets
        return MixtureCovariance(xp.take(self.shares, index, axis=0), offsets, self.within)


class GaussianMixtureDenoiser(Denoiser):
    """x_0 ~ Σ_k w_k N(m_k, C_k): the mixture of the components' Gaussian conditionals.

    weights (components,), positive, normalised here; means (components, dim); covariances
    (components, dim, dim), positive definite; data units, one backend.
    Mean Σ r_k μ_k, covariance Σ r_k (S_k + μ_k μ_kᵀ) - mean meanᵀ, with responsibilities r_k of x_t.
    Where all C_k are equal one of them is kept, and no array has components × batch × dim numbers; where
    all are diagonal a call costs components × dim for each row; one covariance that is a multiple of I but
    for q directions adds q × dim, any other dim². Above dim = 32 the covariance is an operator.

    `of` makes one of a `GaussianMixture`, which may have a mixture for each data set: a call then takes as
    many rows as there are data sets, and `of_sets` repeats them.

    Raises: ValueError for shapes that do not fit, weights that are not positive, and covariances
    that are not symmetric and positive definite; TypeError for what is no array, or of another dtype.
    """

    def __init__(self, sde: IsotropicSDE, weights: Array, means: Array, covariances: Array) -> None:
        name = type(self).__name__
        require_isotropic(sde, name)
        backend = require_arrays(name, means=means, weights=weights, covariances=covariances)
        if any(part is None for part in (weights, means, covariances)):
            raise TypeError(f"{name}: weights, means and covariances must be arrays; got None")
        shapes = tuple(weights.shape), tuple(means.shape), tuple(covariances.shape)
        if means.ndim != 2 or shapes != (shapes[1][:1], shapes[1], shapes[1] + shapes[1][1:]):
            raise ValueError(
                "expected weights (k,), means (k, dim), covariances (k, dim, dim); got "
                f"{shapes[0]}, {shapes[1]}, {shapes[2]}"
            )
        xp = backend.xp
        if not bool(xp.all(weights > 0)):
            raise ValueError("the weights of a mixture must be positive")
        self._hold(sde, GaussianMixture(xp.log(weights / xp.sum(weights)), means, decomposed(covariances)))
        if not bool(xp.all(self.mixture.covariances.eigenvalues > 0)):
            raise ValueError("the covariances of a mixture must be positive definite")

    @classmethod
    def of(cls, sde: IsotropicSDE, mixture: GaussianMixture[Diagonalisable]) -> "GaussianMixtureDenoiser":
        """x_0 ~ the mixture, or those of data sets, whose covariances may be singular."""
        denoiser = cls.__new__(cls)
        denoiser._hold(sde, mixture)
        return denoiser

    mixture: GaussianMixture[Diagonalisable]

    def _hold(self, sde: IsotropicSDE, mixture: GaussianMixture[Diagonalisable]) -> None:
        self.sde, self.mixture = sde, mixture
        self.backend, self.dim = backend_of(mixture.means), mixture.dim

    def __repr__(self) -> str:
        count, sets = self.mixture.components, self.sets
        many = "" if sets is None else f"{sets} data sets, "
        return f"GaussianMixtureDenoiser({self.sde}, {many}components={count}, dim={self.dim})"

    @property
    def sets(self) -> int | None:
        """Data sets of which each has its own mixture, or None."""
        return self.mixture.rows

    def of_sets(self, index: Array) -> "GaussianMixtureDenoiser":
        """The mixtures of the data sets `index` (rows,), one for each row of x_t."""
        chosen = copy.copy(self)
        chosen._hold(self.sde, self.mixture.take(index))
        return chosen

    def __call__(self, x: Array, t: float) -> Moments:
        if x.ndim != 2 or x.shape[1] != self.dim:
            raise ValueError(f"GaussianMixtureDenoiser: x must be (batch, {self.dim}); got {tuple(x.shape)}")
        mean, covariance = self._conditional(x, t)
        small = self.dim <= MATRIX_LIMIT
        return Moments(mean, Dense(covariance.dense()) if small else covariance)

    def mean(self, x: Array, t: float) -> Array:
        xp = self.backend.xp
        if x.shape[-1] != self.dim:
            raise ValueError(f"GaussianMixtureDenoiser: x must be (..., {self.dim}); got {tuple(x.shape)}")
        mean, _ = self._conditional(xp.reshape(x, (-1, self.dim)), t)
        return xp.reshape(mean, x.shape)

    def covariance_slope(self, x: Array, t: float, V: Array, w: Array) -> Array:
        """As of any denoiser, here in closed form."""
        _, covariance = self._conditional(x, t)
        return self.sde.alpha(t) / self.sde.sigma(t) ** 2 * covariance.third_moment(V, w)

    @property
    def smallest_sd(self) -> float:
        """Of x_0, within a component, along any direction in which it varies."""
        xp, variances = self.backend.xp, self.mixture.covariances.eigenvalues
        varying = xp.where(variances > 0, variances, xp.max(variances) + 0 * variances)
        return float(xp.sqrt(xp.min(varying)))

    @property
    def log_weights(self) -> Array:
        """ln w_k, (components,)."""
        return self.mixture.log_weights

    @property
    def means(self) -> Array:
        """m_k, (components, dim)."""
        return self.mixture.means

    @property
    def covariances(self) -> Array:
        """C_k, (components, dim, dim)."""
        matrices = self.mixture.covariances.dense()
        return self.backend.xp.broadcast_to(matrices, (self.mixture.components, self.dim, self.dim))

    @property
    def marginals(self) -> AffineMarginals:
        """p_t in closed form; `marginals.sample(T, n)` starts a reverse SDE exactly."""
        return AffineMarginals(self.sde, self.mixture.weights, self.means, self.covariances)

    def log_density(self, x: Array, t: float) -> Array:
        """ln p_t(x), (batch,)."""
        return self._diffused(self.sde.alpha(t), self.sde.sigma(t)).log_density(self.sde.centre(x, t))

    def sample(self, t: float, uniforms: Array, z: Array) -> Array:
        """Draws of x_t, (n, dim): uniforms (n,) choose the components, normals z (n, dim) the place.

        α m_k + shift + (α² C_k + σ² I)^½ z, with the symmetric root: alike on every backend.
        """
        sde = self.sde
        return self._diffused(sde.alpha(t), sde.sigma(t)).sample(uniforms, z) + sde.shift(t)

    def _diffused(self, alpha: float, sigma: float) -> GaussianMixture[Diagonalisable]:
        """Of α x_0 + σ ε."""
        V = self.mixture.covariances.map(lambda values: alpha**2 * values + sigma**2)
        return GaussianMixture(self.log_weights, alpha * self.means, V)

    def _conditional(self, x: Array, t: float) -> tuple[Array, MixtureCovariance]:
        """Mean and covariance of x_0 given x_t = x."""
        x, alpha, sigma = self.sde.centre(x, t), self.sde.alpha(t), self.sde.sigma(t)
        if self.mixture.covariances.shared:
            return self._with_one(x, alpha, sigma)
        return self._with_several(x, alpha, sigma)

    def _with_one(self, x: Array, alpha: float, sigma: float) -> tuple[Array, MixtureCovariance]:
        """Where all covariances are equal: μ_k = m + α C V⁻¹ (x - α m) + σ² V⁻¹ (m_k - m), m the mean of all,
        so that offsets lose no digits to means that are far from zero."""
        C = self.mixture.covariances

        def over_variance(number: float) -> Diagonalisable:
            return C.map(lambda values: number * values / (alpha**2 * values + sigma**2))

        V = C.map(lambda values: alpha**2 * values + sigma**2)
        log_joint, centred, scaled = self.mixture.joint_of_one(x, alpha, V)
        parts, offsets = shares(log_joint), sigma**2 * scaled
        mean = self.mixture.mean + over_variance(alpha).matvec(centred) + combined(parts, offsets)
        return mean, MixtureCovariance(parts, offsets, over_variance(sigma**2))

    def _with_several(self, x: Array, alpha: float, sigma: float) -> tuple[Array, MixtureCovariance]:
        """μ_k = m_k + α C_k V_k⁻¹ (x - α m_k) = x/α - σ²/α V_k⁻¹ (x - α m_k)."""
        C, means, diffused = self.mixture.covariances, self.means, self._diffused(alpha, sigma)
        log_joint, white = diffused.joint_of_several(x)
        parts, deviations = shares(log_joint), diffused.covariances.root_eigenvalues
        if alpha > sigma:  # near x/α: from there the offsets are small numbers, which keep their digits
            origin, offsets = x / alpha, C.outside(-(sigma**2) / (alpha * deviations) * white)
        else:
            origin = self.mixture.mean
            offsets = means - origin[..., None, :] + C.outside(alpha * C.eigenvalues / deviations * white)
        mean = origin + combined(parts, offsets)
        within = C.map(lambda values: sigma**2 * values / (alpha**2 * values + sigma**2))
        return mean, MixtureCovariance(parts, offsets, within)


def decomposed(covariances: Array) -> Diagonalisable:
    """Matrices (components, dim, dim): one for all where all are equal, diagonal where all are.

    Raises: ValueError for what is not symmetric.
    """
    xp, dim = array_namespace(covariances), covariances.shape[-1]
    asymmetry = xp.abs(covariances - xp.matrix_transpose(covariances))
    if not bool(xp.all(asymmetry <= 1e-6 * xp.max(xp.abs(covariances)))):
        raise ValueError("the covariances of a mixture must be symmetric and finite")
    equal = bool(xp.all(covariances == covariances[:1, :, :]))
    covariances = covariances[0, :, :] if equal else covariances
    diagonal = xp.linalg.diagonal(covariances)
    identity = xp.eye(dim, dtype=covariances.dtype, device=device(covariances))
    if bool(xp.all(covariances == diagonal[..., None, :] * identity)):
        return Diagonal(diagonal)
    values, bases = xp.linalg.eigh(covariances)
    return Spectral.of(values, bases) if equal else Spectral(bases, values)
