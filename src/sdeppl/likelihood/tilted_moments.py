"""p(y given η) seen from N(η; predicted, v): the moments of their product, in closed form or by a rule."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial

from array_api_compat import device

from ..backend import Array, Backend, array_namespace
from ..linalg import Diagonal
from ..sde.schedules import NODES, panel_nodes
from .observation import SiteApproximation, possible


@dataclass(frozen=True)
class TiltedMoments:
    """Of each number, Z(η) = ∫ p(y given e) N(e; η, v) de, (batch, observations) each.

    log_mass: ln Z; slope: ∂ ln Z/∂η; information: -∂² ln Z/∂η², negative where p is not log-concave;
    shrinkage: Var[e]/v under the product, 1 - v information, kept apart for its digits near 0.
    """

    log_mass: Array
    slope: Array
    information: Array
    shrinkage: Array


def gaussian_of(tilt: TiltedMoments, predicted: Array, variance: Array, width: Array) -> SiteApproximation:
    """The Gaussian of η that gives Z, its slope and, where that is negative, its second derivative.

    R = 1/information - v, y = η + slope (v + R). Where there is little or negative information it is put at
    ε^0.4 slope²/(1 + |ln Z|) + 100 ε/(v + width²), ε the rounding of the dtype and width the scale of p in
    η: the Gaussian then has value and slope, and next to no curvature. Less would cost log_scale its digits;
    so it keeps them to about 1e-10 (1 + |ln Z|) in float64.
    """
    xp = array_namespace(predicted)
    epsilon = float(xp.finfo(predicted.dtype).eps)
    squared = tilt.slope * tilt.slope
    # an impossible y has no slope either
    size = xp.where(xp.isfinite(tilt.log_mass), xp.abs(tilt.log_mass), xp.zeros_like(squared))
    least = epsilon**0.4 * squared / (1 + size) + 100 * epsilon / (variance + width**2)
    information = xp.maximum(tilt.information, least)
    shrinkage = xp.where(tilt.information > least, tilt.shrinkage, xp.ones_like(least))
    R = xp.clip(shrinkage, min=epsilon**2) / information
    total = variance + R
    log_scale = tilt.log_mass + 0.5 * (xp.log(2 * math.pi * total) + squared * total)
    return SiteApproximation(predicted + tilt.slope * total, Diagonal(R), xp.sum(log_scale, axis=-1))


def normal_innovation(
    log_mass: Array, mean: Array, spread: Array, squared_scale: Array, variance: Array
) -> TiltedMoments:
    """The tilt where y is a function of η plus normal noise of variance s².

    mean, spread: mean and variance, given y, of (η + noise - predicted)/√(v + s²), which is standard
    normal before y is known.
    """
    xp = array_namespace(mean)
    total = variance + squared_scale
    shrinkage = (squared_scale + variance * spread) / total
    return TiltedMoments(log_mass, mean / xp.sqrt(total), (1 - spread) / total, shrinkage)


def scale_mixture(
    log_weights: Array, residual: Array, squared_scales: Array, variance: Array
) -> TiltedMoments:
    """The tilt of noise Σ_k w_k N(m_k, s_k²).

    log_weights, residual y - predicted - m_k and s_k², each with the components in front, (k, ...).
    """
    xp = array_namespace(residual)
    total = squared_scales + variance
    pull = residual / total
    log_joint = log_weights - 0.5 * (xp.log(2 * math.pi * total) + residual * pull)
    largest = xp.max(log_joint, axis=0)
    joint = xp.exp(log_joint - largest)
    mass = xp.sum(joint, axis=0)
    share = joint / mass
    slope = xp.sum(share * pull, axis=0)
    disagreement = xp.sum(share * (pull - slope) ** 2, axis=0)
    information = xp.sum(share / total, axis=0) - disagreement
    shrinkage = xp.sum(share * squared_scales / total, axis=0) + variance * disagreement
    return TiltedMoments(largest + xp.log(mass), slope, information, shrinkage)


DROP = 40.0  # where the density has fallen by e^{-40} nothing is left to integrate
PANELS = 3


@dataclass(frozen=True)
class TruncatedNormal:
    """u ~ N(0, 1) given low < u < high. `peak`: the u of highest density there.

    ln P(low < u < high) = log_scaled - peak²/2; mean: peak + offset; variance.
    """

    peak: Array
    log_scaled: Array
    offset: Array
    variance: Array

    @property
    def log_mass(self) -> Array:
        """ln P(low < u < high)."""
        return self.log_scaled - 0.5 * self.peak * self.peak

    @property
    def mean(self) -> Array:
        """E[u given low < u < high]."""
        return self.peak + self.offset


def truncated_normal(low: Array, high: Array, width: Array) -> TruncatedNormal:
    """By Gauss–Legendre quadrature where the density is, to 1e-13; elementwise.

    low < high, one or both may be infinite; width: high - low, which the caller knows without rounding.
    """
    xp = array_namespace(low, high)
    flip = low + high > 0  # NaN, and so False, for the whole line
    a, b = xp.where(flip, -high, low), xp.where(flip, -low, high)
    peak = xp.clip(b, max=0.0)
    end = xp.clip(b, max=math.sqrt(2 * DROP))
    reach = 2 * DROP / (xp.sqrt(peak * peak + 2 * DROP) - peak)
    # no difference of the bounds where width says it: in a far tail they have no digits for it
    span = xp.minimum(xp.where(b > end, end - a, width), end - peak + reach)
    total, first, second = 0.0, 0.0, 0.0
    for nodes, weights in _panels(peak):
        offset = (end - peak) - span * nodes
        density = weights * xp.exp(-0.5 * offset * (offset + 2 * peak))
        total = total + xp.sum(density, axis=0)
        first = first + xp.sum(density * nodes, axis=0)
        second = second + xp.sum(density * nodes * nodes, axis=0)
    centre = first / total
    log_scaled = xp.log(span * total) - 0.5 * math.log(2 * math.pi)
    offset = (end - peak) - span * centre
    sign = xp.where(flip, -xp.ones_like(offset), xp.ones_like(offset))
    return TruncatedNormal(sign * peak, log_scaled, sign * offset, span**2 * (second / total - centre**2))


def _panels(like: Array) -> list[tuple[Array, Array]]:
    """Nodes in (0, 1) and weights, panel by panel, to broadcast in front of `like`: all at once would
    take 48 times its memory."""
    xp, shape = array_namespace(like), (-1,) + (1,) * like.ndim
    nodes, weights = (
        xp.reshape(xp.asarray(values, dtype=like.dtype, device=device(like)), shape)
        for values in panel_nodes(PANELS)
    )
    starts = range(0, PANELS * NODES, NODES)
    return [(nodes[i : i + NODES, ...], weights[i : i + NODES, ...]) for i in starts]


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
