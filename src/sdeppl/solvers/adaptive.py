"""Solving with steps of controlled error, of an ODE or along a Brownian path."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..backend import Array, Progress, array_namespace, backend_of, python_floats, whole_number
from ..backend.arguments import told_apart
from ..sde import SDE
from .base import Memory, Solver, Stepped
from .brownian import BrownianStream, Piece, join, scaled
from .runge_kutta import RungeKutta
from .watch import NonFiniteState, Watch, advice

LEAST = 2.0**-46  # of the interval or of the time: a shorter step is lost in rounding
LEAST_LEAVES = 64  # a shorter step along a Brownian path is lost in its tolerance
NODES = 16  # a step ends on one of this many nodes of the path, so that few normals are drawn


@dataclass(frozen=True)
class PIController:
    """Steps whose estimated error stays below atol + rtol |x|, by a proportional–integral rule.

    Error: root mean square over the components of a row of e/(atol + rtol max(|x_s|, |x_t|)), then
    the largest over rows, so the steps depend on the whole batch, and each costs one host
    synchronisation. A step is taken where it is ≤ 1. The next is longer by the factor
    safety err^{-(integral + proportional)/k} err_before^{proportional/k}, within min_factor and max_factor,
    for an error ∝ h^k; after a step that is not taken by safety err^{-1/k} < 1, and right after that
    no longer. With integral = .3 and proportional = .4 it is Söderlind's PI.3.4; proportional = 0 and
    integral = 1 is the plain rule.

    rtol, and atol in units of x, of the error of one step, not of the whole solve. first_step: in
    units of time; chosen where None. max_step: no step is longer, but by a sixteenth; a drift that is
    zero but for short pulses needs it, lest they be stepped over. max_steps: steps tried, at most.

    Raises: ValueError for values out of range. Source: Hairer, Nørsett & Wanner 1993, sections II.4
    and (vol. II, 1996) IV.2; Söderlind 2002.
    """

    rtol: float = 1e-5
    atol: float = 1e-7
    integral: float = 0.3
    proportional: float = 0.4
    safety: float = 0.9
    min_factor: float = 0.2
    max_factor: float = 5.0
    first_step: float | None = None
    max_step: float = math.inf
    max_steps: int = 100_000

    def __post_init__(self) -> None:
        steps = whole_number("PIController: max_steps", self.max_steps, 1)
        python_floats(self)
        object.__setattr__(self, "max_steps", steps)
        if not (self.rtol >= 0 and self.atol >= 0 and self.rtol + self.atol > 0):
            raise ValueError(
                f"PIController: rtol and atol must be ≥ 0, one > 0; got {self.rtol}, {self.atol}"
            )
        if not (0 < self.min_factor < 1 < self.max_factor and 0 < self.safety < 1):
            raise ValueError(
                "PIController needs 0 < min_factor < 1 < max_factor and 0 < safety < 1; got "
                f"{self.min_factor}, {self.max_factor}, {self.safety}"
            )
        if not (self.integral > 0 and self.proportional >= 0):
            raise ValueError(
                "PIController needs integral > 0 and proportional ≥ 0; got "
                f"{self.integral}, {self.proportional}"
            )
        if self.first_step is not None and not self.first_step > 0:
            raise ValueError(f"PIController: first_step must be a positive time; got {self.first_step}")
        if not self.max_step > 0:
            raise ValueError(f"PIController: max_step must be a positive time; got {self.max_step}")

    def row_errors(self, error: Array, *states: Array) -> Array:
        """The error of each row in units of the tolerance, (...), for errors like the states (..., dim)."""
        xp = array_namespace(error)
        size = xp.abs(states[0])
        for state in states[1:]:
            size = xp.maximum(size, xp.abs(state))
        ratio = error / (self.atol + self.rtol * size)
        return xp.sqrt(xp.mean(ratio * ratio, axis=-1))

    def norm(self, error: Array, *states: Array) -> float:
        """The largest of `row_errors`; inf where one is NaN."""
        errors = backend_of(error).adapter.detached(self.row_errors(error, *states))
        found = float(array_namespace(errors).max(errors))
        return math.inf if math.isnan(found) else found

    def factor(self, error: float, before: float, order: float, rejected: bool) -> float:
        """Next step over this one, after this one's `error` and `before`, that of the last taken one.

        rejected: whether this step was tried in another length before.
        """
        error = max(error, 1e-10)
        if error > 1:
            return max(self.safety * error ** (-1 / order), self.min_factor)
        power = -(self.integral + self.proportional) / order
        raw = self.safety * error**power * max(before, 1e-4) ** (self.proportional / order)
        return min(max(raw, self.min_factor), 1.0 if rejected else self.max_factor)


class AdaptiveRun:
    """The states at grid[1:], one after the other, by steps whose estimated error is below a tolerance.

    A scheme with an embedded error estimate uses it. Another is stepped once over the interval and twice over
    its parts (about halves); the difference is the error, the second result is kept. With noise all
    three take their increments from one Brownian path, whether or not the step is taken, and the times
    where it was read by a step not taken are stepped on later ('no skip'), so the path is not
    selected. Source: Gaines & Lyons 1997; Foster & Jelinčič 2024.

    Raises: TypeError for a solver whose steps may not depend on the path: Itô's Euler–Maruyama then
    converges to another process where g depends on x.
    """

    def __init__(
        self,
        sde: SDE,
        x: Array,
        grid: list[float],
        solver: Solver,
        stream: object,
        control: PIController,
        deterministic: bool,
        progress: bool | None = None,
    ) -> None:
        self.sde, self.x, self.grid, self.solver, self.control = sde, x, grid, solver, control
        self.noisy = not deterministic
        self.embedded = solver if isinstance(solver, RungeKutta) and solver.tableau.error else None
        self.order = _error_order(sde, solver, self.noisy)
        self.stream = _checked_stream(solver, stream) if self.noisy or "extra" in solver.draws else None
        self.span, self.progress = grid[-1] - grid[0], progress
        self.accepted = self.rejected = self.evaluations = 0
        self.before, self.retrying = 1.0, False
        self.revealed: list[float] = []  # where the path was read ahead of x, the nearest last
        Watch(x, grid)
        self.memory = solver.init(sde, x, grid[0])
        self.least = LEAST * max(abs(self.span), abs(grid[0]), abs(grid[-1]))
        if self.stream is not None:
            self.least = max(self.least, LEAST_LEAVES * self.stream.tree.width)
        self.size = min(max(self._first_size(), self.least), abs(self.span), control.max_step)

    @property
    def stats(self) -> dict[str, Any]:
        """Steps taken and not taken, evaluations of the drift or denoiser, the solver's name."""
        return {
            "steps": self.accepted,
            "accepted": self.accepted,
            "rejected": self.rejected,
            "evaluations": self.evaluations,
            "solver": type(self.solver).__name__,
        }

    def __iter__(self) -> Iterator[Array]:
        s = self.grid[0]
        for target in Progress(len(self.grid) - 1, self.progress, "solving", "time").over(self.grid[1:]):
            while s != target:
                s = self._advance(s, target)
            yield self.x

    def _advance(self, s: float, target: float) -> float:
        """Try one step; the time afterwards."""
        if self.accepted + self.rejected >= self.control.max_steps:
            first, here = told_apart(self.grid[0], s, digits=6)
            raise RuntimeError(
                f"max_steps={self.control.max_steps} steps led from t={first} to t={here} only "
                f"({self.rejected} not taken); allow more, or a larger rtol"
            )
        t = self._end(s, self.revealed[-1] if self.revealed else target)
        x_next, memory, error = self._embedded(s, t) if self.embedded else self._doubled(s, t)
        norm = self.control.norm(error, self.x, x_next)
        length = abs(t - s)
        proposed = length * self.control.factor(norm, self.before, self.order, self.retrying)
        if norm > 1:
            self.rejected += 1
            self._check_size(s, t, proposed, error, x_next)
            self.size, self.retrying = proposed, True
            self._reveal(s, t)
            return s
        if self.revealed and self.revealed[-1] == t:
            self.revealed.pop()
        # a step cut short to end at a given time says little against the size before
        size = max(proposed, self.size) if length < 0.9 * self.size else proposed
        self.size = min(size, self.control.max_step)
        self.accepted += 1
        self.x, self.memory, self.before, self.retrying = x_next, memory, norm, False
        return t

    def _end(self, s: float, stop: float) -> float:
        """Where a step of about `size` from s ends: not beyond `stop`, nor shortly before it."""
        size = math.copysign(self.size, self.span)
        if abs(stop - s) <= (1 + 1 / NODES) * self.size:
            return stop
        return s + size if self.stream is None else self.stream.tree.nearest(s + size, self.size / NODES)

    def _embedded(self, s: float, t: float) -> tuple[Array, Memory, Array]:
        assert self.embedded
        if self.memory is None and self.embedded.tableau.first_same_as_last:
            self.memory = self.sde.drift(self.x, s)
            self.evaluations += 1
        self.evaluations += int(self.solver.evaluations)
        return self.embedded.step_with_error(self.sde, self.x, s, t, self.memory)

    def _doubled(self, s: float, t: float) -> tuple[Array, Memory, Array]:
        middle = self._middle(s, t)
        whole = first = second = None
        if self.stream is not None:
            shape = self.solver.draw_shapes(self.sde, self.x.shape)[0]
            first = self.stream.between(s, middle, shape)
            second = self.stream.between(middle, t, shape)
            whole = join(first, second) if s < t else join(second, first)
        at_once, _ = self._step(self.x, s, t, whole, self.memory)
        x, memory = self._step(self.x, s, middle, first, self.memory)
        x, memory = self._step(x, middle, t, second, memory)
        return x, memory, x - at_once

    def _step(self, x: Array, s: float, t: float, piece: Piece | None, memory: Memory) -> Stepped:
        self.evaluations += int(self.solver.evaluations)
        if piece is None or self.sde.deterministic(s, t):
            return self.solver.step(self.sde, x, s, t, None, memory)
        z = scaled(piece, t < s, self.solver.draws)
        return self.solver.step(self.sde, x, s, t, z[0] if len(z) == 1 else z, memory)

    def _reveal(self, s: float, t: float) -> None:
        """Note where a step that is not taken has read the path."""
        if self.stream is not None:
            if not self.revealed or self.revealed[-1] != t:
                self.revealed.append(t)
            self.revealed.append(self._middle(s, t))

    def _middle(self, s: float, t: float) -> float:
        middle = 0.5 * (s + t)
        if self.stream is None:
            return middle
        middle = self.stream.tree.nearest(middle, abs(t - s) / (2 * NODES))
        if not min(s, t) < middle < max(s, t):
            raise ValueError(
                f"times {s!r} and {t!r} are too close for this BrownianPath, whose leaves are "
                f"{self.stream.tree.width:.3g} wide; use a smaller tolerance"
            )
        return middle

    def _first_size(self) -> float:
        """Chosen as by Hairer, Nørsett & Wanner 1993, section II.4, or a hundredth of the span with noise."""
        control, span = self.control, abs(self.span)
        if control.first_step is not None:
            return control.first_step
        if self.stream is not None:
            return span / 100
        x, t = self.x, self.grid[0]
        slope = self.sde.drift(x, t)
        if self.embedded and self.embedded.tableau.first_same_as_last:
            self.memory = slope
        of_x, of_slope = control.norm(x, x), control.norm(slope, x)
        size = 0.01 * of_x / of_slope if of_x > 1e-5 and 1e-5 < of_slope < math.inf else 1e-6 * span
        size = min(size, span)
        h = math.copysign(size, self.span)
        bend = control.norm(self.sde.drift(x + h * slope, t + h) - slope, x) / size
        self.evaluations += 2
        steepest = max(of_slope, bend)
        by_order = (0.01 / steepest) ** (1 / self.order) if steepest > 1e-15 else max(1e-6, 1e-3 * size)
        return min(100 * size, by_order if by_order > 0 else size)

    def _check_size(self, s: float, t: float, size: float, error: Array, x_next: Array) -> None:
        """Raises: NonFiniteState where the next step would be too short."""
        if size >= self.least:
            return
        errors = self.control.row_errors(error, self.x, x_next)
        xp = array_namespace(errors)
        bad, finite = int(xp.count_nonzero(~(errors <= 1))), bool(xp.all(xp.isfinite(errors)))
        (start, end), (short, least) = told_apart(s, t, digits=6), told_apart(size, self.least)
        raise NonFiniteState(
            f"{'too large an error' if finite else 'NaN or infinity'} at step {self.accepted + 1}, from "
            f"t={start} to t={end}, in {bad} of {math.prod(errors.shape)} paths, and a step of {short} "
            f"would be shorter than {least}, the least that "
            + ("rounding allows" if self.stream is None else "this BrownianPath's tolerance allows")
            + "; "
            + (advice(s, t) if t == 0 and not finite else "use a larger rtol, or check the drift there")
        )


def _error_order(sde: SDE, solver: Solver, noisy: bool) -> float:
    """k of an estimated error ∝ h^k. Raises: TypeError for a solver that may not be stepped adaptively."""
    if not noisy:
        if isinstance(solver, RungeKutta) and solver.tableau.error:
            return solver.error_order
        return 1 + (solver.weak_order if solver.order is None else solver.order)
    strong = solver.strong_order[sde.noise]
    if not strong >= (1.0 if solver.calculus == "ito" else 0.5):
        raise TypeError(
            f"{type(solver).__name__} has strong order {strong} for {sde.noise} noise: with steps that "
            "depend on the path it converges to another process; use a solver of strong order 1 or more"
        )
    return strong + 0.5


def _checked_stream(solver: Solver, stream: object) -> BrownianStream:
    others = [kind for kind in solver.draws if kind not in ("wiener", "area")]
    if others:
        raise TypeError(
            f"{type(solver).__name__} draws {', '.join(others)}, which belong to no step that may be "
            "rejected; use a solver of 'wiener' and 'area' alone, or no control"
        )
    if not isinstance(stream, BrownianStream):
        raise TypeError(
            "adaptive steps with noise must read one Brownian path, whatever steps are tried: use "
            f"noise=BrownianPath(seed, start, stop); got {type(stream).__name__}"
        )
    stream.require(solver.draws)
    return stream
