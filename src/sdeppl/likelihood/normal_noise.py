"""Normal noise: its checks, and its density."""

import math
from typing import Any

from array_api_compat import array_namespace, device

from ..backend import Backend, cholesky, log_diagonal, real_number, solve_lower


def observed_rows(backend: Backend, y: Any) -> Any:
    """Indices of y (observations,) that are not NaN. Raises: ValueError for infinite data."""
    xp = backend.xp
    if bool(xp.any(xp.isinf(y))):
        raise ValueError("the data hold infinity; mark what was not observed with NaN")
    return xp.nonzero(~xp.isnan(y))[0]


def places_of(y: Any) -> Any:
    """Where each of y (observations,) stands among those observed; for NaN their number."""
    xp = array_namespace(y)
    seen = xp.astype(~xp.isnan(y), xp.int64)
    return xp.where(seen > 0, xp.cumulative_sum(seen) - 1, xp.sum(seen))


def spread_rows(kept: Any, places: Any, axis: int) -> Any:
    """Entries of the observed numbers along an axis as those of all, 0 where nothing was observed."""
    if kept.shape[axis] == places.shape[0]:
        return kept
    xp, shape = array_namespace(kept), list(kept.shape)
    shape[axis] = 1
    padded = xp.concat([kept, xp.zeros(tuple(shape), dtype=kept.dtype, device=device(kept))], axis=axis)
    return xp.take(padded, places, axis=axis)


def observed_noise(backend: Backend, R: Any, count: int, observed: Any) -> Any:
    """R of the observed rows, (observed,) or (observed, observed), from that of all `count`.

    Raises: ValueError where R does not fit or is not positive definite.
    """
    xp = backend.xp
    number = real_number(R)
    if number is not None:
        R = xp.full((count,), number, dtype=backend.dtype, device=backend.device)
    if R is None:
        raise TypeError("R must be a number or an array, variances or covariance; got None")
    if tuple(R.shape) not in ((count,), (count, count)):
        raise ValueError(f"expected R of shape ({count},) or ({count}, {count}); got {tuple(R.shape)}")
    R = xp.take(R, observed, axis=0)
    R = xp.take(R, observed, axis=1) if R.ndim == 2 else R
    if R.shape[0] == 0:  # no library factors a matrix without entries
        return xp.reshape(R, (0,))
    _check(xp, R)
    return R


def _check(xp: Any, R: Any) -> None:
    if not bool(xp.all(xp.isfinite(R))):
        raise ValueError("the noise covariance R holds NaN or infinity; mark what was not observed in y")
    if R.ndim == 2 and bool(xp.any(xp.abs(R - R.T) > 1e-6 * xp.max(xp.abs(R)))):
        raise ValueError("the noise covariance R must be symmetric")
    smallest = float(xp.min(xp.linalg.eigvalsh(R) if R.ndim == 2 else R))
    if not smallest > 0:
        raise ValueError(
            f"the noise covariance R must be positive definite; its smallest eigenvalue is {smallest:.3g}"
        )


class NormalNoise:
    """ln N(r; 0, R) of residuals r (batch, observations), with what depends on R alone computed once.

    R: variances (observations,) or (batch, observations) where `diagonal`, else covariances
    (observations, observations) or (batch, observations, observations), positive definite.
    """

    def __init__(self, R: Any, diagonal: bool) -> None:
        xp = array_namespace(R)
        self.diagonal = diagonal
        if diagonal:
            self.whitening, logarithm = 1 / xp.sqrt(R), 0.5 * xp.sum(xp.log(R), axis=-1)
        else:
            root = cholesky(R)
            identity = xp.eye(R.shape[-1], dtype=R.dtype, device=device(R))
            self.whitening = solve_lower(root, xp.broadcast_to(identity, R.shape))
            logarithm = log_diagonal(root)
        self.log_normaliser = -0.5 * R.shape[-1] * math.log(2 * math.pi) - logarithm

    def log_density(self, residual: Any) -> Any:
        """(batch, observations) to (batch,)."""
        xp = array_namespace(residual)
        white = residual * self.whitening if self.diagonal else (self.whitening @ residual[..., None])[..., 0]
        return self.log_normaliser - 0.5 * xp.sum(white * white, axis=-1)
