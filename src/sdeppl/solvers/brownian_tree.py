"""The binary tree of times that a Brownian path is refined on: integers only."""

import math
from dataclasses import dataclass

from ..backend.words import told_apart

NARROWEST = 2.0**45  # leaves: more would come near the rounding of times


@dataclass(frozen=True)
class TimeTree:
    """[start, stop] as `cells` (odd) equal cells, divided in halves by whole cells, then by 2, `depth` times.

    A position counts leaves, of width (stop - start)/(cells 2^depth), from `start`. A node (lo, hi)
    is named by the time at which it is divided, which no other node is, in lowest terms: so names do
    not depend on `depth`.
    """

    start: float
    stop: float
    cells: int
    depth: int

    @classmethod
    def of(cls, start: float, stop: float, cells: int, tolerance: float) -> "TimeTree":
        """The tree in which `cells` equal cells are nodes and no leaf is wider than `tolerance`."""
        twos = (cells & -cells).bit_length() - 1
        odd = cells >> twos
        depth = max(twos, math.ceil(math.log2(max((stop - start) / (odd * tolerance), 1.0))))
        return cls(start, stop, odd, depth)

    @property
    def leaves(self) -> int:
        return self.cells << self.depth

    @property
    def width(self) -> float:
        """Of a leaf, in units of time."""
        return (self.stop - self.start) / self.leaves

    @property
    def slack(self) -> float:
        """How far, in leaves, rounding of times may move a position."""
        scale = max(abs(self.start), abs(self.stop), self.stop - self.start)
        return 2.0**-49 * scale / self.width

    def position(self, t: float) -> float:
        """Of t, in leaves: a whole number for a node. Raises: ValueError outside [start, stop]."""
        found, slack = (t - self.start) / self.width, self.slack
        if not -slack <= found <= self.leaves + slack:
            start, stop, got = told_apart(self.start, self.stop, t, digits=6)
            raise ValueError(
                f"this BrownianPath covers times from {start} to {stop}; got {got}; "
                "say start= and stop= when you make it"
            )
        nearest = round(found)
        return nearest if abs(found - nearest) <= slack else found

    def middle(self, lo: int, hi: int) -> int:
        """Where the node (lo, hi), wider than a leaf, is divided."""
        cell = 1 << self.depth
        if hi - lo > cell:
            return (lo // cell + hi // cell) // 2 * cell
        return (lo + hi) // 2

    def name(self, middle: int) -> tuple[int, int]:
        """(numerator, level) of the division at `middle`, which is at numerator/2^level cells."""
        level = max(self.depth - ((middle & -middle).bit_length() - 1), 0)
        return middle >> (self.depth - level), level

    def nearest(self, t: float, spacing: float) -> float:
        """The nearest to t of equally spaced nodes no further apart than `spacing`, or than a leaf allows."""
        cell = (self.stop - self.start) / self.cells
        level = min(math.ceil(math.log2(max(cell / spacing, 1.0))), self.depth)
        count = round((t - self.start) / cell * 2**level)
        return self.start + (self.stop - self.start) * (count / (self.cells * 2**level))
