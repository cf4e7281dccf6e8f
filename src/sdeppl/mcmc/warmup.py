"""The warm-up of many chains, from the prior to the posterior, and the iterations after it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from array_api_compat import device

from ..backend import Array, Number, array_namespace
from .adapt import (
    Length,
    OwnSteps,
    StepSize,
    chees_slope,
    covariance_scale,
    halton,
    harmonic_mean,
    robust_scale,
)
from .trajectory import Density, Proposal, Scale, State, choose, propose

WINDOWS = (0.1, 0.25, 0.5)  # of the warm-up: where the mass matrix is estimated anew
FIRST_STEPS = 10  # of a trajectory, before the mass matrix is known
RATE = 0.05
STUCK = 0.05  # mean acceptance of a chain over half a window of the warm-up


@dataclass(frozen=True)
class Tuned:
    """What the warm-up adapts; count: of all iterations so far, for the Halton number."""

    scale: Scale
    step: StepSize
    length: Length
    count: int = 0


class Randomness(Protocol):
    """Where random numbers come from: the next ones at each call."""

    def normal(self, shape: tuple[int, ...]) -> Array:
        """Standard normals of this shape."""
        ...

    def uniform(self, count: int) -> Array:
        """Numbers (count,) in [0, 1)."""
        ...

    def integers(self, count: int, below: int) -> Array:
        """Whole numbers (count,), 0 to below - 1."""
        ...


@dataclass(frozen=True)
class Run:
    """What all iterations share."""

    density: Density
    random: Randomness
    max_steps: int
    bar: Any

    def steps(self, count: int, length: float, step: float, largest: int) -> int:
        """Of the trajectory after `count` others."""
        return min(max(math.ceil(halton(count + 1) * length / step), 1), largest)

    def iterate(self, state: State, scale: Scale, step: Number, steps: int) -> tuple[State, Proposal, Array]:
        """One iteration: the new state, the proposal, and which chains accepted."""
        momentum = self.random.normal(tuple(state.z.shape))
        uniform = self.random.uniform(state.z.shape[0])
        proposal = propose(self.density, state, momentum, scale, step, steps)
        chosen, accepted = choose(state, proposal, uniform)
        self.bar.update()
        return chosen, proposal, accepted

    def unstick(self, state: State, stuck: Array) -> tuple[State, int]:
        """Chains that are stuck, unless most are, put where a random other one is; and how many."""
        xp = array_namespace(stuck)
        count = int(xp.count_nonzero(stuck))
        free = stuck.shape[0] - count
        if not 0 < count < free:
            return state, 0
        rows = xp.take(xp.nonzero(~stuck)[0], self.random.integers(stuck.shape[0], free), axis=0)
        return state.take(rows).where(stuck, state), count


def warm_up(run: Run, state: State, warmup: int, dense: bool, target: float) -> tuple[State, Tuned, int]:
    """Adapt; the mass matrix at the ends of three windows, step size and length all the time.

    In the first two windows every chain has a step size of its own. Returns the state, what was adapted, and
    how many chains were moved since they were stuck.
    """
    ends = [max(round(share * warmup), k + 1) for k, share in enumerate(WINDOWS)]
    scale, moved, begin = robust_scale(state.z), 0, 0
    for end in ends[:2]:
        state, positions, stuck = _approach(run, state, scale, end - begin, target)
        scale = covariance_scale(positions, dense)
        state, count = run.unstick(state, stuck)
        moved, begin = moved + count, end
    dim = state.z.shape[1]
    tuned = _fresh(scale, 0.5 * dim**-0.25, 2.0, begin)
    places: list[Array] = []
    acceptances: list[Array] = []
    for index in range(begin, warmup):
        state, tuned, acceptance = _adapt(run, state, tuned, target, run.max_steps)
        places.append(state.z)
        acceptances.append(acceptance)
        if index + 1 == ends[2]:
            stuck = _late_mean(acceptances) < STUCK
            scale = covariance_scale(_pooled(places, stuck), dense)
            tuned = _fresh(scale, 0.5 * dim**-0.25, 2.0, tuned.count)
            state, count = run.unstick(state, stuck)
            moved += count
    return state, tuned, moved


def _approach(
    run: Run, state: State, scale: Scale, iterations: int, target: float
) -> tuple[State, Array, Array]:
    """Iterations of few steps, whose size each chain finds for itself, from where the chains start.

    Returns the state, positions (rows, dim) of the second half, and which chains are stuck.
    """
    own = OwnSteps(array_namespace(state.z).full_like(state.log_p, math.log(0.1)))
    positions, acceptances = [], []
    for index in range(iterations):
        steps = math.ceil(halton(index + 1) * min(FIRST_STEPS, run.max_steps))
        state, proposal, _ = run.iterate(state, scale, own.step, steps)
        own = own.update(proposal.acceptance, target)
        positions.append(state.z)
        acceptances.append(proposal.acceptance)
    stuck = own.behind | (_late_mean(acceptances) < STUCK)
    return state, _pooled(positions, stuck), stuck


def _late_mean(values: list[Array]) -> Array:
    """Of the second half."""
    xp = array_namespace(values[0])
    return xp.mean(xp.stack(values[len(values) // 2 :]), axis=0)


def _pooled(positions: list[Array], stuck: Array) -> Array:
    """The second half of the positions of chains that are not stuck, as rows."""
    xp = array_namespace(stuck)
    rows = xp.stack(positions[len(positions) // 2 :])
    if stuck.shape[0] - int(xp.count_nonzero(stuck)) > 1:
        rows = xp.take(rows, xp.nonzero(~stuck)[0], axis=1)
    return xp.reshape(rows, (-1, rows.shape[-1]))


def _fresh(scale: Scale, step: float, length: float, count: int) -> Tuned:
    return Tuned(scale, StepSize.around(step), Length.at(length), count)


def _adapt(run: Run, state: State, tuned: Tuned, target: float, largest: int) -> tuple[State, Tuned, Array]:
    """One iteration of the warm-up; also returns the chains' acceptance probabilities."""
    step = tuned.step.step
    steps = run.steps(tuned.count, tuned.length.length, step, largest)
    moved, proposal, _ = run.iterate(state, tuned.scale, step, steps)
    slope = chees_slope(state.z, proposal, tuned.scale, steps * step)
    size = tuned.step.update(harmonic_mean(proposal), target)
    length = tuned.length.update(slope, RATE, size.step, run.max_steps * size.step)
    return moved, Tuned(tuned.scale, size, length, tuned.count + 1), proposal.acceptance


@dataclass(frozen=True)
class Sampled:
    """z (chains, draws, dim); starts (trajectories, dim): of those that diverged; stats: of each iteration,
    (chains, draws), by ArviZ's names; tuning: the settings, and what the run was like; state: at the end."""

    z: Any
    starts: Any
    stats: Mapping[str, Any]
    tuning: Mapping[str, float]
    state: State


def sample(run: Run, state: State, tuned: Tuned, draws: int) -> Sampled:
    """Step size and length are those that the warm-up found on average."""
    xp = array_namespace(state.z)
    step, length = tuned.step.average, tuned.length.average
    places, log_p, steps, proposals, moved = [state.z], [], [], [], xp.zeros_like(state.finite)
    for index in range(draws):
        steps.append(run.steps(tuned.count + index, length, step, run.max_steps))
        state, proposal, accepted = run.iterate(state, tuned.scale, step, steps[-1])
        places.append(state.z)
        log_p.append(state.log_p)
        proposals.append((proposal.acceptance, proposal.diverged, proposal.non_finite))
        moved = moved | accepted
    acceptance, diverged, non_finite = (xp.stack(part, axis=1) for part in zip(*proposals, strict=True))
    z = xp.stack(places, axis=1)
    stats = {
        "lp": xp.stack(log_p, axis=1),
        "acceptance_rate": acceptance,
        "diverging": diverged,
        "n_steps": xp.broadcast_to(xp.asarray(steps, dtype=xp.int64, device=device(z)), diverged.shape),
    }
    tuning = {
        "step_size": step,
        "length": length,
        "acceptance": float(xp.mean(acceptance)),
        "steps": sum(steps) / draws,
        "divergences": int(xp.count_nonzero(diverged)),
        "non_finite": int(xp.count_nonzero(non_finite)),
        "stuck_chains": int(xp.count_nonzero(~moved)),
    }
    return Sampled(z[:, 1:, :], z[:, :-1, :][diverged], stats, tuning, state)
