"""The standard normal distribution between two bounds, with all digits in far tails and narrow intervals."""

import math
from dataclasses import dataclass

from array_api_compat import array_namespace, device

from ..backend import Array
from ..sde.schedules import NODES, panel_nodes

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
