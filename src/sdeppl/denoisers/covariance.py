"""Covariances of x_0 given x_t, as operators."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from array_api_compat import array_namespace, device


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
    def __matmul__(self, v: Any) -> Any:
        """C v row by row: v and the result (batch, dim)."""

    def columns(self, M: Any) -> Any:
        """C M for M (dim, k), the same for all rows, or (batch, dim, k).

        (dim, k) where C and M are both the same for all rows, else (batch, dim, k). Here one product
        for each column, with v (1, dim) where M is the same for all rows.
        """
        xp = array_namespace(M)
        rows = M if M.ndim == 3 else M[None, ...]
        product = xp.stack([self @ rows[:, :, i] for i in range(M.shape[-1])], axis=-1)
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

    def __matmul__(self, v: Any) -> Any:
        if self.shared:
            return v @ self.matrix.T
        return (self.matrix @ v[..., None])[..., 0]

    def columns(self, M: Any) -> Any:
        return self.matrix @ M

    def dense(self) -> Any:
        return self.matrix


class PullbackCovariance(Covariance):
    """Tweedie's covariance from vector–Jacobian products of the mean: C v = σ²/α (∂mean/∂x)ᵀ v.

    scale: σ²/α; pullback: v ↦ vᵀ ∂mean/∂x, (batch, dim) to (batch, dim). An exact score has a
    symmetric Jacobian; a learned one nearly, and `dense` returns its symmetric part.
    """

    def __init__(self, scale: float, pullback: Callable[[Any], Any], like: Any) -> None:
        self.scale = scale
        self.pullback = pullback
        self.like = like

    @property
    def shared(self) -> bool:
        return False

    @property
    def materialised(self) -> bool:
        return False

    def __matmul__(self, v: Any) -> Any:
        return self.scale * self.pullback(v)

    def columns(self, M: Any) -> Any:
        xp, batch = array_namespace(M), self.like.shape[0]
        return super().columns(M if M.ndim == 3 else xp.broadcast_to(M, (batch, *M.shape)))

    def dense(self) -> Any:
        xp = array_namespace(self.like)
        dim = self.like.shape[-1]
        identity = xp.eye(dim, dtype=self.like.dtype, device=device(self.like))
        rows = [self @ xp.broadcast_to(identity[i, :], self.like.shape) for i in range(dim)]
        matrix = xp.stack(rows, axis=-2)
        return 0.5 * (matrix + xp.matrix_transpose(matrix))


def weight_matrix(w: Any) -> Any:
    """(batch, k, k) of weights: diagonal where they are (batch, k)."""
    if w.ndim == 3:
        return w
    xp = array_namespace(w)
    return w[..., None] * xp.eye(w.shape[-1], dtype=w.dtype, device=device(w))
