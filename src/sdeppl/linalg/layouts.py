"""What is next to what among the numbers of a site, which covariances and networks follow."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from ..backend import whole_number

Boundary = Literal["reflecting", "open"]
CovarianceKind = Literal["auto", "dense", "stationary", "low-rank"]
MOST_AXES = 3


@dataclass(frozen=True)
class FieldShape:
    """A field on a regular grid of `shape`: `channels` numbers at each point, in C order, channels first.

    periodic: of each axis of the grid, whether its ends meet.
    """

    channels: int
    shape: tuple[int, ...]
    periodic: tuple[bool, ...]

    @property
    def size(self) -> int:
        """Numbers in all."""
        return self.channels * self.points

    @property
    def points(self) -> int:
        """Of the grid."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        each = f"{self.channels} x " if self.channels > 1 else ""
        return each + " x ".join(str(size) for size in self.shape)


@dataclass(frozen=True)
class PathShape:
    """A path: `length` states of `states` numbers each, state by state.

    What is learned of states one after the other holds for any length.
    """

    length: int
    states: int

    @property
    def size(self) -> int:
        """Numbers in all."""
        return self.length * self.states

    def __str__(self) -> str:
        return f"{self.length} x {self.states}"


class Layout:
    """What is next to what among the numbers of a site."""

    def of(self, shape: Sequence[int]) -> FieldShape | PathShape:
        """A site of this shape. Raises: ValueError where it does not fit."""
        raise NotImplementedError


@dataclass(frozen=True)
class Time(Layout):
    """A site whose first axis is time: a path, of which states near one another in time know of each other.

    Its covariance is that of a vector autoregression (Gauss–Markov), fitted to draws. order: how many states
    back it looks, by default what explains held-out draws best; period: in states, after which the law of the
    path repeats itself, as of a season; 1 for none.

    Raises: ValueError, TypeError for arguments out of range.
    """

    order: int | None = None
    period: int = 1

    def __post_init__(self) -> None:
        if self.order is not None:
            whole_number("Time: order", self.order, 1)
        whole_number("Time: period", self.period, 1)

    def of(self, shape: Sequence[int]) -> PathShape:
        """A site of shape (length, *state). Raises: ValueError for one without axes or numbers."""
        if not shape or 0 in shape:
            raise ValueError(f"shape {tuple(shape)} does not fit Time(): expected (length, *state)")
        return PathShape(shape[0], math.prod(shape[1:]))


@dataclass(frozen=True)
class Grid(Layout):
    """A site whose numbers stand on a regular grid of one to three axes.

    channels: how many leading axes of the site's shape are channels, several numbers at each point: 0 or 1.
    periodic: whether the ends of an axis meet, a bool for all axes of the grid or one for each. boundary: of
    the other axes, 'reflecting' (the field goes on as its mirror image: no slope at the edge) or 'open'
    (nothing is assumed). covariance: how the prior's is held, 'dense' (all entries, few numbers only),
    'stationary' (the same everywhere on the grid: by Fourier or cosine transform), 'low-rank' (a few
    directions and a variance for each number), or 'auto', by size and by which explains held-out draws best.
    rank: of 'low-rank', by default from the draws.

    Raises: ValueError, TypeError for arguments out of range.
    """

    channels: int = 0
    periodic: bool | Sequence[bool] = False
    boundary: Boundary = "reflecting"
    covariance: CovarianceKind = "auto"
    rank: int | None = None

    def __post_init__(self) -> None:
        if whole_number("Grid: channels", self.channels, 0) > 1:
            raise ValueError(
                f"Grid(channels={self.channels}): channels counts the leading axes of the site's shape "
                "that are channels, 0 or 1, not how many channels there are"
            )
        if not isinstance(self.periodic, bool):
            periodic = tuple(self.periodic) if isinstance(self.periodic, Sequence) else (self.periodic,)
            if not all(isinstance(one, bool) for one in periodic):
                raise TypeError(
                    f"Grid: periodic must be True or False, or one of them for each axis; got {periodic}"
                )
            object.__setattr__(self, "periodic", periodic)
        for name, kinds in (("boundary", Boundary), ("covariance", CovarianceKind)):
            if getattr(self, name) not in get_args(kinds):
                raise ValueError(
                    f"Grid: {name} must be one of {get_args(kinds)}; got {getattr(self, name)!r:.80}"
                )
        if self.rank is not None:
            whole_number("Grid: rank", self.rank, 1)

    def of(self, shape: Sequence[int]) -> FieldShape:
        """A site of this shape. Raises: ValueError where it has no such axes."""
        channels, axes = tuple(shape)[: self.channels], tuple(shape)[self.channels :]
        if len(channels) < self.channels or not 1 <= len(axes) <= MOST_AXES or 0 in shape:
            raise ValueError(
                f"shape {tuple(shape)} does not fit Grid(channels={self.channels}): expected "
                f"{'(channels, ' if self.channels else '('}n_1[, n_2[, n_3]]), one to three axes of the grid"
            )
        periodic = self.periodic if not isinstance(self.periodic, bool) else (self.periodic,) * len(axes)
        if len(periodic) != len(axes):
            raise ValueError(f"Grid has periodic={tuple(periodic)}, and the grid {axes} has {len(axes)} axes")
        return FieldShape(math.prod(channels), axes, tuple(periodic))
