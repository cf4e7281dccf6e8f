"""Solving an SDE on a time grid, streaming; gradients through a solve in less memory."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from array_api_compat import array_namespace

from ..backend import Array, Noise, NoiseStream, Progress, checkpoint, real_times, whole_number
from ..backend.arguments import told_apart, word
from ..sde import SDE
from .adaptive import AdaptiveRun, PIController
from .arguments import check_sde, check_start, check_states, explain, opened
from .base import Memory, Normals, Solver
from .brownian import BrownianPath, BrownianStream
from .euler_maruyama import EulerMaruyama
from .watch import EVERY, Watch

CHEAPER = "fewer paths or steps take less, and so does a cheaper drift, denoiser or likelihood"
CHECKS = 10  # host synchronisations of a solve at most, however many steps it has
Step = Callable[[int, Array, Array], tuple[Array, Array]]


@dataclass(frozen=True)
class Path:
    """What `solve` returns.

    states: (times kept, *batch, dim), first kept time first; times: those times, as floats;
    stats: steps, drift or denoiser evaluations, and the solver's name. Evaluations are steps times the
    solver's for one; a scheme that starts or ends otherwise, as its docstring says, takes up to three more
    or one less. With step control they are counted, and so are the steps accepted and rejected.
    """

    states: Array
    times: list[float]
    stats: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:  # not all numbers
        shape, dtype = tuple(self.states.shape), self.states.dtype
        return f"Path(states {shape} {dtype}, t={self.times[0]:.6g} to {self.times[-1]:.6g}, {self.stats})"


def solve(
    sde: SDE,
    x_init: Array,
    times: Sequence[float],
    *,
    solver: Solver | None = None,
    noise: Noise | NoiseStream | BrownianPath | BrownianStream | None = None,
    control: PIController | None = None,
    keep: Literal["all", "last"] = "all",
    checkpoint: int | None = None,
    progress: bool | None = None,
) -> Path:
    """Carry x_init (..., dim) along `times`, one step per interval, on x_init's own backend.

    times: at least two, strictly rising or (for a reverse SDE) strictly falling; the other way only
    where no noise enters. solver: Euler–Maruyama by default. noise: seed 0 in host mode by default;
    step k takes the normals of number k, which leaves number 0 for the start; an opened stream goes
    on where it is; a BrownianPath is the same for every grid. control: chooses the steps between
    `times`, and with noise needs a BrownianPath. keep: 'all' states at `times`, or only the 'last',
    in which case memory does not grow with the number of steps. checkpoint: for gradients in torch,
    hold one state in so many steps, and take the steps again when the gradient is asked for.

    Raises: ValueError for a grid that is not monotone or runs the wrong way; TypeError, and
    BackendMismatch, for arguments that are none or do not fit each other; NonFiniteState with step,
    time and path count where a state is NaN or infinite, or a controlled step too short.
    """
    check_sde(sde)
    check_start(sde, x_init)
    grid = _checked_grid(times)
    word("keep", keep, "all", "last")
    solver = EulerMaruyama() if solver is None else solver
    if not isinstance(solver, Solver):
        raise TypeError(f"solver must be a solver such as EulerMaruyama(); got {solver!r}")
    if control is not None and not isinstance(control, PIController):
        raise TypeError(f"control must be a PIController such as PIController(rtol=1e-5); got {control!r}")
    solver = solver.on_grid(grid)
    quiet = [sde.deterministic(s, t) for s, t in itertools.pairwise(grid)]  # steps that no noise enters
    deterministic = all(quiet)
    _check_direction(sde, grid, deterministic)
    sde = _prepared(solver, sde, x_init, grid, deterministic)
    xp = array_namespace(x_init)
    stream = opened(noise, Noise(), x_init)
    states = [x_init]
    x = x_init
    check_checkpoint(checkpoint, stream, control)
    run: Any = _steps(sde, x_init, grid, solver, stream, quiet, checkpoint, progress)
    try:
        if control is not None:
            run = AdaptiveRun(sde, x_init, grid, solver, stream, control, deterministic, progress)
        for x in run:
            if keep == "all":
                states.append(x)
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        explain(sde, x_init, grid, error)
        raise
    kept = xp.stack(states) if keep == "all" else xp.expand_dims(x, axis=0)
    stats = run.stats if control is not None else _stats(solver, len(grid) - 1)
    return Path(kept, grid if keep == "all" else grid[-1:], stats)


def _stats(solver: Solver, steps: int) -> dict[str, Any]:
    return {"steps": steps, "evaluations": steps * solver.evaluations, "solver": type(solver).__name__}


def _steps(
    sde: SDE,
    x: Array,
    grid: list[float],
    solver: Solver,
    stream: Any,
    quiet: list[bool],
    checkpoint: int | None,
    progress: bool | None,
) -> Iterator[Array]:
    """The states after each step; non-finite ones are noted on the device, read a few times only."""
    steps, watch = len(grid) - 1, Watch(x, grid)
    shapes, extra = solver.draw_shapes(sde, x.shape) if solver.draws else (), "extra" in solver.draws
    interval = max(math.ceil(steps / CHECKS), EVERY)

    def drawn(k: int) -> Normals:
        """What `solver.draws` names for step k; None where no noise enters."""
        if not (extra or (shapes and not quiet[k])):
            return None
        z = stream.draws(k + 1, grid[k], grid[k + 1], solver.draws, shapes)
        return z[0] if len(shapes) == 1 else z

    def take(k: int, x: Array, memory: Memory) -> tuple[Array, Array]:
        # the noise has no name here, so that a step can free it as soon as it is used
        x_next, memory = solver.step(sde, x, grid[k], grid[k + 1], drawn(k), memory)
        if k == 0:
            check_states(solver, x, x_next)
        return x_next, memory

    states = steps_taken(take, steps, x, solver.init(sde, x, grid[0]), checkpoint)
    paths = math.prod(x.shape[:-1])
    what = f"{steps} steps of {paths} paths, {steps * solver.evaluations * paths} evaluations"
    bar = Progress(steps, progress, "solving", "step", what, CHEAPER)
    for k, x in enumerate(bar.over(states)):
        watch.note(x)
        if (k + 1) % interval == 0 or k + 1 == steps:
            watch.check(x)
        yield x


def _prepared(solver: Solver, sde: SDE, x: Array, grid: list[float], deterministic: bool) -> SDE:
    """`Solver.prepare` at the start, and its checks at a later time too: where g is 0 at the start they see
    nothing there.
    """
    later = grid[(len(grid) - 1) // 2] if len(grid) > 2 else 0.5 * (grid[0] + grid[1])
    solver.prepare(sde, x, later, deterministic)
    return solver.prepare(sde, x, grid[0], deterministic)


def _check_direction(sde: SDE, grid: list[float], deterministic: bool) -> None:
    falls = grid[-1] < grid[0]
    if falls != sde.falling and not deterministic:
        first, last = told_apart(grid[0], grid[-1], digits=6)
        raise ValueError(
            f"{type(sde).__name__} runs {'down' if sde.falling else 'up'} in time; got times from "
            f"{first} {'down' if falls else 'up'} to {last}; reverse the times, or use "
            f"{'its forward SDE' if sde.falling else 'ReverseSDE'}"
        )


def _checked_grid(times: Sequence[float]) -> list[float]:
    grid = real_times("", times)
    steps = [b - a for a, b in itertools.pairwise(grid)]
    if not steps or not all(math.isfinite(t) for t in grid):
        raise ValueError(f"times must be at least two finite numbers; got {grid}")
    if not (all(d > 0 for d in steps) or all(d < 0 for d in steps)):
        bad = next(i for i, d in enumerate(steps) if d == 0 or (d > 0) != (steps[0] > 0))
        raise ValueError(
            f"times must strictly rise or strictly fall; times[{bad}]={grid[bad]} is followed by "
            f"times[{bad + 1}]={grid[bad + 1]}"
        )
    return grid


def steps_taken(take: Step, steps: int, x: Array, memory: Memory, every: int | None) -> Iterator[Array]:
    """The states after each step, of which `take` makes number k: (k, x, memory) ↦ (x, memory).

    every: None, or the steps of a segment: for gradients only the states between segments are held,
    and a segment's steps are taken again, with the same noise, when its gradient is asked for. What
    is held is O(steps/every) states and O(every) times what one step holds, least near
    every = √steps; each step is taken twice. Source: Griewank & Walther 2000, with one level of
    checkpoints; Chen et al. 2016 (Training deep nets with sublinear memory cost).
    """
    if every is None:
        for k in range(steps):
            x, memory = take(k, x, memory)
            yield x
        return

    def segment(x: Array, memory: Memory, first: int) -> tuple[list[Array], Array]:
        states = []
        for k in range(first, min(first + every, steps)):
            x, memory = take(k, x, memory)
            states.append(x)
        return states, memory

    for first in range(0, steps, every):
        states, memory = checkpoint(segment, x, memory, first)
        x = states[-1]
        yield from states


def check_checkpoint(every: object, stream: object, control: object) -> None:
    """Raises: ValueError for a number of steps that is none, noise that cannot be drawn again, or a
    controlled solve, whose steps are not known beforehand.
    """
    if every is None:
        return
    whole_number("checkpoint, the steps between two states that are kept,", every, 1)
    if control is not None:
        raise ValueError("checkpoint takes the steps of a grid, not those of a control: give one of the two")
    if getattr(stream, "native", None) is not None:
        raise ValueError(
            "checkpoint draws the same noise again for gradients, which a native stream cannot do: use "
            "Noise(seed, mode='host') or a BrownianPath"
        )
