"""Conjugate gradients, row by row."""

from collections.abc import Callable
from typing import Any

from array_api_compat import array_namespace, device


def conjugate_gradients(product: Callable[[Any], Any], right: Any, tolerance: float, iterations: int) -> Any:
    """Solve S_i v_i = r_i for each row i, with S_i symmetric positive definite.

    product: v ↦ S v row by row; right: (batch, n); a row stops moving once its residual is below
    tolerance × |r_i|. Rows that have not got there after `iterations`, or that meet a direction along
    which S is not positive (a learned covariance may have one), are NaN, never a wrong number.
    Source: Golub & Van Loan, Matrix Computations, algorithm 11.3.3.
    """
    xp = array_namespace(right)
    goal = tolerance**2 * xp.sum(right * right, axis=-1, keepdims=True)
    solution = xp.zeros_like(right)
    residual = direction = right
    squared = xp.sum(residual * residual, axis=-1, keepdims=True)
    one = xp.asarray(1.0, dtype=right.dtype, device=device(right))
    for _ in range(iterations):
        active = squared > goal
        image = product(direction)
        curvature = xp.sum(direction * image, axis=-1, keepdims=True)
        # NaN where the curvature is not positive; it stays NaN
        length = xp.where(curvature > 0, squared / xp.where(curvature > 0, curvature, one), xp.nan * one)
        step = xp.where(active, length, 0 * one)
        solution = solution + step * direction
        residual = residual - step * image
        next_squared = xp.sum(residual * residual, axis=-1, keepdims=True)
        # a row that has stopped keeps its direction, which would grow without bound otherwise
        ratio = next_squared / xp.where(active, squared, one)
        direction = xp.where(active, residual + ratio * direction, direction)
        squared = xp.where(active, next_squared, squared)
    return xp.where(squared <= goal, solution, xp.nan * one)
