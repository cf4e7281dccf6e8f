"""Products of matrices with rows: one matrix for all rows, or one for each."""

from collections.abc import Callable

from array_api_compat import array_namespace, device

from ..backend import Array, cholesky
from ..backend.linear_algebra import SMALL


def matvec(A: Array, v: Array) -> Array:
    """A v row by row: A (n, m) and v (..., m), or A (batch, n, m) and v (batch, m) or (k, batch, m)."""
    if A.ndim == 2:
        return v @ A.T
    if v.ndim == 3:  # of each matrix one product with all its rows
        xp = array_namespace(v)
        return xp.permute_dims(xp.permute_dims(v, (1, 0, 2)) @ xp.matrix_transpose(A), (1, 0, 2))
    return (A @ v[..., None])[..., 0]


def rmatvec(A: Array, w: Array) -> Array:
    """Aᵀ w row by row, as `matvec` of the transposed matrix."""
    if A.ndim == 2:
        return w @ A
    if w.ndim == 3:
        xp = array_namespace(w)
        return xp.permute_dims(xp.permute_dims(w, (1, 0, 2)) @ A, (1, 0, 2))
    return (w[..., None, :] @ A)[..., 0, :]


def matmat(A: Array, B: Array) -> Array:
    """A B for matrices (n, m) or (batch, n, m); one for all with one for each as a single large product."""
    xp = array_namespace(A)
    if A.ndim == B.ndim:
        return A @ B
    if A.ndim == 3:
        flat = xp.reshape(A, (-1, A.shape[-1])) @ B
        return xp.reshape(flat, (*A.shape[:2], B.shape[-1]))
    return xp.matrix_transpose(matmat(xp.matrix_transpose(B), A.T))


def row_by_row(solve: Callable[[Array, Array], Array], A: Array, b: Array) -> Array:
    """solve(A, columns) for rows b (..., n), of which A (batch, n, n) has one matrix each."""
    xp = array_namespace(b)
    if A.ndim == 2:
        return xp.reshape(solve(A, xp.reshape(b, (-1, b.shape[-1])).T).T, b.shape)
    if b.ndim == 2:
        return solve(A, b[..., None])[..., 0]
    return xp.permute_dims(solve(A, xp.permute_dims(b, (1, 2, 0))), (2, 0, 1))


def matrix_transpose(A: Array) -> Array:
    """Of the last two axes."""
    return array_namespace(A).matrix_transpose(A)


def project_psd(A: Array) -> Array:
    """The nearest positive semidefinite matrix to a symmetric one (..., n, n): no negative eigenvalues."""
    xp = array_namespace(A)
    values, basis = xp.linalg.eigh(A)
    return (basis * xp.clip(values, min=0.0)[..., None, :]) @ xp.matrix_transpose(basis)


def psd_or_diagonal(A: Array) -> Array:
    """Symmetric matrices (batch, n, n), those that are not positive definite cut down to their variances.

    Which they are a Cholesky factor shows, at a tenth of the cost of eigenvalues; above n = 24, where it does
    not, as `project_psd`.
    """
    xp, n = array_namespace(A), A.shape[-1]
    if n > SMALL:
        return project_psd(A)
    positive = xp.all(xp.isfinite(xp.linalg.diagonal(cholesky(A))), axis=-1)
    identity = xp.eye(n, dtype=A.dtype, device=device(A))
    variances = xp.clip(xp.linalg.diagonal(A), min=0.0)[..., None, :] * identity
    return xp.where(positive[:, None, None], A, variances)
