"""Where a log-density of single numbers, as a function of η, is largest, and how wide it is there."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from array_api_compat import array_namespace, device

from ..backend import Backend
from .observation import possible

FARTHEST = 1e8  # η that is looked at, in units of the data, and of 1
COARSE = 257
FINE = 33
LARGEST = 2**22  # numbers in one array of a search
ROUNDS = 12  # each narrows what is looked at to 1/16
LEVEL, FOOT = 0.5, 2.0  # below the largest ln p; one and two standard deviations of a normal density


@dataclass(frozen=True)
class ModeBracket:
    """η from `low` to `high`, where ln p is within ½ of its largest, (observations,) each.

    width_low, width_high: how far outside it has fallen by 2. Where ln p rises without end, as that of a
    Bernoulli number, the bound is far out.
    """

    low: Any
    high: Any
    width_low: Any
    width_high: Any

    @classmethod
    def find(cls, backend: Backend, log_density: Callable[[Any], Any], y: Any) -> "ModeBracket":
        """log_density: η (k, *y's shape) ↦ ln p of the data y (..., observations).

        Raises: ValueError where p is zero, or ln p not a number, for all η.
        """
        xp = backend.xp
        end = math.asinh(FARTHEST)
        steps = xp.linspace(-end, end, COARSE, dtype=backend.dtype, device=backend.device)
        grid = xp.clip(xp.abs(y), min=1.0) * xp.reshape(xp.sinh(steps), (-1,) + (1,) * y.ndim)
        values = possible(log_density(grid))
        peak, left, right = _around_largest(grid, values)
        for _ in range(ROUNDS):
            nodes = _between(left, right)
            peak, left, right = _around_largest(nodes, possible(log_density(nodes)))
        largest = xp.max(
            xp.stack([possible(log_density(peak[None, ...]))[0, ...], xp.max(values, axis=0)]), axis=0
        )
        lost = xp.nonzero(~xp.isfinite(largest))[0]
        if lost.shape[0]:
            raise ValueError(
                f"the log-density of y is not finite at any η for {lost.shape[0]} values of y, the first of "
                f"which is number {int(lost[0])} of those observed: is it in the support?"
            )
        edges = {}
        for side in (-1, 1):
            outwards, known = (a if side > 0 else xp.flip(a, axis=0) for a in (grid, values))
            for level in (LEVEL, FOOT):
                beyond = (known < largest - level) & (side * (outwards - peak) > 0)
                outside = pick(outwards, _first(beyond))
                edges[side, level] = _edge(log_density, peak, outside, largest - level)
        low, high = edges[-1, LEVEL], edges[1, LEVEL]
        return cls(low, high, low - edges[-1, FOOT], edges[1, FOOT] - high)

    def map(self, function: Callable[[Any], Any]) -> "ModeBracket":
        """The function of each of the four."""
        return ModeBracket(*(function(getattr(self, field.name)) for field in fields(self)))

    @property
    def feet(self) -> tuple[Any, Any]:
        """width_low and width_high; half the bracket for a side that falls at once, or never."""
        xp, half = array_namespace(self.low), 0.5 * (self.high - self.low)
        low, high = (xp.where(side > 0, side, half) for side in (self.width_low, self.width_high))
        return low, high

    @property
    def width(self) -> Any:
        """The scale on which ln p varies: the smaller of the feet."""
        return array_namespace(self.low).minimum(*self.feet)


def mode_bracket(backend: Backend, log_density: Callable[[Any, Any], Any], y: Any) -> ModeBracket:
    """Of ln p(y given η) = log_density(η, y), for y (observations,) or (data sets, observations)."""
    if y.ndim == 1:
        return ModeBracket.find(backend, lambda eta: log_density(eta, y), y)
    sets = max(1, LARGEST // (COARSE * y.shape[-1]))
    blocks = [y[first : min(first + sets, y.shape[0]), :] for first in range(0, y.shape[0], sets)]
    found = [ModeBracket.find(backend, partial(_swapped, log_density, block), block) for block in blocks]
    parts = ([getattr(bracket, field.name) for bracket in found] for field in fields(ModeBracket))
    return ModeBracket(*(backend.xp.concat(part, axis=0) for part in parts))


def _swapped(log_density: Callable[[Any, Any], Any], y: Any, eta: Any) -> Any:
    return log_density(eta, y)


def _between(left: Any, right: Any) -> Any:
    """FINE nodes (FINE, observations) from left to right."""
    xp = array_namespace(left)
    share = xp.linspace(0.0, 1.0, FINE, dtype=left.dtype, device=device(left))
    return left + (right - left) * xp.reshape(share, (-1,) + (1,) * left.ndim)


def _around_largest(nodes: Any, values: Any) -> tuple[Any, Any, Any]:
    """The node of largest value, and its neighbours."""
    xp, count = array_namespace(nodes), nodes.shape[0]
    best = xp.argmax(values, axis=0)
    return tuple(pick(nodes, xp.clip(best + k, min=0, max=count - 1)) for k in (0, -1, 1))


def pick(nodes: Any, index: Any) -> Any:
    """nodes[index[...], ...]: one entry of the first axis for each of the rest."""
    xp = array_namespace(nodes)
    order = xp.arange(nodes.shape[0], dtype=xp.int64, device=device(nodes))
    chosen = xp.reshape(order, (-1,) + (1,) * index.ndim) == index
    return xp.sum(xp.where(chosen, nodes, xp.zeros_like(nodes)), axis=0)


def _edge(log_density: Callable[[Any], Any], inside: Any, outside: Any, level: Any) -> Any:
    """Where ln p first falls below `level` on the way from inside to outside; outside where it never does."""
    xp = array_namespace(inside)
    for _ in range(ROUNDS):
        nodes = _between(inside, outside)
        first = _first(possible(log_density(nodes)) < level)
        inside, outside = pick(nodes, xp.clip(first - 1, min=0)), pick(nodes, first)
    return outside


def _first(found: Any) -> Any:
    """The index of the first that is true along the first axis, else of the last."""
    xp, last = array_namespace(found), found.shape[0] - 1
    order = xp.reshape(
        xp.arange(last + 1, dtype=xp.int64, device=device(found)), (-1,) + (1,) * (found.ndim - 1)
    )
    return xp.min(xp.where(found, order, last * xp.ones_like(order)), axis=0)
