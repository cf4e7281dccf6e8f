"""The positive part of a learned covariance."""

from typing import Any

from array_api_compat import array_namespace


def clipped(matrix: Any) -> Any:
    """A symmetric matrix (..., n, n) without its negative eigenvalues."""
    xp = array_namespace(matrix)
    variances, basis = xp.linalg.eigh(matrix)
    return (basis * xp.clip(variances, min=0.0)[..., None, :]) @ xp.matrix_transpose(basis)
