"""The covariance of a Gaussian mixture, without a matrix for each row."""

from typing import Any

from array_api_compat import array_namespace, device

from .covariance import Covariance, weight_matrix


class MixtureCovariance(Covariance):
    """Of Σ_k r_k N(μ_k, S_k): C = Σ_k r_k S_k + Σ_k r_k δ_k δ_kᵀ, with δ_k = μ_k - Σ_j r_j μ_j.

    shares: r_k, (batch, components), summing to one; offsets: μ_k up to a vector that is the same for all
    k, (components, dim) where nothing else depends on the row, or (batch, components, dim). variances
    (components, dim) and bases (components, dim, dim), eigenvalues and eigenvectors of S_k, or one row
    of each, (1, ...), where all S_k are equal; bases None where they are diagonal.
    A product costs components × dim for each row, and dim² with `bases`.
    """

    def __init__(self, shares: Any, offsets: Any, variances: Any, bases: Any) -> None:
        self.shares, self.offsets = shares, offsets
        self.variances, self.bases = variances, bases

    @property
    def shared(self) -> bool:
        return False

    @property
    def materialised(self) -> bool:
        return False

    def __matmul__(self, v: Any) -> Any:
        return self.columns(v[..., None])[..., 0]

    def columns(self, M: Any) -> Any:
        weighted = self.shares[..., None] * self._deviations(M)
        between = _product(array_namespace(M).matrix_transpose(self.offsets), weighted)
        return self._within(M) + between

    def dense(self) -> Any:
        xp, dim = array_namespace(self.shares), self.offsets.shape[-1]
        deviations = self.offsets - _product(self.shares[:, None, :], self.offsets)
        # not as the square of √r_k δ_k, for √ has no derivative where a share is 0
        between = xp.matrix_transpose(deviations) @ (self.shares[..., None] * deviations)
        if self.bases is None:
            identity = xp.eye(dim, dtype=between.dtype, device=device(between))
            matrices = self.variances[:, None, :] * identity
        else:
            matrices = (self.bases * self.variances[:, None, :]) @ xp.matrix_transpose(self.bases)
        if matrices.shape[0] == 1:
            return matrices + between
        within = self.shares @ xp.reshape(matrices, (-1, dim * dim))
        return xp.reshape(within, between.shape) + between

    def third_moment(self, V: Any, w: Any) -> Any:
        """E[d (dᵀ W d)] for d = x_0 - E[x_0] and W = V w Vᵀ, (batch, dim).

        Σ_k r_k [δ_k (δ_kᵀ W δ_k + tr(W S_k)) + 2 S_k W δ_k]; where all S_k are equal, δ_k δ_kᵀ W δ_k
        alone is left. V, w: as for `Denoiser.covariance_slope`.
        """
        xp, w = array_namespace(V), weight_matrix(w)
        deviations = self._deviations(V)
        pulled = deviations @ w
        squares = xp.sum(deviations * pulled, axis=-1)
        along: Any = 0.0
        if self.variances.shape[0] > 1:
            traces, along = self._spread_terms(V, w, pulled)
            squares = squares + traces
        weights = self.shares * squares
        weights = weights - self.shares * xp.sum(weights, axis=-1, keepdims=True)
        return _product(weights[:, None, :], self.offsets)[:, 0, :] + along

    def _deviations(self, M: Any) -> Any:
        """δ_kᵀ M, (batch, components, k)."""
        seen = _product(self.offsets, M)
        return seen - _product(self.shares[:, None, :], seen)

    def _within(self, M: Any) -> Any:
        """Σ_k r_k S_k M."""
        if self.variances.shape[0] == 1:
            return self._spread(0, M)
        return sum(self.shares[:, k, None, None] * self._spread(k, M) for k in range(self.variances.shape[0]))

    def _spread(self, k: int, M: Any) -> Any:
        """S_k M."""
        if self.bases is None:
            return self.variances[k, :, None] * M
        basis = self.bases[k, :, :]
        return _product(basis, self.variances[k, :, None] * _product(basis.T, M))

    def _spread_terms(self, V: Any, w: Any, pulled: Any) -> tuple[Any, Any]:
        """tr(W S_k), (batch, components), and 2 Σ_k r_k S_k W δ_k, (batch, dim)."""
        xp = array_namespace(V)
        traces, along = [], 0.0
        for k in range(self.variances.shape[0]):
            image = self._spread(k, V)
            traces.append(xp.sum((xp.matrix_transpose(V) @ image) * w, axis=(-2, -1)))
            weighted = self.shares[:, k, None] * pulled[:, k, :]
            along = along + 2 * _product(image, weighted[..., None])[..., 0]
        return xp.stack(traces, axis=-1), along


def _product(left: Any, right: Any) -> Any:
    """left @ right; one matrix with a batch of matrices as a single product of two large ones."""
    xp = array_namespace(left)
    if left.ndim == right.ndim:
        return left @ right
    if left.ndim == 3:
        flat = xp.reshape(left, (-1, left.shape[-1])) @ right
        return xp.reshape(flat, (*left.shape[:2], right.shape[-1]))
    return xp.matrix_transpose(_product(xp.matrix_transpose(right), left.T))
