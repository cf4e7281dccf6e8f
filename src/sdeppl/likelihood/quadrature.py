"""Means over η ~ N(predicted, v) of densities that are known by their values."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial

from array_api_compat import array_namespace, device

from ..backend import Array, Backend
from .observation import possible
from .tilted_moments import TiltedMoments

COARSE, BULK, FINE, ROUNDS = 18, 14, 9, 2  # nodes of the search for the largest integrand
BEYOND = 8.0  # standard deviations of η that are looked at beyond predicted value and bracket
FARTHEST = 1e8  # η that is looked at, in units of the data, and of 1
GRID = 257
ZOOM = 33
LARGEST = 2**22  # numbers in one array of a search
ZOOMS = 12  # each narrows what is looked at to 1/16
LEVEL, FOOT = 0.5, 2.0  # below the largest ln p; one and two standard deviations of a normal density


@dataclass(frozen=True)
class ModeBracket:
    """η from `low` to `high`, where ln p is within ½ of its largest, (observations,) each.

    width_low, width_high: how far outside it has fallen by 2. Where ln p rises without end, as that of a
    Bernoulli number, the bound is far out.
    """

    low: Array
    high: Array
    width_low: Array
    width_high: Array

    @classmethod
    def find(cls, backend: Backend, log_density: Callable[[Array], Array], y: Array) -> "ModeBracket":
        """log_density: η (k, *y's shape) ↦ ln p of the data y (..., observations).

        Raises: ValueError where p is zero, or ln p not a number, for all η.
        """
        xp = backend.xp
        end = math.asinh(FARTHEST)
        steps = xp.linspace(-end, end, GRID, dtype=backend.dtype, device=backend.device)
        grid = xp.clip(xp.abs(y), min=1.0) * xp.reshape(xp.sinh(steps), (-1,) + (1,) * y.ndim)
        values = possible(log_density(grid))
        peak, left, right = _around_largest(grid, values)
        for _ in range(ZOOMS):
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

    def map(self, function: Callable[[Array], Array]) -> "ModeBracket":
        """The function of each of the four."""
        return ModeBracket(*(function(getattr(self, field.name)) for field in fields(self)))

    @property
    def feet(self) -> tuple[Array, Array]:
        """width_low and width_high; half the bracket for a side that falls at once, or never."""
        xp, half = array_namespace(self.low), 0.5 * (self.high - self.low)
        low, high = (xp.where(side > 0, side, half) for side in (self.width_low, self.width_high))
        return low, high

    @property
    def width(self) -> Array:
        """The scale on which ln p varies: the smaller of the feet."""
        return array_namespace(self.low).minimum(*self.feet)


def mode_bracket(backend: Backend, log_density: Callable[[Array, Array], Array], y: Array) -> ModeBracket:
    """Of ln p(y given η) = log_density(η, y), for y (observations,) or (data sets, observations)."""
    if y.ndim == 1:
        return ModeBracket.find(backend, lambda eta: log_density(eta, y), y)
    sets = max(1, LARGEST // (GRID * y.shape[-1]))
    blocks = [y[first : min(first + sets, y.shape[0]), :] for first in range(0, y.shape[0], sets)]
    found = [ModeBracket.find(backend, partial(_swapped, log_density, block), block) for block in blocks]
    parts = ([getattr(bracket, field.name) for bracket in found] for field in fields(ModeBracket))
    return ModeBracket(*(backend.xp.concat(part, axis=0) for part in parts))


def _swapped(log_density: Callable[[Array, Array], Array], y: Array, eta: Array) -> Array:
    return log_density(eta, y)


def _between(left: Array, right: Array) -> Array:
    """ZOOM nodes (ZOOM, observations) from left to right."""
    xp = array_namespace(left)
    share = xp.linspace(0.0, 1.0, ZOOM, dtype=left.dtype, device=device(left))
    return left + (right - left) * xp.reshape(share, (-1,) + (1,) * left.ndim)


def _around_largest(nodes: Array, values: Array) -> tuple[Array, Array, Array]:
    """The node of largest value, and its neighbours."""
    xp, count = array_namespace(nodes), nodes.shape[0]
    best = xp.argmax(values, axis=0)
    peak, left, right = (pick(nodes, xp.clip(best + k, min=0, max=count - 1)) for k in (0, -1, 1))
    return peak, left, right


def pick(nodes: Array, index: Array) -> Array:
    """nodes[index[...], ...]: one entry of the first axis for each of the rest."""
    xp = array_namespace(nodes)
    order = xp.arange(nodes.shape[0], dtype=xp.int64, device=device(nodes))
    chosen = xp.reshape(order, (-1,) + (1,) * index.ndim) == index
    return xp.sum(xp.where(chosen, nodes, xp.zeros_like(nodes)), axis=0)


def _edge(log_density: Callable[[Array], Array], inside: Array, outside: Array, level: Array) -> Array:
    """Where ln p first falls below `level` on the way from inside to outside; outside where it never does."""
    xp = array_namespace(inside)
    for _ in range(ZOOMS):
        nodes = _between(inside, outside)
        first = _first(possible(log_density(nodes)) < level)
        inside, outside = pick(nodes, xp.clip(first - 1, min=0)), pick(nodes, first)
    return outside


def _first(found: Array) -> Array:
    """The index of the first that is true along the first axis, else of the last."""
    xp, last = array_namespace(found), found.shape[0] - 1
    order = xp.reshape(
        xp.arange(last + 1, dtype=xp.int64, device=device(found)), (-1,) + (1,) * (found.ndim - 1)
    )
    return xp.min(xp.where(found, order, last * xp.ones_like(order)), axis=0)


@dataclass(frozen=True)
class Where:
    """The integrand in z = (η - predicted)/√v: its peak `centre`, about how wide it is there, and the ends
    beyond which it is nothing."""

    centre: Array
    scale: Array
    low: Array
    high: Array

    def grid(self, count: int) -> Array:
        """z = centre + scale sinh(u) from low to high at equal steps in u, (count, ...)."""
        xp = array_namespace(self.centre)
        first, last = (xp.asinh((end - self.centre) / self.scale) for end in (self.low, self.high))
        return self.centre + self.scale * xp.sinh(first + (last - first) / (count - 1) * _order(count, first))


@dataclass(frozen=True)
class Quadrature:
    """∫ p(y given η) N(η; predicted, v) dη by the trapezoidal rule in u, η = predicted + √v (c + s sinh u).

    c and s are sought at each call, with 53 evaluations beside the `nodes` of the rule: Gauss–Hermite nodes
    of N(predicted, v) itself would miss a p(y given η) that is narrower than √v/2, and one with nodes at the
    peak would miss what lies apart. With 32 nodes ln Z, slope and curvature are right to 1e-6 for smooth
    log-concave p, to 2e-4 where √v is five times the width of p, to 1e-2 across a kink, and to a tenth where
    two peaks of like mass are apart by many of their widths. log_density: (eta, y), elementwise.
    """

    log_density: Callable[[Array, Array], Array]
    bracket: ModeBracket
    nodes: int

    def tilted_moments(self, predicted: Array, y: Array, variance: Array) -> TiltedMoments:
        """Elementwise over predicted and variance, (batch, observations); y (observations,)."""
        xp, root = array_namespace(predicted), array_namespace(predicted).sqrt(variance)
        nothing = xp.asarray(-math.inf, dtype=predicted.dtype, device=device(predicted))

        def log_integrand(z: Array) -> Array:
            values = self.log_density(predicted + root * z, y) - 0.5 * z * z
            return xp.where(xp.isnan(values), nothing, values)

        where = self._search(log_integrand, self._start(predicted, root))
        # where p is nearly flat, equal steps in z are exact to rounding, which ∂² ln Z/∂η² needs as v → 0
        flat = (where.scale > 0.9) & (root < 0.1 * self.bracket.width)
        kappa = xp.where(flat, 1e-3 + 0 * root, 1 + 0 * root)
        low = xp.where(flat, xp.maximum(where.low, where.centre - BEYOND), where.low)
        high = xp.where(flat, xp.minimum(where.high, where.centre + BEYOND), where.high)
        first, last = (xp.asinh(kappa * (end - where.centre) / where.scale) for end in (low, high))
        step = (last - first) / (self.nodes - 1)
        u = first + step * _order(self.nodes, predicted)
        offset, stretch = where.scale / kappa * xp.sinh(u), xp.cosh(u)
        values = log_integrand(where.centre + offset)
        largest = xp.max(values, axis=0)
        largest = xp.where(xp.isfinite(largest), largest, xp.zeros_like(largest))
        weights = stretch * xp.exp(values - largest)
        total = xp.sum(weights, axis=0)
        possible = total > 0
        weights = weights / xp.where(possible, total, xp.ones_like(total))
        log_mass = largest + xp.log(total * step * where.scale / (kappa * math.sqrt(2 * math.pi)))
        # what is not finite stays so, and is reported by the solve
        log_mass = xp.where(possible, log_mass, nothing) + 0 * predicted
        centre = xp.sum(weights * offset, axis=0)
        shrinkage = xp.sum(weights * (offset - centre) ** 2, axis=0)
        shrinkage = xp.where(possible, shrinkage, xp.ones_like(shrinkage))
        mean = xp.where(possible, where.centre + centre, xp.zeros_like(centre))
        return TiltedMoments(log_mass, mean / root, (1 - shrinkage) / variance, shrinkage)

    def resolved(self, predicted: Array, variance: Array) -> Array:
        """The variance, but no less than such that the moments have digits: 1e-8 of the squared width of p
        (3e-4 in float32). The Gaussian found at it serves at smaller ones."""
        xp = array_namespace(predicted)
        epsilon = float(xp.finfo(predicted.dtype).eps)
        least = math.sqrt(epsilon) * self.bracket.width**2
        return xp.maximum(variance, least + (100 * epsilon * predicted) ** 2)

    def _start(self, predicted: Array, root: Array) -> Where:
        """The peak if p were normal: the bracket's near end and predicted, weighted by their precisions."""
        xp, bracket = array_namespace(predicted), self.bracket
        left, right = predicted < bracket.low, predicted > bracket.high
        near = xp.where(left, bracket.low, xp.where(right, bracket.high, predicted))
        feet = bracket.feet
        inside = xp.maximum(0.5 * (bracket.high - bracket.low), bracket.width)
        width = xp.where(left, feet[0], xp.where(right, feet[1], inside))
        z = (near - predicted) / root
        ratio = (root / width) ** 2
        scale = 1 / xp.sqrt(1 + ratio)
        return Where(
            z * ratio / (1 + ratio), scale, xp.clip(z, max=0.0) - BEYOND, xp.clip(z, min=0.0) + BEYOND
        )

    def _search(self, log_integrand: Callable[[Array], Array], where: Where) -> Where:
        """The largest value on two coarse grids, about `where` and about predicted, then on finer ones."""
        xp = array_namespace(where.centre)
        bulk = Where(0 * where.centre, 1 + 0 * where.centre, where.low, where.high)
        z = xp.concat([where.grid(COARSE), bulk.grid(BULK)])
        values = log_integrand(z)
        best = _at_largest(z, values)
        left, right = _beside(z, best, best, where)
        nodes, levels = [z], [values]
        for _ in range(ROUNDS):
            width = (right - left) / (FINE - 1)
            nodes.append(left + width * _order(FINE, width))
            levels.append(log_integrand(nodes[-1]))
            best = _at_largest(nodes[-1], levels[-1])
            left, right = best - width, best + width
        z, values = xp.concat(nodes), xp.concat(levels)
        seen = values >= xp.max(values, axis=0) + math.log(float(xp.finfo(z.dtype).eps))
        infinite = xp.asarray(math.inf, dtype=z.dtype, device=device(z))
        first, last = (
            xp.min(xp.where(seen, z, infinite), axis=0),
            xp.max(xp.where(seen, z, -infinite), axis=0),
        )
        return _about(best, width, log_integrand, _beside(z, first, last, where))


def _order(count: int, like: Array) -> Array:
    """0 … count - 1, to broadcast in front of `like`."""
    order = array_namespace(like).arange(count, dtype=like.dtype, device=device(like))
    return array_namespace(like).reshape(order, (-1,) + (1,) * like.ndim)


def _at_largest(z: Array, values: Array) -> Array:
    """The node of the largest value, one of them where there are several."""
    xp = array_namespace(z)
    nothing = xp.asarray(-math.inf, dtype=z.dtype, device=device(z))
    return xp.max(xp.where(values == xp.max(values, axis=0), z, nothing), axis=0)


def _beside(z: Array, first: Array, last: Array, where: Where) -> tuple[Array, Array]:
    """The last node before first and the first after last, within the ends of `where`."""
    xp = array_namespace(z)
    infinite = xp.asarray(math.inf, dtype=z.dtype, device=device(z))
    before = xp.max(xp.where(z < first, z, -infinite), axis=0)
    after = xp.min(xp.where(z > last, z, infinite), axis=0)
    return xp.maximum(before, where.low), xp.minimum(after, where.high)


def _about(
    centre: Array, width: Array, log_integrand: Callable[[Array], Array], ends: tuple[Array, Array]
) -> Where:
    """The scale of a peak by the parabola through it, as far as rounding lets it be trusted."""
    xp = array_namespace(centre)
    lowest = -0.1 * float(xp.finfo(centre.dtype).max)
    before, top, after = (xp.clip(log_integrand(centre + k * width), min=lowest) for k in (-1, 0, 1))
    bend = top - 0.5 * (before + after)
    noise = 100 * float(xp.finfo(centre.dtype).eps) * (1 + xp.abs(top))
    bend = xp.where(bend > noise, xp.clip(bend, max=8.0), noise)
    scale = xp.clip(width / xp.sqrt(2 * bend), max=1.0)
    return Where(centre, scale, xp.minimum(ends[0], centre - scale), xp.maximum(ends[1], centre + scale))
