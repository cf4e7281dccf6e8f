"""What a solve says of states that are not finite, without a host synchronisation in each step."""

from typing import Any

from array_api_compat import array_namespace


class NonFiniteState(FloatingPointError):
    """A solve reached NaN or infinity; the message names step, time and how many paths."""


class Watch:
    """Notes on the device whether each state is finite; reads the note only when asked.

    The sum of a state is finite only if the state is (one pass over it and no copy); the sums add
    up to a total that is not finite from the first bad step on, and the steps with a finite total are
    counted.
    """

    def __init__(self, x: Any, grid: list[float]) -> None:
        self.grid = grid
        self.total = 0.0
        self.good_steps: Any = 0
        self.steps = 0
        xp = array_namespace(x)
        if not bool(xp.all(xp.isfinite(x))):
            bad, total = _bad_paths(x)
            raise NonFiniteState(f"x_init has NaN or infinity in {bad} of {total} paths")

    def note(self, x: Any) -> None:
        """One more step, which ended in x."""
        xp = array_namespace(x)
        self.total = self.total + xp.sum(x)
        self.good_steps = self.good_steps + xp.astype(xp.isfinite(self.total), xp.int64)
        self.steps += 1

    def check(self, x: Any) -> None:
        """Raises: NonFiniteState where a state noted so far, of which x is the last, was not finite."""
        first_bad = int(self.good_steps)
        if first_bad == self.steps:
            return
        bad, total = _bad_paths(x)
        grid = self.grid
        what = "NaN or infinity" if bad else "states so large that their sum overflows,"
        raise NonFiniteState(
            f"{what} at step {first_bad + 1} of {len(grid) - 1}, from t={grid[first_bad]:.6g} to "
            f"t={grid[first_bad + 1]:.6g} (by step {self.steps} in {bad} of {total} paths); use smaller "
            "steps, another solver, or check the drift or denoiser there"
        )


def _bad_paths(x: Any) -> tuple[int, int]:
    xp = array_namespace(x)
    rows = xp.any(~xp.isfinite(xp.reshape(x, (-1, x.shape[-1]))), axis=-1)
    return int(xp.count_nonzero(rows)), rows.shape[0]
