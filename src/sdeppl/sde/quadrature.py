"""Integrals over an interval of time, for times that are numbers or arrays."""

import functools
import itertools
from collections.abc import Callable

from array_api_compat import array_namespace
from scipy.special import roots_legendre

from ..backend import Number

NODES = 16


@functools.cache
def panel_nodes(panels: int, graded: bool = False) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Composite Gauss–Legendre nodes in (0, 1) and their weights, 16 to a panel.

    The panels are equal, or `graded`: each is half as long as the one to its right and the first two
    are equal, so that what happens near 0 on any scale down to 2^{-panels} is resolved.
    """
    roots, masses = (values.tolist() for values in roots_legendre(NODES))  # array-lint: on the host
    if graded:
        edges = [0.0, *(0.5 ** (panels - 1 - k) for k in range(panels))]
    else:
        edges = [k / panels for k in range(panels + 1)]
    nodes: list[float] = []
    weights: list[float] = []
    for low, high in itertools.pairwise(edges):
        nodes += [low + 0.5 * (high - low) * (1 + root) for root in roots]
        weights += [0.5 * (high - low) * mass for mass in masses]
    return tuple(nodes), tuple(weights)


def integrate(function: Callable[[Number], Number], s: Number, t: Number, panels: int = 1) -> Number:
    """∫_s^t function(r) dr on equal panels: exact for polynomials of degree 31 on each."""
    nodes, weights = panel_nodes(panels)
    total: Number = 0.0
    for node, weight in zip(nodes, weights, strict=True):
        total = total + weight * function(s + (t - s) * node)
    return total * (t - s)


def within(t: Number, low: float, high: float) -> Number:
    """The time in [low, high] nearest to t."""
    if isinstance(t, (int, float)):
        return min(max(t, low), high)
    return array_namespace(t).clip(t, low, high)
