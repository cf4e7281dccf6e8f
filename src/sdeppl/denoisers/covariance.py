"""Covariances of x_0 given x_t, as operators."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from array_api_compat import array_namespace, device


class Covariance(ABC):
    """Cov[x_0 given x_t] for a batch of x_t: `covariance @ v`, `covariance.dense()`."""

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

    def dense(self) -> Any:
        xp = array_namespace(self.like)
        dim = self.like.shape[-1]
        identity = xp.eye(dim, dtype=self.like.dtype, device=device(self.like))
        rows = [self @ xp.broadcast_to(identity[i, :], self.like.shape) for i in range(dim)]
        matrix = xp.stack(rows, axis=-2)
        return 0.5 * (matrix + xp.matrix_transpose(matrix))
