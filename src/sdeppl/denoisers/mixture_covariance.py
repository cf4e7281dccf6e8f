"""The covariance of a Gaussian mixture, without a matrix for each row."""

from typing import Any

from array_api_compat import array_namespace

from .covariance import Covariance, weight_matrix
from .spread import Spread, product


class MixtureCovariance(Covariance):
    """Of Σ_k r_k N(μ_k, S_k): C = Σ_k r_k S_k + Σ_k r_k δ_k δ_kᵀ, with δ_k = μ_k - Σ_j r_j μ_j.

    shares: r_k, (batch, components), summing to one; offsets: μ_k up to a vector that is the same for all
    k, (components, dim) where nothing else depends on the row, or (batch, components, dim); spread: the S_k,
    or one that they all are. A product costs components × dim for each row, and that with the S_k.
    """

    def __init__(self, shares: Any, offsets: Any, spread: Spread) -> None:
        self.shares, self.offsets, self.spread = shares, offsets, spread

    @property
    def shared(self) -> bool:
        return False

    @property
    def materialised(self) -> bool:
        return False

    def product(self, v: Any) -> Any:
        return self.columns(v[..., None])[..., 0]

    def columns(self, M: Any) -> Any:
        weighted = self.shares[..., None] * self._deviations(M)
        between = product(array_namespace(M).matrix_transpose(self.offsets), weighted)
        return self._within(M) + between

    def dense(self) -> Any:
        xp, dim = array_namespace(self.shares), self.offsets.shape[-1]
        deviations = self.offsets - product(self.shares[:, None, :], self.offsets)
        # not as the square of √r_k δ_k, for √ has no derivative where a share is 0
        between = xp.matrix_transpose(deviations) @ (self.shares[..., None] * deviations)
        matrices = self.spread.matrices()
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
        if self.spread.count > 1:
            traces, along = self._spread_terms(V, w, pulled)
            squares = squares + traces
        weights = self.shares * squares
        weights = weights - self.shares * xp.sum(weights, axis=-1, keepdims=True)
        return product(weights[:, None, :], self.offsets)[:, 0, :] + along

    def _deviations(self, M: Any) -> Any:
        """δ_kᵀ M, (batch, components, k)."""
        seen = product(self.offsets, M)
        return seen - product(self.shares[:, None, :], seen)

    def _within(self, M: Any) -> Any:
        """Σ_k r_k S_k M."""
        if self.spread.count == 1:
            return self.spread.product(0, M)
        return sum(
            self.shares[:, k, None, None] * self.spread.product(k, M) for k in range(self.spread.count)
        )

    def _spread_terms(self, V: Any, w: Any, pulled: Any) -> tuple[Any, Any]:
        """tr(W S_k), (batch, components), and 2 Σ_k r_k S_k W δ_k, (batch, dim)."""
        xp = array_namespace(V)
        traces, along = [], 0.0
        for k in range(self.spread.count):
            image = self.spread.product(k, V)
            traces.append(xp.sum((xp.matrix_transpose(V) @ image) * w, axis=(-2, -1)))
            weighted = self.shares[:, k, None] * pulled[:, k, :]
            along = along + 2 * product(image, weighted[..., None])[..., 0]
        return xp.stack(traces, axis=-1), along
