"""What a solve says of states that are not finite, without a host synchronisation in each step."""

import math

from array_api_compat import device

from ..backend import Array, array_namespace, backend_of
from ..backend.arguments import told_apart

EVERY = 4  # states held on the host, of which one is looked at
LARGE = 100_000  # numbers in a state from which on only two are held: the first of them is alive anyway
HELD = 128  # sums held before they are folded, so that memory does not grow with the number of steps


class NonFiniteState(FloatingPointError):
    """A solve reached NaN or infinity; the message names step, time and how many paths."""


class Watch:
    """Notes on the device whether each state is finite; reads the notes only when asked.

    The sum of a state is finite only if the state is (one pass over it and no copy). The sums of the
    last steps are held in one array; now and then they are folded into the number of the first step whose
    sum is not finite. Where looking costs nothing, on the host, the states of up to `every` steps are held
    instead and the newest alone is summed: what is not finite in a state stays so in the states after it,
    but for a last step that drops the state; the one before it is therefore looked at too.

    every: 1 where a row that is not finite may be replaced by another; otherwise by the size of x.
    """

    def __init__(self, x: Array, grid: list[float], every: int | None = None) -> None:
        self.grid = grid
        self.xp = xp = array_namespace(x)
        adapter = backend_of(x).adapter
        self._detached = adapter.detached  # a gradient needs no graph of the notes
        every = every or (EVERY if math.prod(x.shape) < LARGE else 2)
        self._every = every if adapter.readable(x) else 1
        self._recent: list[Array] = []
        # one array, not a list: many small ones would lie between the states and scatter them in memory
        self._sums = xp.zeros(HELD, dtype=x.dtype, device=device(x))
        self._held = 0
        self._folded = 0
        self._first_bad: Array | None = None
        self._room = self._next_look()
        if not bool(xp.all(xp.isfinite(x))):
            bad, total = _bad_paths(x)
            raise NonFiniteState(f"x_init has NaN or infinity in {bad} of {total} paths")

    def note(self, x: Array) -> None:
        """One more step, which ended in x."""
        self._recent.append(x)
        if len(self._recent) >= self._room:
            self._look()

    def _look(self) -> None:
        """At the newest of the states held; at each of them where that one is not finite, or on a device."""
        recent, self._recent = self._recent, []
        if self._every > 1 and not self._held and math.isfinite(self.xp.sum(self._detached(recent[-1]))):
            self._folded += len(recent)
        else:
            for x in recent:
                self._add(self._detached(x))
        self._room = self._next_look()

    def _next_look(self) -> int:
        """Steps from now: each of the last two is looked at."""
        return max(min(self._every, len(self.grid) - 2 - self._folded - self._held), 1)

    def _add(self, x: Array) -> None:
        self._sums[self._held] = self.xp.sum(x)
        self._held += 1
        if self._held == HELD:
            self._fold()

    def _fold(self) -> None:
        """Bring `_first_bad`, an array of one number, up to date: as large as the grid for none."""
        xp = self.xp
        finite = xp.isfinite(self._sums[: self._held])
        numbers = xp.arange(self._folded, self._folded + self._held, dtype=xp.int64, device=device(finite))
        first = xp.min(xp.where(finite, xp.full_like(numbers, len(self.grid)), numbers))
        self._first_bad = first if self._first_bad is None else xp.minimum(self._first_bad, first)
        self._folded, self._held = self._folded + self._held, 0

    def check(self, x: Array) -> None:
        """Raises: NonFiniteState where a state noted so far, of which x is the last, was not finite."""
        if self._recent:
            self._look()
        if self._held:
            self._fold()
        if self._first_bad is None:
            return
        first_bad, grid = int(self._first_bad), self.grid
        if first_bad == len(grid):
            return
        bad, total = _bad_paths(x)
        what = "NaN or infinity" if bad else "NaN, infinity, or states so large that their sum overflows,"
        start, end = told_apart(grid[first_bad], grid[first_bad + 1], digits=6)
        raise NonFiniteState(
            f"{what} at step {first_bad + 1} of {len(grid) - 1}, from t={start} to "
            f"t={end} (by step {self._folded} in {bad} of {total} paths); "
            + advice(grid[first_bad], grid[first_bad + 1])
        )


def advice(s: float, t: float) -> str:
    """What to do about a step from s to t that is not finite."""
    if t == 0 < s:
        return (
            "a score is not known at t = 0: end there with ExponentialHeun or DPMSolverPP, or stop at a "
            "small t > 0"
        )
    return "use smaller steps, another solver, or check the drift or denoiser there"


def _bad_paths(x: Array) -> tuple[int, int]:
    xp = array_namespace(x)
    rows = xp.any(~xp.isfinite(xp.reshape(x, (-1, x.shape[-1]))), axis=-1)
    return int(xp.count_nonzero(rows)), rows.shape[0]
