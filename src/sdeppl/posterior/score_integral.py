"""Differences of a log-density, from its score along a line."""

from collections.abc import Callable
from typing import Any

from array_api_compat import array_namespace
from scipy.special import eval_legendre, roots_jacobi


def lobatto(inner: int) -> tuple[list[float], list[float]]:
    """Nodes in [0, 1], both ends and `inner` ≥ 1 between them, and weights that sum to one.

    Gauss–Lobatto's rule, exact for polynomials of degree 2 inner + 1. Source: Abramowitz & Stegun 25.4.32.
    """
    nodes = [-1.0, *roots_jacobi(inner, 1, 1)[0].tolist(), 1.0]  # array-lint: on the host
    n = len(nodes)
    weights = [1 / (n * (n - 1) * float(eval_legendre(n - 1, u)) ** 2) for u in nodes]
    return [0.5 * (u + 1) for u in nodes], weights


def score_integral(score: Callable[[Any], Any], x: Any, x_new: Any, first: Any, last: Any, inner: int) -> Any:
    """ln p(x_new) - ln p(x) = ∫_0^1 s(x + u (x_new - x)) · (x_new - x) du by Gauss–Lobatto, (batch,).

    score: s, of rows (n, dim); first, last: s at x and x_new, (batch, dim), which a Langevin step has
    anyway, so that the rule is of two degrees more than Gauss–Legendre's at the same cost, `inner`
    evaluations, all in one call. Exact where s along the line is a polynomial of degree 2 inner + 1, as that
    of a Gaussian is, linear; else the error is of order |x_new - x|^{2 inner + 3}. It changes sign where
    x and x_new change places. Of a learned score, which is no gradient, it is the work along the line.
    """
    xp, step = array_namespace(x), x_new - x
    nodes, weights = lobatto(inner)
    between = xp.concat([x + u * step for u in nodes[1:-1]], axis=0)
    scores = xp.reshape(score(between), (inner, *x.shape))
    total = weights[0] * (first + last)
    for k, weight in enumerate(weights[1:-1]):
        total = total + weight * scores[k, ...]
    return xp.sum(total * step, axis=-1)
