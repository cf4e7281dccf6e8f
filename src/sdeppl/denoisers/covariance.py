"""Covariances of x_0 given x_t, as operators."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from array_api_compat import array_namespace, device

AT_ONCE = 2**15  # rows of several products of a network at once: a network is wider than its inputs


class Covariance(ABC):
    """Cov[x_0 given x_t] for a batch of x_t: `covariance @ v`, `.columns(M)`, `.dense()`."""

    @property
    @abstractmethod
    def shared(self) -> bool:
        """Whether one matrix serves the whole batch."""

    @property
    @abstractmethod
    def materialised(self) -> bool:
        """Whether `dense` costs no more than reading it."""

    @abstractmethod
    def product(self, v: Any) -> Any:
        """C v row by row: v and the result (batch, dim)."""

    def __matmul__(self, v: Any) -> Any:
        """As `product`, which is what torch.compile can trace."""
        return self.product(v)

    def columns(self, M: Any) -> Any:
        """C M for M (dim, k), the same for all rows, or (batch, dim, k).

        (dim, k) where C and M are both the same for all rows, else (batch, dim, k). Here one product
        for each column, with v (1, dim) where M is the same for all rows.
        """
        xp = array_namespace(M)
        rows = M if M.ndim == 3 else M[None, ...]
        product = xp.stack([self.product(rows[:, :, i]) for i in range(M.shape[-1])], axis=-1)
        return product[0, ...] if self.shared and M.ndim == 2 else product

    @abstractmethod
    def dense(self) -> Any:
        """(dim, dim) where shared, else (batch, dim, dim)."""


class MatrixCovariance(Covariance):
    """A matrix (dim, dim) for all rows, or one for each row, (batch, dim, dim)."""

    def __init__(self, matrix: Any) -> None:
        self.matrix = matrix

    @property
    def shared(self) -> bool:
        return self.matrix.ndim == 2

    @property
    def materialised(self) -> bool:
        return True

    def product(self, v: Any) -> Any:
        if self.shared:
            return v @ self.matrix.T
        return (self.matrix @ v[..., None])[..., 0]

    def columns(self, M: Any) -> Any:
        return self.matrix @ M

    def dense(self) -> Any:
        return self.matrix


class PullbackCovariance(Covariance):
    """Tweedie's covariance from vector–Jacobian products of the mean: C v = σ²/α (∂mean/∂x)ᵀ v.

    scale: σ²/α; pullback: v ↦ vᵀ ∂mean/∂x, (batch, dim) to (batch, dim), and where `several` is true
    also (k, batch, dim) to (k, batch, dim). near: a covariance of which this one is a correction, and with
    which linear equations are easier to solve. An exact score has a symmetric Jacobian; a learned one
    nearly, and `dense` returns its symmetric part.
    """

    def __init__(
        self,
        scale: float,
        pullback: Callable[[Any], Any],
        like: Any,
        several: bool = False,
        near: Covariance | None = None,
    ) -> None:
        self.scale = scale
        self.pullback = pullback
        self.like = like
        self.several = several
        self.near = near

    @property
    def shared(self) -> bool:
        return False

    @property
    def materialised(self) -> bool:
        return False

    def product(self, v: Any) -> Any:
        return self.scale * self.pullback(v)

    def columns(self, M: Any) -> Any:
        xp, batch = array_namespace(M), self.like.shape[0]
        M = M if M.ndim == 3 else xp.broadcast_to(M, (batch, *M.shape))
        if not self.several:
            return super().columns(M)
        block, rows = max(AT_ONCE // batch, 1), xp.permute_dims(M, (2, 0, 1))
        count = rows.shape[0]
        parts = [self.product(rows[k : min(k + block, count), :, :]) for k in range(0, count, block)]
        return xp.permute_dims(xp.concat(parts, axis=0), (1, 2, 0))

    def dense(self) -> Any:
        xp, (_, dim) = array_namespace(self.like), self.like.shape
        matrix = self.columns(xp.eye(dim, dtype=self.like.dtype, device=device(self.like)))
        return 0.5 * (matrix + xp.matrix_transpose(matrix))


def weight_matrix(w: Any) -> Any:
    """(batch, k, k) of weights: diagonal where they are (batch, k)."""
    if w.ndim == 3:
        return w
    xp = array_namespace(w)
    return w[..., None] * xp.eye(w.shape[-1], dtype=w.dtype, device=device(w))
