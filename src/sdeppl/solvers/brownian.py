"""A Brownian path that is the same however it is read."""

import math
from dataclasses import dataclass

from ..backend import (
    Array,
    Backend,
    keyed_normal,
    real_parameter,
    require_floating,
    resolve,
    seed_number,
    whole_number,
)
from ..backend.arguments import told_apart

NARROWEST = 2.0**45  # leaves: more would come near the rounding of times
INSIDE_A_LEAF = 128  # added to a leaf's level, so that its normals are those of no other node
Node = tuple[int, int]


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


@dataclass(frozen=True)
class Piece:
    """A Brownian path over an interval of `length`, read in the order in which it was drawn.

    W: its increment, ~ N(0, length). H: its space-time Lévy area, the mean over the interval of
    the path's height above its chord, ~ N(0, length/12) and independent of W; None where not kept. Read
    backwards in time W changes its sign and H does not.
    """

    length: float
    W: Array
    H: Array | None = None


def join(left: Piece, right: Piece) -> Piece:
    """The path over two intervals, one after the other, of lengths a and b.

    W = W₁ + W₂ and (a + b) H = a H₁ + b H₂ + (b W₁ - a W₂)/2.
    """
    a, b = left.length, right.length
    W = left.W + right.W
    if left.H is None:
        return Piece(a + b, W)
    assert right.H is not None
    p, q = a / (a + b), b / (a + b)
    return Piece(a + b, W, p * left.H + q * right.H + (0.5 * q) * left.W - (0.5 * p) * right.W)


def divide(piece: Piece, p: float, z: Array, n: Array | None = None) -> tuple[Piece, Piece]:
    """The parts of length p L and q L, q = 1 - p, of a piece of length L, from standard normals z and n.

    Without H: W₁ = p W + √(p q L) z. With it, and k = p³ + q³ = 1 - 3pq: Z = √(p q k L) z,
    N = √(p q L/(12 k)) n, W₁ = p W + 6pq H + Z, H₁ = p² H - p²/(2k) Z + q N and
    H₂ = q² H - q²/(2k) Z - p N. `z` and `n` are overwritten. Source: conditioning of the Gaussian
    (W₁, H₁, H₂) on `join`; for p = ½ Foster, Oberhauser & Lyons 2020, theorem 2.5 and its remarks.
    """
    q, L = 1.0 - p, piece.length
    if piece.H is None:
        z *= math.sqrt(p * q * L)
        z += p * piece.W
        return Piece(p * L, z), Piece(q * L, piece.W - z)
    assert n is not None
    k = p**3 + q**3
    z *= math.sqrt(p * q * k * L)
    n *= math.sqrt(p * q * L / (12 * k))
    left = p * piece.W
    left += (6 * p * q) * piece.H
    left += z
    first = p**2 * piece.H + q * n
    first -= (p**2 / (2 * k)) * z
    second = q**2 * piece.H - p * n
    second -= (q**2 / (2 * k)) * z
    return Piece(p * L, left, first), Piece(q * L, piece.W - left, second)


@dataclass(frozen=True)
class BrownianPath:
    """Standard Wiener processes on [start, stop], one for each number in a shape, from a seed.

    The same path under refinement, in any order of queries, forward or backward in time, on every
    backend (to rounding, and in float32 to its rounding), and the first n rows the same whatever the
    batch size: every normal belongs to a node of a binary tree of times and comes from a counter. A query
    costs O(log) normals, and of consecutive queries about one each; memory does not grow with
    the number of steps.

    cells: say the number of equal steps, for they, and 2ᵏ times as many, are then nodes of the tree, and
    cheapest; cells that differ by powers of two give the same path, others another path. area: also the
    space-time Lévy area, for solvers that draw it; it is another path than without. tolerance:
    the width of the narrowest nodes, in units of time, by default 2⁻²⁴ (stop - start). A time that
    is no node is met by one more Brownian bridge, inside a leaf: joint laws are exact as long
    as no two different times asked for lie strictly inside one leaf. Where both ends of one query do, it
    is refused.

    Raises: ValueError for a seed outside 0 … 2⁶⁴ - 1, start ≥ stop, cells < 1 or a tolerance that is
    not positive, or too small for the rounding of times. Source: Lévy's construction; the law
    with area by Foster, Oberhauser & Lyons 2020; counters by Salmon et al. 2011 (Philox).
    """

    seed: int
    start: float = 0.0
    stop: float = 1.0
    cells: int = 1
    area: bool = False
    tolerance: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", seed_number(self.seed))
        object.__setattr__(self, "cells", whole_number("BrownianPath: cells", self.cells, 1))
        start, stop = (
            real_parameter("BrownianPath: start", self.start),
            real_parameter("BrownianPath: stop", self.stop),
        )
        if not (math.isfinite(start) and math.isfinite(stop) and start < stop):
            raise ValueError(f"BrownianPath: start must be below stop, both finite; got {start}, {stop}")
        tolerance = (
            (stop - start) * 2.0**-24
            if self.tolerance is None
            else real_parameter("tolerance", self.tolerance)
        )
        if not tolerance > 0:
            raise ValueError(f"BrownianPath: tolerance must be a positive time; got {self.tolerance!r}")
        for name, value in (("start", start), ("stop", stop), ("tolerance", tolerance)):
            object.__setattr__(self, name, value)
        if self.tree.slack > 0.1 or self.tree.leaves > NARROWEST:
            raise ValueError(
                f"BrownianPath: tolerance={tolerance:.3g} with cells={self.cells} is too small for the "
                f"rounding of times from {start:.6g} to {stop:.6g}"
            )

    @property
    def tree(self) -> TimeTree:
        """The nodes."""
        assert self.tolerance is not None
        return TimeTree.of(self.start, self.stop, self.cells, self.tolerance)

    def stream(self, backend: Backend) -> "BrownianStream":
        """Open the path on a backend, for many queries. Raises: TypeError for whole-number dtypes."""
        require_floating(backend)
        return BrownianStream(self, backend)

    def increment(
        self, s: float, t: float, shape: tuple[int, ...], backend: str | Backend | None = None
    ) -> Array:
        """W(t) - W(s) of `shape`; s and t in [start, stop], in either order. Raises: ValueError."""
        if not isinstance(shape, tuple):
            raise TypeError(f"BrownianPath.increment: shape must be a tuple such as (1000, 3); got {shape!r}")
        return self.stream(resolve(backend)).increment(s, t, shape)


class BrownianStream:
    """An opened `BrownianPath`: keeps the nodes around the ends of the last query, and no others."""

    def __init__(self, path: BrownianPath, backend: Backend) -> None:
        self.path, self.backend = path, backend
        self.tree = path.tree
        self._shape: tuple[int, ...] | None = None
        self._parts: dict[Node, tuple[Piece, Piece]] = {}

    def increment(self, s: float, t: float, shape: tuple[int, ...]) -> Array:
        """W(t) - W(s), of `shape`."""
        if s == t:
            xp, backend = self.backend.xp, self.backend
            return xp.zeros(shape, dtype=backend.dtype, device=backend.device)
        return math.copysign(1.0, t - s) * self.between(s, t, shape).W

    def draws(
        self, step: int, s: float, t: float, kinds: tuple[str, ...], shapes: tuple[tuple[int, ...], ...]
    ) -> tuple[Array, ...]:
        """What a solver's `draws` ask for over [s, t], whatever the step's number.

        Raises: ValueError for draws that are no functional of this path, unless they are empty.
        """
        needed = tuple(kind for kind, shape in zip(kinds, shapes, strict=True) if 0 not in shape)
        self.require(needed)
        found = dict(zip(needed, scaled(self.between(s, t, shapes[0]), t < s, needed), strict=True))
        xp, like = self.backend.xp, {"dtype": self.backend.dtype, "device": self.backend.device}
        return tuple(
            found[kind] if kind in found else xp.zeros(shape, **like)
            for kind, shape in zip(kinds, shapes, strict=True)
        )

    def require(self, kinds: tuple[str, ...]) -> None:
        """Check that the path has what a solver draws. Raises: ValueError."""
        others = [kind for kind in kinds if kind not in ("wiener", "area")]
        if others:
            raise ValueError(
                f"a BrownianPath gives 'wiener' and 'area'; this solver also draws {', '.join(others)}; "
                "use noise=Noise(seed)"
            )
        if "area" in kinds and not self.path.area:
            raise ValueError("this solver draws the space-time area; use BrownianPath(..., area=True)")

    def between(self, s: float, t: float, shape: tuple[int, ...]) -> Piece:
        """The path between s ≠ t, read forward in time."""
        if s == t:
            raise ValueError(f"a step needs two times; got t={s} twice")
        if tuple(shape) != self._shape:
            self._shape, self._parts = tuple(shape), {}
            self._root = self._whole()
        a, b = self.tree.position(min(s, t)), self.tree.position(max(s, t))
        if math.floor(a) == math.floor(b) and math.ceil(a) == math.ceil(b):
            raise ValueError(
                f"times {s!r} and {t!r} are both inside one leaf of this BrownianPath, of width "
                f"{self.tree.width:.3g}; use a smaller tolerance"
            )
        piece = self._over((0, self.tree.leaves), self._root, a, b)
        # whatever the next query shares with this one lies around these two ends
        self._parts = {
            node: parts
            for node, parts in self._parts.items()
            if node[0] <= a <= node[1] or node[0] <= b <= node[1]
        }
        return piece

    def _whole(self) -> Piece:
        length = self.path.stop - self.path.start
        W = math.sqrt(length) * self._normal((0, 0))
        return Piece(length, W, math.sqrt(length / 12) * self._normal((0, 0), 1) if self.path.area else None)

    def _over(self, node: Node, piece: Piece, a: float, b: float) -> Piece:
        """The part between positions a < b of the piece that is the node."""
        lo, hi = node
        if a <= lo and hi <= b:
            return piece
        if hi - lo == 1:
            cut = a if a > lo else b
            name = (lo, INSIDE_A_LEAF + self.tree.depth)
            return self._divide(piece, cut - lo, name)[1 if a > lo else 0]
        middle = self.tree.middle(lo, hi)
        if node not in self._parts:
            fraction = (middle - lo) / (hi - lo)
            self._parts[node] = self._divide(piece, fraction, self.tree.name(middle))
        left, right = self._parts[node]
        if b <= middle:
            return self._over((lo, middle), left, a, b)
        if a >= middle:
            return self._over((middle, hi), right, a, b)
        return join(self._over((lo, middle), left, a, b), self._over((middle, hi), right, a, b))

    def _divide(self, piece: Piece, fraction: float, name: tuple[int, int]) -> tuple[Piece, Piece]:
        n = self._normal(name, 1) if self.path.area else None
        return divide(piece, fraction, self._normal(name), n)

    def _normal(self, name: tuple[int, int], index: int = 0) -> Array:
        assert self._shape is not None
        return keyed_normal(self.backend, self._shape, self.path.seed, name, index)


def scaled(piece: Piece, falling: bool, kinds: tuple[str, ...]) -> tuple[Array, ...]:
    """What `Draw` names, of a piece read forward in time or, if `falling`, backward.

    z = ΔW/√h, and u = √(12/h) H: then √h (z/2 + u/√12) is the mean of W_r - W_s over the interval.
    """
    root = math.sqrt(piece.length)
    found: dict[str, Array] = {"wiener": (-1.0 if falling else 1.0) / root * piece.W}
    if "area" in kinds:
        assert piece.H is not None
        found["area"] = math.sqrt(12) / root * piece.H
    return tuple(found[kind] for kind in kinds)
