"""Memory and time: what there is, what a call takes, and a bar for what is long."""

import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from tqdm.auto import tqdm

from .arguments import told_apart
from .arrays import Backend, array_namespace
from .sharing import warn
from .typing import Array

VARIABLE = "SDEPPL_MEMORY_GB"
SHARE = 0.5  # of what is free, that the arrays of one chunk may take
AT_ONCE = 2**28  # bytes of a chunk beyond which more rows at a time are no faster
CGROUP = Path("/sys/fs/cgroup")


class OutOfMemory(MemoryError):
    """What was asked for cannot fit in the memory that is free; nothing was started."""


def free_memory(backend: Backend) -> int | None:
    """Bytes that arrays of the backend may still take, or None where the system does not say.

    SDEPPL_MEMORY_GB, a number, stands in place of all else. On a GPU the device's; on the host the least of
    what Linux calls available, what the control group may have (cgroup v2), and what `ulimit -v` leaves.
    Raises: ValueError for a variable that is no positive number.
    """
    wanted = os.environ.get(VARIABLE)
    if wanted:
        try:
            size = float(wanted)
        except ValueError:
            size = math.nan
        if not 0 < size < math.inf:
            raise ValueError(f"{VARIABLE} must be a number of gigabytes above 0, such as 8; got {wanted!r}")
        return int(size * 1e9)
    own = backend.adapter.free_memory(backend.device)
    if own is not None:
        return own
    found = [known for known in (_available(), _of_group(), _of_limit()) if known is not None]
    return min(found) if found else None


def require_memory(size: float, backend: Backend, what: str, instead: str) -> None:
    """Raises: OutOfMemory where `size` bytes, for `what`, are more than is free; instead: what to do."""
    free = free_memory(backend)
    if free is not None and size > free:
        needed, left = told_apart(size / 1e9, free / 1e9)
        raise OutOfMemory(
            f"{what} takes about {needed} GB, and {left} GB are free; {instead} "
            f"({VARIABLE} sets another limit)"
        )


def rows_at_once(row: float, backend: Backend, what: str, instead: str) -> int:
    """Rows of `row` bytes each that a chunk may have: as many as are quick, or as the free memory holds.

    Raises: OutOfMemory where a single one does not fit.
    """
    require_memory(row, backend, what, instead)
    free = free_memory(backend)
    room = AT_ONCE if free is None else min(AT_ONCE, SHARE * free)
    return max(int(room // max(row, 1.0)), 1)


def in_chunks(function: Callable[[Array, slice], Array], rows: Array, count: int) -> Array:
    """function(rows[part, ...], part) for parts of at most `count` rows, one after the other again.

    function: of each row alone, to an array or a tuple of arrays with as many rows.
    """
    total = rows.shape[0]
    if total <= count:
        return function(rows, slice(0, total))
    parts = [slice(i, min(i + count, total)) for i in range(0, total, count)]
    found = [function(rows[part, ...], part) for part in parts]
    xp = array_namespace(rows)
    if not isinstance(found[0], tuple):
        return xp.concat(found, axis=0)
    return tuple(xp.concat(list(column), axis=0) for column in zip(*found, strict=True))


def _available() -> int | None:
    """Of the host."""
    if not sys.platform.startswith("linux"):
        return None
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _of_group() -> int | None:
    """Of the control group of this process and those above it, pages of files not counted."""
    own, found = _own_group(), []
    if own is None:
        return None
    folder = CGROUP / own.strip("/")
    for place in (folder, *folder.parents):
        limit, used = place / "memory.max", place / "memory.current"
        if limit.exists() and used.exists() and limit.read_text().strip() != "max":
            found.append(int(limit.read_text()) - int(used.read_text()) + _file_pages(place))
        if place == CGROUP:
            break
    return max(min(found), 0) if found else None


def _own_group() -> str | None:
    """The path of this process's group, or None without cgroup v2."""
    listed = Path("/proc/self/cgroup")
    lines = listed.read_text().splitlines() if listed.exists() else []
    return next((line[3:] for line in lines if line.startswith("0::")), None)


def _file_pages(place: Path) -> int:
    """Bytes of files held in memory, which the system gives up when asked for more."""
    if not (place / "memory.stat").exists():
        return 0
    pairs = (line.split() for line in (place / "memory.stat").read_text().splitlines())
    return sum(int(value) for name, value in pairs if name == "inactive_file")


def _of_limit() -> int | None:
    """Of `ulimit -v`."""
    if not sys.platform.startswith("linux"):
        return None
    import resource  # not on Windows

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return None
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return max(limit - pages * os.sysconf("SC_PAGE_SIZE"), 0)


Item = TypeVar("Item")

DELAY = 5.0  # seconds until a bar shows by itself
COSTLY = 60.0  # seconds of which a warning says so beforehand
SURE, WAITED = 3, 10.0  # units done, or seconds gone, from which on a rate is believed
PACKAGE = str(Path(__file__).parents[1])


class CostWarning(UserWarning):
    """What was asked for takes more than a minute; the message says how long, and what would be cheaper."""


def warn_user(message: str, category: type[Warning]) -> None:
    """Warn at the line outside of this package that led here."""
    frame, level, found = sys._getframe(1), 2, 2
    while frame.f_back is not None:
        if frame.f_code.co_filename.startswith(PACKAGE):
            found = level + 1
        frame, level = frame.f_back, level + 1
    warn(message, category, found)


class Progress:
    """A bar over `total` units of work, as a context; `update` for each unit, or `over` for a loop.

    progress: True for a bar at once, None for one after 5 seconds, False for none. what: the work in words,
    with its evaluations, and cheaper: what would be less; where the whole takes more than a minute, by the
    first units or by `seconds` where that was known before, a CostWarning says so once. Without `what`
    nothing is said. The clock is read for bars and warnings alone: nothing that is computed depends on it.
    """

    def __init__(
        self,
        total: int,
        progress: bool | None,
        desc: str,
        unit: str = "it",
        what: str | None = None,
        cheaper: str = "",
        seconds: float | None = None,
    ) -> None:
        if not isinstance(progress, bool | None):
            raise TypeError(f"progress must be True, False or None; got {progress!r:.80}")
        self.total, self.what, self.cheaper = total, what, cheaper
        self.desc, self.unit, self.progress = desc, unit, progress
        self._bar: Any = None
        self._done, self._start, self._first = 0, time.monotonic(), 0.0
        if progress:
            self._show()
        if seconds is not None:
            self._tell(seconds)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self) -> None:
        """One more unit is done."""
        self._done += 1
        gone = time.monotonic() - self._start
        if self._bar is not None:
            self._bar.update()
        elif self.progress is None and gone >= DELAY and self._done < self.total:
            self._show()
        if self.what is None:
            return
        if self._done == 1:
            self._first = gone  # may have compiled, or filled a cache
        if self._done >= SURE:
            self._tell(self._first + (gone - self._first) / (self._done - 1) * (self.total - 1))
        elif gone >= WAITED:
            self._tell(gone / self._done * self.total)
        if self._done > SURE and gone > DELAY:
            self.what = None  # the rate is known by now

    def note(self, **figures: str) -> None:
        """Figures beside the bar."""
        if self._bar is not None:
            self._bar.set_postfix(figures)

    def _show(self) -> None:
        # made only when it shows: a bar starts a thread
        often = 0.1 if sys.stderr.isatty() else 10.0  # seconds: a line of a log each
        self._bar = tqdm(
            total=self.total, initial=self._done, desc=self.desc, unit=self.unit, mininterval=often
        )

    def over(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items, each a unit."""
        with self:
            for item in items:
                yield item
                self.update()

    def _tell(self, seconds: float) -> None:
        if seconds <= COSTLY or self.what is None:
            return
        about = f"{seconds / 60:.0f} minutes" if seconds >= 2 * COSTLY else f"{seconds:.0f} seconds"
        warn_user(f"{self.what}: this will take about {about}; {self.cheaper}", CostWarning)
        self.what = None
