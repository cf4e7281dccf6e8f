"""Of a large symmetric operator by its products: ln det by stochastic Lanczos quadrature, the largest
eigenvalue."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from array_api_compat import device

from ..backend import Array, Backend, array_namespace, backend_of, keyed_normal

PROBES = 24
STEPS = 1_500  # of Lanczos, at most
FIRST, MORE = (
    20,
    1.3,
)  # steps after which it is seen how much the estimate changes, and by how many times more
SETTLED = 0.05  # of the standard error, by which more steps may still change the estimate
STREAM = (0x736C71, 0)
ITERATIONS, FIRST_VECTOR = 20, (0x706F776572, 0)  # of the power method, and where it starts


@dataclass(frozen=True)
class Estimate:
    """value: (); error: its standard error; steps: products that each probe took."""

    value: Array
    error: float
    steps: int


def log_trace(product: Callable[[Array], Array], n: int, like: Array) -> Estimate:
    """tr ln S of a symmetric positive definite S of n numbers, by products v ↦ S v of rows (24, n).

    The mean over 24 probes z of random signs of zᵀ ln(S) z, each by Gauss's quadrature of as many Lanczos
    steps as it takes until a third more change the estimate by no more than a twentieth of its standard
    error. Takes about 100 n numbers. like: an array of the backend. Source: Ubaru, Chen & Saad 2017; Golub &
    Meurant, Matrices, Moments and Quadrature, chapter 11.

    Raises: FloatingPointError where S is not positive definite, or the estimate has not settled in 1,500
    steps.
    """
    xp = array_namespace(like)
    v = xp.sign(keyed_normal(backend_of(like), (PROBES, n), 0, STREAM)) / math.sqrt(n)
    earlier, beta = 0 * v, 0 * v[:, :1]
    diagonal, beside = list[Array](), list[Array]()
    before, check = math.inf, FIRST
    for step in range(1, min(STEPS, n) + 1):
        w = product(v) - beta * earlier
        alpha = xp.sum(w * v, axis=-1, keepdims=True)
        w = w - alpha * v
        beta = xp.sqrt(xp.sum(w * w, axis=-1, keepdims=True))
        diagonal.append(alpha[:, 0])
        if step in (check, n):
            values = n * _log_moments(diagonal, beside)
            now, error = float(xp.mean(values)), float(xp.std(values, correction=1.0)) / math.sqrt(PROBES)
            if not math.isfinite(now):
                raise FloatingPointError("ln det was asked of an operator that is not positive definite")
            if abs(now - before) <= SETTLED * error or step == n:
                return Estimate(xp.mean(values), error, step)
            before, check = now, math.ceil(MORE * step)
        beside.append(beta[:, 0])
        earlier, v = v, w / xp.where(beta > 0, beta, xp.ones_like(beta))
    raise FloatingPointError(
        f"the determinant of the covariance of {n} observed numbers has not settled in {STEPS} steps of "
        "Lanczos's iteration; give the observation more noise"
    )


def largest_eigenvalue(product: Callable[[Array], Array], n: int, backend: Backend) -> float:
    """Of a symmetric positive semidefinite operator of n numbers, nearly: 20 steps of the power method."""
    xp = backend.xp
    v, largest = keyed_normal(backend, (1, n), 0, FIRST_VECTOR), 0.0
    for _ in range(ITERATIONS):
        v = v / xp.sqrt(xp.sum(v * v))
        v = product(v)
        largest = float(xp.sqrt(xp.sum(v * v)))
    return largest


def _log_moments(diagonal: list[Array], beside: list[Array]) -> Array:
    """e_1ᵀ ln(T) e_1 of tridiagonal matrices T, (probes,); NaN for one that is not positive definite."""
    xp, size, like = array_namespace(diagonal[0]), len(diagonal), diagonal[0]
    along, below = (xp.eye(size, k=k, dtype=like.dtype, device=device(like)) for k in (0, -1))
    lower = xp.stack([*beside, 0 * like], axis=-1)[:, None, :] * below
    T = xp.stack(diagonal, axis=-1)[:, None, :] * along + lower + xp.matrix_transpose(lower)
    values, basis = xp.linalg.eigh(T)
    values = xp.where(values > 0, values, xp.full_like(values, math.nan))
    return xp.sum(basis[:, 0, :] ** 2 * xp.log(values), axis=-1)
