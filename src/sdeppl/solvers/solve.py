"""Solving an SDE on a time grid, streaming."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from array_api_compat import array_namespace
from tqdm.auto import tqdm

from ..backend import Noise, NoiseStream, backend_of
from .base import Solver
from .euler_maruyama import EulerMaruyama

CHECKS = 10  # host synchronisations of a solve, however many steps it has


class NonFiniteState(FloatingPointError):
    """A solve reached NaN or infinity; the message names step, time and how many paths."""


@dataclass(frozen=True)
class Path:
    """What `solve` returns.

    states: (times kept, *batch, dim), first kept time first; times: those times, as floats;
    stats: steps, drift or denoiser evaluations, and the solver's name.
    """

    states: Any
    times: list[float]
    stats: dict[str, Any] = field(default_factory=dict)


def solve(
    sde: Any,
    x_init: Any,
    times: Sequence[float],
    *,
    solver: Solver | None = None,
    noise: Noise | NoiseStream | None = None,
    keep: Literal["all", "last"] = "all",
    progress: bool = False,
) -> Path:
    """Carry x_init (..., dim) along `times`, one step per interval, on x_init's own backend.

    times: at least two, strictly rising or (for a reverse SDE) strictly falling; the other way only
    where no noise enters. solver: Euler–Maruyama by default. noise: seed 0 in host mode by default;
    step k takes the normals of number k, which leaves number 0 for the start; an opened stream goes
    on where it is. keep: 'all' states at `times`, or only the 'last', in which case memory does not
    grow with the number of steps.

    Raises: ValueError for a grid that is not monotone or runs the wrong way; NonFiniteState with
    step, time and path count where a state is NaN or infinite.
    """
    grid = _checked_grid(times)
    _check_direction(sde, grid)
    if keep not in ("all", "last"):
        raise ValueError(f"keep={keep!r} is unknown; use 'all' or 'last'")
    solver = solver or EulerMaruyama()
    if not isinstance(solver, Solver):
        raise TypeError(f"solver must be a solver such as EulerMaruyama(); got {solver!r}")
    xp = array_namespace(x_init)
    stream = noise if isinstance(noise, NoiseStream) else (noise or Noise()).stream(backend_of(x_init))
    states = [x_init]
    x = x_init
    for x in _steps(sde, x_init, grid, solver, stream, progress):
        if keep == "all":
            states.append(x)
    kept = xp.stack(states) if keep == "all" else xp.expand_dims(x, axis=0)
    steps = len(grid) - 1
    stats = {
        "steps": steps,
        "evaluations": steps * solver.evaluations,
        "solver": type(solver).__name__,
    }
    return Path(kept, grid if keep == "all" else grid[-1:], stats)


def _steps(
    sde: Any, x: Any, grid: list[float], solver: Solver, stream: NoiseStream, progress: bool
) -> Iterator[Any]:
    """The states after each step; non-finite ones are noted on the device, read a few times only."""
    xp = array_namespace(x)
    _raise_if_bad(xp, x, xp.asarray(0, device=stream.backend.device), 0, grid)
    steps = len(grid) - 1
    good_steps = xp.asarray(0, device=stream.backend.device)
    for k in tqdm(range(steps), disable=not progress, desc="solving", unit="step"):
        s, t = grid[k], grid[k + 1]
        z = None if sde.deterministic(s, t) else stream.normal(k + 1, x.shape)
        x = solver.step(sde, x, s, t, z)
        still_good = xp.all(xp.isfinite(x)) & (good_steps == k)
        good_steps = good_steps + xp.astype(still_good, good_steps.dtype)
        if (k + 1) % math.ceil(steps / CHECKS) == 0 or k + 1 == steps:
            _raise_if_bad(xp, x, good_steps, k + 1, grid)
        yield x


def _raise_if_bad(xp: Any, x: Any, good_steps: Any, steps: int, grid: list[float]) -> None:
    first_bad = int(good_steps)
    if first_bad == steps and (steps > 0 or bool(xp.all(xp.isfinite(x)))):
        return
    rows = xp.any(~xp.isfinite(xp.reshape(x, (-1, x.shape[-1]))), axis=-1)
    count, total = int(xp.count_nonzero(rows)), rows.shape[0]
    if steps == 0:
        raise NonFiniteState(f"x_init has NaN or infinity in {count} of {total} paths")
    raise NonFiniteState(
        f"NaN or infinity at step {first_bad + 1} of {len(grid) - 1}, from t={grid[first_bad]:.6g} to "
        f"t={grid[first_bad + 1]:.6g} (by step {steps} in {count} of {total} paths); use smaller "
        "steps, another solver, or check the drift or denoiser there"
    )


def _check_direction(sde: Any, grid: list[float]) -> None:
    falls = grid[-1] < grid[0]
    if falls != sde.falling and not all(sde.deterministic(s, t) for s, t in itertools.pairwise(grid)):
        raise ValueError(
            f"{type(sde).__name__} runs {'down' if sde.falling else 'up'} in time; got times from "
            f"{grid[0]:.6g} {'down' if falls else 'up'} to {grid[-1]:.6g}; reverse the times, or use "
            f"{'its forward SDE' if sde.falling else 'ReverseSDE'}"
        )


def _checked_grid(times: Sequence[float]) -> list[float]:
    grid = [float(t) for t in times]
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
