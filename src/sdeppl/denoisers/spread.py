"""Functions of covariance matrices, kept by their eigenvalues."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from array_api_compat import array_namespace, device


class Spread(Protocol):
    """`count` symmetric matrices S_k (dim, dim)."""

    @property
    def count(self) -> int:
        """How many."""

    def product(self, k: int, M: Any) -> Any:
        """S_k M for M (dim, n) or (batch, dim, n)."""

    def matrices(self) -> Any:
        """(count, dim, dim)."""


@dataclass(frozen=True)
class OneSpread:
    """S = U diag(along) Uᵀ + diag(across) (I - U Uᵀ): what `map` makes of C, f(C), has the same form.

    U (dim, q) orthonormal, or None where S is diagonal; along (q,); across (dim,) or (1,), or None where U
    is square. A product costs 2 q dim for each column, little where C is near to a multiple of I.
    """

    U: Any
    along: Any
    across: Any
    dim: int
    count: int = 1

    @classmethod
    def of(cls, eigenvalues: Any, basis: Any) -> "OneSpread":
        """From all eigenvalues (dim,) and eigenvectors (dim, dim), or None where these are the axes."""
        xp, dim = array_namespace(eigenvalues), eigenvalues.shape[0]
        if basis is None:
            return cls(None, None, eigenvalues, dim)
        common = xp.sort(eigenvalues)[dim // 2]
        eps = float(xp.finfo(eigenvalues.dtype).eps)
        apart = xp.abs(eigenvalues - common) > 8 * dim * eps * xp.max(eigenvalues)
        few = 2 * int(xp.count_nonzero(apart)) < dim
        # along a direction of far less variance than `common` the two terms would cancel
        if few and bool(xp.min(eigenvalues) > math.sqrt(eps) * common):
            kept = xp.nonzero(apart)[0]
            return cls(xp.take(basis, kept, axis=1), xp.take(eigenvalues, kept), common[None], dim)
        return cls(basis, eigenvalues, None, dim)

    def map(self, function: Callable[[Any], Any]) -> "OneSpread":
        """f(S), for f of arrays of eigenvalues."""
        along, across = (None if part is None else function(part) for part in (self.along, self.across))
        return OneSpread(self.U, along, across, self.dim)

    def rows(self, x: Any) -> Any:
        """S x row by row, x (..., dim)."""
        if self.U is None:
            return self.across * x
        if self.across is None:
            return ((x @ self.U) * self.along) @ self.U.T
        return self.across * x + ((x @ self.U) * (self.along - self.across)) @ self.U.T

    def product(self, k: int, M: Any) -> Any:
        if self.U is None:
            return self.across[:, None] * M
        if self.across is None:
            return product(self.U, self.along[:, None] * product(self.U.T, M))
        return self.across * M + product(self.U, (self.along - self.across)[:, None] * product(self.U.T, M))

    def matrices(self) -> Any:
        like = self.across if self.along is None else self.along
        xp = array_namespace(like)
        return self.product(0, xp.eye(self.dim, dtype=like.dtype, device=device(like)))[None, ...]


@dataclass(frozen=True)
class SeveralSpreads:
    """S_k = V_k diag(variances_k) V_kᵀ.

    variances (count, dim); bases V (count, dim, dim), or None where all are diagonal.
    """

    variances: Any
    bases: Any

    @property
    def count(self) -> int:
        count: int = self.variances.shape[0]
        return count

    def product(self, k: int, M: Any) -> Any:
        scales = self.variances[k, :, None]
        if self.bases is None:
            return scales * M
        basis = self.bases[k, :, :]
        return product(basis, scales * product(basis.T, M))

    def matrices(self) -> Any:
        xp = array_namespace(self.variances)
        scales = self.variances[:, None, :]
        if self.bases is None:
            return scales * xp.eye(scales.shape[-1], dtype=scales.dtype, device=device(scales))
        return (self.bases * scales) @ xp.matrix_transpose(self.bases)


def product(left: Any, right: Any) -> Any:
    """left @ right; one matrix with a batch of matrices as a single product of two large ones."""
    xp = array_namespace(left)
    if left.ndim == right.ndim:
        return left @ right
    if left.ndim == 3:
        flat = xp.reshape(left, (-1, left.shape[-1])) @ right
        return xp.reshape(flat, (*left.shape[:2], right.shape[-1]))
    return xp.matrix_transpose(product(xp.matrix_transpose(right), left.T))
