"""Derivatives of functions on arrays of any backend."""

from collections.abc import Callable
from typing import Any, TypeVar

from array_api_compat import device

from .arrays import array_namespace, backend_of
from .typing import Array, Number

Result = TypeVar("Result")


def jvp(function: Callable[[Array], Array], x: Array, v: Array) -> Array:
    """(∂function/∂x) v for x and v (..., dim) and a function of each row alone, (..., *out).

    torch differentiates exactly; NumPy, CuPy and array-api-strict take central differences of order
    4 with steps of 7e-4 (1 + |x|) in float64 and 4e-2 (1 + |x|) in float32, at four evaluations: relative
    error about 1e-11 and 1e-4 for functions that vary on scales of 1 + |x|, and a wrong slope for those that
    bend within a step.
    """
    return backend_of(x).adapter.jvp(function, x, v)


def with_pullback(
    function: Callable[[Array], Array], x: Array, width: float
) -> tuple[Array, Callable[[Array], Array]]:
    """function(x), and v ↦ vᵀ ∂function/∂x, for x and v (batch, dim) and a function of each row alone.

    torch takes vector–Jacobian products from one evaluation, several at once for v (k, batch, dim). The
    others take differences of order 4 along v, over steps of a small part of `width`, at four evaluations a
    product: those are (∂function/∂x) v, the same where the slope is symmetric, as that of a mean E[x_0
    given x_t] or of a score is.
    """
    return backend_of(x).adapter.with_pullback(function, x, width)


def bilinear_slope(
    pullback_at: Callable[[Array], Callable[[Array], Array]], x: Array, left: Array, right: Array
) -> Array:
    """∂/∂x Σ_a l_aᵀ (∂f/∂x) r_a row by row, (batch, dim), for left (batch, out, k) and right (batch, dim, k).

    pullback_at: x (rows, dim) ↦ (v ↦ vᵀ ∂f/∂x). The derivative of the pullback of l_a along r_a, by `jvp`:
    second derivatives are symmetric.
    """
    xp, (batch, dim, k) = array_namespace(x), right.shape

    def rows(columns: Array) -> Array:
        return xp.reshape(xp.matrix_transpose(columns), (batch * k, columns.shape[1]))

    repeated = rows(xp.broadcast_to(x[:, :, None], (batch, dim, k)))
    slopes = jvp(lambda z: pullback_at(z)(rows(left)), repeated, rows(right))
    return xp.sum(xp.reshape(slopes, (batch, k, dim)), axis=1)


def checkpoint(function: Callable[..., Result], x: Array, *arguments: Any) -> Result:
    """function(x, *arguments), keeping no intermediate result for gradients: they are computed again.

    The function must do the same when called again; gradients flow to x, to the arguments and to
    what it closes over. Raises: TypeError for an x that is no torch tensor.
    """
    return backend_of(x).adapter.checkpoint(function, x, *arguments)


def numerical_gradient(function: Callable[[Array, Array], Array], x: Array, at_once: int = 16384) -> Array:
    """∂function/∂x, (batch, dim), for x (batch, dim) and a function of each row alone, to (rows,).

    By central differences of order 4, with the steps of `jvp` on NumPy: 4 dim evaluations, in calls of
    function(rows, index) of about `at_once` rows, index naming the row of x that each belongs to. For
    functions that automatic differentiation cannot pass through, such as a model behind the bridge to torch.
    """
    xp, (batch, dim) = array_namespace(x), x.shape
    h = float(xp.finfo(x.dtype).eps) ** 0.2 * (1 + xp.max(xp.abs(x), axis=-1, keepdims=True))
    identity = xp.eye(dim, dtype=x.dtype, device=device(x))
    most = max(at_once // (4 * max(batch, 1)), 1)
    parts = [identity[k : min(k + most, dim), :] for k in range(0, dim, most)]
    return xp.concat([_differences(function, x, h, part) for part in parts], axis=1)


def _differences(function: Callable[[Array, Array], Array], x: Array, h: Number, directions: Array) -> Array:
    """Slopes (batch, k) along `directions` (k, dim), with steps h (batch, 1)."""
    xp, (batch, dim), k = array_namespace(x), x.shape, directions.shape[0]
    offsets = xp.asarray([1.0, -1.0, 2.0, -2.0], dtype=x.dtype, device=device(x))
    steps = offsets[:, None, None, None] * directions[:, None, :] * h
    rows = xp.reshape(x + steps, (4 * k * batch, dim))
    index = xp.broadcast_to(xp.arange(batch, dtype=xp.int64, device=device(x)), (4 * k, batch))
    values = xp.reshape(function(rows, xp.reshape(index, (-1,))), (4, k, batch))
    near, far = values[0, ...] - values[1, ...], values[2, ...] - values[3, ...]
    return (8 * near - far).T / (12 * h)
