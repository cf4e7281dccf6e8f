"""Ordered categories."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from array_api_compat import array_namespace, device

from ...backend import Array
from .base import Family, softplus


@dataclass(frozen=True)
class Ordinal(Family):
    """y = k where η plus logistic noise lies between two of the cutpoints: c_{k-1} and c_k.

    P(y = k) = σ(c_k - η) - σ(c_{k-1} - η), k = 0 … len(cutpoints), with -∞ before the first and +∞ after
    the last, as Pyro's OrderedLogistic. cutpoints: rising numbers, common to all y.
    Raises: ValueError where they do not rise.
    """

    cutpoints: tuple[float, ...]
    support: ClassVar[str] = "whole numbers from 0 to the number of cutpoints"

    def __post_init__(self) -> None:
        points = tuple(float(point) for point in self.cutpoints)
        object.__setattr__(self, "cutpoints", points)
        if not points or not all(a < b for a, b in pairwise((-math.inf, *points, math.inf))):
            raise ValueError(f"Ordinal: cutpoints must be finite and rise; got {points}")

    def __call__(self, eta: Array, y: Array) -> Array:
        # σ(b) - σ(a) = σ(b) σ(-a) (1 - e^{a - b}), where every factor keeps its digits
        low, high = self._bounds(y)
        gap = array_namespace(y).log(-array_namespace(y).expm1(low - high))
        return gap - softplus(low - eta) - softplus(eta - high)

    def supports(self, y: Array) -> Array:
        return (y >= 0) & (y <= len(self.cutpoints)) & (y == array_namespace(y).round(y))

    def _bounds(self, y: Array) -> tuple[Array, Array]:
        xp = array_namespace(y)
        points = xp.asarray([-math.inf, *self.cutpoints, math.inf], dtype=y.dtype, device=device(y))
        category = xp.reshape(xp.astype(y, xp.int64), (-1,))
        low, high = xp.take(points, category), xp.take(points, category + 1)
        return xp.reshape(low, y.shape), xp.reshape(high, y.shape)
