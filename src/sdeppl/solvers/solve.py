"""Solving an SDE along a grid of times."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ..backend import (
    Array,
    Backend,
    BackendMismatch,
    Noise,
    NoiseStream,
    Number,
    Progress,
    array_namespace,
    backend_of,
    checkpoint,
    real_times,
    require_floating,
    whole_number,
)
from ..backend.arguments import told_apart, word
from ..sde import SDE, IsotropicSDE, ReverseSDE, check_shape
from .adaptive import AdaptiveRun, PIController
from .base import Memory, Normals, Solver
from .brownian import BrownianPath, BrownianStream
from .euler_maruyama import EulerMaruyama
from .watch import EVERY, Watch


def check_sde(sde: object) -> None:
    """Raises: TypeError for what is no SDE, such as a class or a function."""
    if isinstance(sde, type):
        raise TypeError(f"sde must be an SDE, not a class: write {sde.__name__}(...)")
    if not isinstance(sde, SDE):
        raise TypeError(
            "sde must be an SDE, such as VPSDE() or ItoSDE(drift, diffusion); the order is "
            f"solve(sde, x_init, times); got {type(sde).__name__}"
        )


def check_start(sde: SDE, x: Array) -> None:
    """Raises: TypeError for an x_init that is no array of real numbers, or of another library than the
    arrays in the SDE; ValueError for one without a last axis.
    """
    try:
        backend = backend_of(x)
    except TypeError:
        raise TypeError(
            f"x_init must be an array of NumPy, torch or CuPy, (..., dim); got {type(x).__name__}; make it "
            "one with numpy.asarray or torch.as_tensor"
        ) from None
    try:
        require_floating(backend)
    except TypeError as error:
        raise TypeError(f"x_init: {error}") from None
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"x_init must be (..., dim) with dim >= 1; got shape {tuple(x.shape)}")
    for name, owner in _backends(sde):
        if (owner.name, owner.device) != (backend.name, backend.device):
            raise BackendMismatch(
                f"x_init is of {backend.name} on {backend.device}, {name} of {owner.name} on "
                f"{owner.device}; convert one with sdeppl.backend.convert"
            )


def _backends(sde: Any) -> list[tuple[str, Backend]]:
    """The backends of what is known to hold arrays: the SDE, or its forward SDE and denoiser."""
    found = []
    for part in [sde.forward, sde.denoiser] if isinstance(sde, ReverseSDE) else [sde]:
        name = type(part).__name__
        mu: Number = getattr(part, "mu", None)
        if hasattr(getattr(part, "backend", None), "adapter"):
            found.append((name, part.backend))
        elif isinstance(part, IsotropicSDE) and hasattr(mu, "ndim") and mu.ndim:
            found.append((f"{name}'s μ", backend_of(mu)))
    return found


def opened(noise: Any, default: Any, x: Array) -> Any:
    """The stream that a solve draws from. Raises: TypeError for noise that is none; BackendMismatch."""
    noise = default if noise is None else noise
    if isinstance(noise, type) or not (hasattr(noise, "draws") or hasattr(noise, "stream")):
        raise TypeError(
            "noise must be Noise(seed), BrownianPath(seed, start, stop) or an opened stream of one, not "
            + (noise.__name__ + ", a class" if isinstance(noise, type) else type(noise).__name__)
        )
    here = backend_of(x)
    if not hasattr(noise, "draws"):
        return noise.stream(here)
    backend = getattr(noise, "backend", here)
    if (backend.name, backend.device) != (here.name, here.device):
        raise BackendMismatch(
            f"noise was opened on {backend.name} on {backend.device}, x_init is of {here.name} on "
            f"{here.device}; open it there, or give the Noise itself"
        )
    return noise


def check_states(solver: object, x: Array, x_next: Array) -> None:
    """Raises: ValueError, TypeError where the first step did not leave shape and dtype as they were."""
    if tuple(x_next.shape) != tuple(x.shape):
        raise ValueError(
            f"the first step of {type(solver).__name__} made states {tuple(x_next.shape)} of x_init "
            f"{tuple(x.shape)}: drift and diffusion must return arrays that fit x"
        )
    if x_next.dtype != x.dtype:
        raise TypeError(
            f"the first step of {type(solver).__name__} made states of {x_next.dtype} of an x_init of "
            f"{x.dtype}: give x_init and the arrays in the SDE or denoiser one dtype"
        )


def explain(sde: SDE, x: Array, grid: list[float], error: Exception) -> None:
    """Say what drift, score or diffusion did wrong at the start, after an error in a step.

    Returns where nothing is found, with a note on the error. Raises: TypeError, ValueError.
    """
    t, sde = grid[0], getattr(sde, "original", sde)
    forward = sde.forward if isinstance(sde, ReverseSDE) else sde
    denoiser = getattr(sde, "denoiser", None)
    for part in (forward, denoiser):
        dim = getattr(part, "dim", x.shape[-1])
        if dim != x.shape[-1] or (hasattr(part, "covariance_is_slope") and x.ndim != 2):  # a Denoiser
            rows = "batch" if hasattr(part, "covariance_is_slope") else "..."
            raise ValueError(
                f"x_init must be ({rows}, {dim}) for {type(part).__name__}; got shape {tuple(x.shape)}"
            ) from error
    for name, owner in _backends(sde):
        if owner.dtype != x.dtype:
            raise TypeError(f"x_init is {x.dtype}, {name} {owner.dtype}; give them one dtype") from error
    if min(grid) < 0 and hasattr(forward, "schedule"):
        raise ValueError(f"times of {type(forward).__name__} run from 0 on; got {min(grid):.6g}") from error
    error.add_note(
        f"in a solve of {type(sde).__name__} from t={t:.6g}, with states {tuple(x.shape)}, {x.dtype}"
    )
    fields = [(type(forward).__name__, "drift", forward.drift)]
    if isinstance(sde, ReverseSDE):
        fields.append((type(sde.denoiser).__name__, "score", sde.score))
    for name, what, function in fields:
        try:
            value = function(x, t)
        except Exception:
            return  # the traceback shows the user's own function
        _check_field(f"{name}: the {what}", value, x, error)
    try:
        g = forward.diffusion(x, t)
    except Exception:
        return
    if not isinstance(g, (int, float)):
        _check_library(f"{type(forward).__name__}: the diffusion", g, x, error)
    if not sde.deterministic(grid[0], grid[1]):
        check_shape(forward, x, g)


def _check_library(name: str, value: Array, x: Array, error: Exception) -> None:
    try:
        same = backend_of(value, x)
    except TypeError:  # BackendMismatch is one
        raise TypeError(
            f"{name} must return an array of the library and device of x, {backend_of(x)}; got "
            f"{type(value).__name__}"
        ) from error
    if same.dtype != x.dtype:
        raise TypeError(f"{name} must return {x.dtype}, as x is; got {same.dtype}") from error


def _check_field(name: str, value: Array, x: Array, error: Exception) -> None:
    if isinstance(value, (int, float)):
        return
    _check_library(name, value, x, error)
    shape, like = tuple(value.shape), tuple(x.shape)
    tail = zip(shape[::-1], like[::-1], strict=False)
    if len(shape) > len(like) or not all(a in (1, b) for a, b in tail):
        raise ValueError(f"{name} must return an array like x, {like}; got shape {shape}") from error


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
    # checked at a later time too: where g is 0 at the start nothing is seen there
    later = grid[(len(grid) - 1) // 2] if len(grid) > 2 else 0.5 * (grid[0] + grid[1])
    solver.prepare(sde, x_init, later, deterministic)
    sde = solver.prepare(sde, x_init, grid[0], deterministic)
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
    steps = len(grid) - 1
    fixed = {"steps": steps, "evaluations": steps * solver.evaluations, "solver": type(solver).__name__}
    stats = fixed if control is None else run.stats
    return Path(kept, grid if keep == "all" else grid[-1:], stats)


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
