"""Triangular factors of many small matrices, for which the Array API has one library call a matrix."""

import math

from array_api_compat import array_namespace

from .resolve import backend_of
from .typing import Array

SMALL = 24  # up to here loops over columns, vectorised over the batch, beat one LAPACK call a matrix


def cholesky(matrix: Array) -> Array:
    """The lower L with L Lᵀ = matrix (n, n) or (batch, n, n), symmetric and positive definite.

    A row of a batch that is not positive definite, or holds NaN, comes back with NaN and leaves the others
    alone, so that a solve can report it. Raises: the library's LinAlgError for one matrix.
    Source: Golub & Van Loan, Matrix Computations, section 4.2.5.
    """
    xp, n = array_namespace(matrix), matrix.shape[-1]
    if matrix.ndim == 2:
        return xp.linalg.cholesky(matrix)
    if n > SMALL:
        return backend_of(matrix).adapter.cholesky(matrix)
    flat = _batch_last(matrix)
    columns: list[Array] = []
    for j in range(n):
        column = flat[j:, j, :]
        for i, earlier in enumerate(columns):
            column = column - earlier[j - i :, :] * earlier[j - i, :]
        pivot = column[0, :]
        # NaN by choice, lest NumPy warns of a root it cannot take
        pivot = xp.where(pivot > 0, pivot, xp.full_like(pivot, math.nan))
        columns.append(column / xp.sqrt(pivot))
    zero = xp.zeros_like(flat[:, 0, :])
    padded = [xp.concat([zero[:j, :], column], axis=0) if j else column for j, column in enumerate(columns)]
    return _batch_first(xp.stack(padded, axis=1))


def solve_lower(lower: Array, right: Array) -> Array:
    """L⁻¹ B for lower-triangular L (n, n) or (batch, n, n) and B (n, k) or (batch, n, k)."""
    xp, n = array_namespace(lower, right), lower.shape[-1]
    if lower.ndim == 3 and right.ndim == 2:
        right = xp.broadcast_to(right, (lower.shape[0], *right.shape))
    if lower.ndim == 2 and right.ndim == 3:
        lower = xp.broadcast_to(lower, (*right.shape[:-1], n))
        return backend_of(lower).adapter.solve_triangular(lower, right, False)
    if lower.ndim == 2 or n > SMALL:
        return backend_of(lower).adapter.solve_triangular(lower, right, False)
    left, flat = _batch_last(lower), _batch_last(right)
    rows: list[Array] = []
    for i in range(n):
        row = flat[i, :, :]
        for j, earlier in enumerate(rows):
            row = row - left[i, j, :] * earlier
        rows.append(row / left[i, i, :])
    return _batch_first(xp.stack(rows, axis=0))


def solve_lower_transposed(lower: Array, right: Array) -> Array:
    """L⁻ᵀ B for lower-triangular L (n, n) or (batch, n, n) and B (n, k) or (batch, n, k), as many as L."""
    xp, n = array_namespace(lower, right), lower.shape[-1]
    if lower.ndim == 2 or n > SMALL:
        return backend_of(lower).adapter.solve_triangular(xp.matrix_transpose(lower), right, True)
    left, flat = _batch_last(lower), _batch_last(right)
    rows: list[Array] = []  # from the last on
    for i in reversed(range(n)):
        row = flat[i, :, :]
        for j, later in zip(range(n - 1, i, -1), rows, strict=True):
            row = row - left[j, i, :] * later
        rows.append(row / left[i, i, :])
    return _batch_first(xp.stack(rows[::-1], axis=0))


def log_diagonal(lower: Array) -> Array:
    """Σ ln L_ii of a lower-triangular L: half of ln det(L Lᵀ); () or (batch,)."""
    xp = array_namespace(lower)
    return xp.sum(xp.log(xp.linalg.diagonal(lower)), axis=-1)


def _batch_last(array: Array) -> Array:
    """(batch, n, k) as (n, k, batch), copied so that the rows of a batch lie side by side in memory."""
    xp, (batch, n, k) = array_namespace(array), array.shape
    return xp.reshape(xp.reshape(xp.permute_dims(array, (1, 2, 0)), (n * k, batch)), (n, k, batch))


def _batch_first(array: Array) -> Array:
    """(n, k, batch) as (batch, n, k), copied likewise."""
    xp, (n, k, batch) = array_namespace(array), array.shape
    return xp.reshape(xp.reshape(xp.permute_dims(array, (2, 0, 1)), (batch, n * k)), (batch, n, k))
