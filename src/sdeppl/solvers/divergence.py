"""Traces of Jacobians, exact or by random probes."""

from collections.abc import Callable

from array_api_compat import array_namespace, device

from ..backend import Array, Noise, backend_of, jvp

PROBES = 2**15  # index of the probes' normals, which no start and no step draws
AT_ONCE = 64  # directions of which Jacobian–vector products are taken together


def trace(product: Callable[[Array], Array], x: Array, probes: Array | None = None) -> Array:
    """tr A of one matrix A for each row of x (..., dim), from its products alone.

    product: v ↦ A v, row by row, for v like x. probes None: Σ_i e_iᵀ A e_i, exact, dim products,
    (..., 1). probes (n, ..., dim), each with mean 0 and identity covariance: Hutchinson's vᵀ A v of
    each, n products, (..., n), whose mean over the probes is tr A. Source: Hutchinson 1989;
    Grathwohl et al. 2019 (FFJORD), section 3.1.
    """
    xp = array_namespace(x)
    if probes is not None:
        estimates = [
            xp.sum(probes[k, ...] * product(probes[k, ...]), axis=-1) for k in range(probes.shape[0])
        ]
        return xp.stack(estimates, axis=-1)
    identity = xp.eye(x.shape[-1], dtype=x.dtype, device=device(x))
    total = xp.zeros(x.shape[:-1], dtype=x.dtype, device=device(x))
    for i in range(x.shape[-1]):
        total = total + product(xp.broadcast_to(identity[i, :], x.shape))[..., i]
    return total[..., None]


def divergence(field: Callable[[Array], Array], x: Array, probes: Array | None = None) -> Array:
    """∇·F at x (batch, dim), for a field F of each row alone; (batch, 1) or (batch, n) as in `trace`.

    The Jacobian's products come from the backend: exact in torch, else by central differences; of
    several directions at once, as rows of a larger batch.
    """
    xp, (batch, dim) = array_namespace(x), x.shape
    if probes is None:
        identity = xp.eye(dim, dtype=x.dtype, device=device(x))
        probes = xp.broadcast_to(identity[:, None, :], (dim, batch, dim))
        return xp.sum(_quadratic(field, x, probes), axis=-1, keepdims=True)
    return _quadratic(field, x, probes)


def _quadratic(field: Callable[[Array], Array], x: Array, directions: Array) -> Array:
    """vᵀ (∂F/∂x) v for directions v (n, batch, dim): (batch, n)."""
    xp, dim, count, found = array_namespace(x), x.shape[1], directions.shape[0], []
    for first in range(0, count, AT_ONCE):
        v = directions[first : min(first + AT_ONCE, count), ...]
        rows = xp.reshape(xp.broadcast_to(x, v.shape), (-1, dim))
        slopes = jvp(field, rows, xp.reshape(v, (-1, dim)))
        found.append(xp.sum(v * xp.reshape(slopes, v.shape), axis=-1))
    return xp.concat(found, axis=0).T


def rademacher(seed: int, count: int, like: Array) -> Array:
    """Independent signs ±1, (count, batch, dim) for x (batch, dim).

    The same for a seed on every backend, and for the first rows whatever the batch size. Of all
    probes with independent components they give the trace with the least variance.
    """
    xp = array_namespace(like)
    shape = (like.shape[0], count, like.shape[1])
    normals = Noise(seed).stream(backend_of(like)).normal(0, shape, PROBES)  # not those of a start
    return xp.permute_dims(xp.where(normals < 0, -xp.ones_like(normals), xp.ones_like(normals)), (1, 0, 2))
