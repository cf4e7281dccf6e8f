"""Means over η ~ N(predicted, v) of densities that are known by their values."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace, device

from .mode_bracket import ModeBracket
from .tilted_moments import TiltedMoments

COARSE, BULK, FINE, ROUNDS = 18, 14, 9, 2  # nodes of the search for the largest integrand
BEYOND = 8.0  # standard deviations of η that are looked at beyond predicted value and bracket


@dataclass(frozen=True)
class Where:
    """The integrand in z = (η - predicted)/√v: its peak `centre`, about how wide it is there, and the ends
    beyond which it is nothing."""

    centre: Any
    scale: Any
    low: Any
    high: Any

    def grid(self, count: int) -> Any:
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

    log_density: Callable[[Any, Any], Any]
    bracket: ModeBracket
    nodes: int

    def tilted_moments(self, predicted: Any, y: Any, variance: Any) -> TiltedMoments:
        """Elementwise over predicted and variance, (batch, observations); y (observations,)."""
        xp, root = array_namespace(predicted), array_namespace(predicted).sqrt(variance)
        nothing = xp.asarray(-math.inf, dtype=predicted.dtype, device=device(predicted))

        def log_integrand(z: Any) -> Any:
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

    def resolved(self, predicted: Any, variance: Any) -> Any:
        """The variance, but no less than such that the moments have digits: 1e-8 of the squared width of p
        (3e-4 in float32). The Gaussian found at it serves at smaller ones."""
        xp = array_namespace(predicted)
        epsilon = float(xp.finfo(predicted.dtype).eps)
        least = math.sqrt(epsilon) * self.bracket.width**2
        return xp.maximum(variance, least + (100 * epsilon * predicted) ** 2)

    def _start(self, predicted: Any, root: Any) -> Where:
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

    def _search(self, log_integrand: Callable[[Any], Any], where: Where) -> Where:
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


def _order(count: int, like: Any) -> Any:
    """0 … count - 1, to broadcast in front of `like`."""
    order = array_namespace(like).arange(count, dtype=like.dtype, device=device(like))
    return array_namespace(like).reshape(order, (-1,) + (1,) * like.ndim)


def _at_largest(z: Any, values: Any) -> Any:
    """The node of the largest value, one of them where there are several."""
    xp = array_namespace(z)
    nothing = xp.asarray(-math.inf, dtype=z.dtype, device=device(z))
    return xp.max(xp.where(values == xp.max(values, axis=0), z, nothing), axis=0)


def _beside(z: Any, first: Any, last: Any, where: Where) -> tuple[Any, Any]:
    """The last node before first and the first after last, within the ends of `where`."""
    xp = array_namespace(z)
    infinite = xp.asarray(math.inf, dtype=z.dtype, device=device(z))
    before = xp.max(xp.where(z < first, z, -infinite), axis=0)
    after = xp.min(xp.where(z > last, z, infinite), axis=0)
    return xp.maximum(before, where.low), xp.minimum(after, where.high)


def _about(centre: Any, width: Any, log_integrand: Callable[[Any], Any], ends: tuple[Any, Any]) -> Where:
    """The scale of a peak by the parabola through it, as far as rounding lets it be trusted."""
    xp = array_namespace(centre)
    lowest = -0.1 * float(xp.finfo(centre.dtype).max)
    before, top, after = (xp.clip(log_integrand(centre + k * width), min=lowest) for k in (-1, 0, 1))
    bend = top - 0.5 * (before + after)
    noise = 100 * float(xp.finfo(centre.dtype).eps) * (1 + xp.abs(top))
    bend = xp.where(bend > noise, xp.clip(bend, max=8.0), noise)
    scale = xp.clip(width / xp.sqrt(2 * bend), max=1.0)
    return Where(centre, scale, xp.minimum(ends[0], centre - scale), xp.maximum(ends[1], centre + scale))
