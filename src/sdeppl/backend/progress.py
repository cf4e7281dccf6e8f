"""Bars for what takes long, and a warning of what it will cost."""

import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from tqdm.auto import tqdm

from .sharing import warn

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
