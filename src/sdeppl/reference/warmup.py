"""The warm-up of many chains: from the prior to the posterior, and what it adapts on the way."""

import math
from dataclasses import dataclass
from typing import Any

import torch

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
from .potential import Density, State
from .trajectory import Proposal, Scale, choose, propose

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


@dataclass(frozen=True)
class Run:
    """What all iterations share."""

    density: Density
    generator: torch.Generator
    max_steps: int
    bar: Any

    def steps(self, count: int, length: float, step: float, largest: int) -> int:
        """Of the trajectory after `count` others."""
        return min(max(math.ceil(halton(count + 1) * length / step), 1), largest)

    def iterate(
        self, state: State, scale: Scale, step: float | torch.Tensor, steps: int
    ) -> tuple[State, Proposal, torch.Tensor]:
        """One iteration: the new state, the proposal, and which chains accepted."""
        options: Any = {"generator": self.generator, "dtype": state.z.dtype, "device": state.z.device}
        momentum = torch.randn(state.z.shape, **options)
        uniform = torch.rand(state.log_p.shape, **options)
        proposal = propose(self.density, state, momentum, scale, step, steps)
        chosen, accepted = choose(state, proposal, uniform)
        self.bar.update()
        return chosen, proposal, accepted

    def unstick(self, state: State, stuck: torch.Tensor) -> tuple[State, int]:
        """Chains that are stuck, unless most are, put where a random other one is; and how many."""
        count, free = int(stuck.sum()), torch.nonzero(~stuck)[:, 0]
        if not 0 < count < len(free):
            return state, 0
        chosen = torch.randint(
            len(free), (len(stuck),), generator=self.generator, device=stuck.device, dtype=torch.int64
        )
        rows = free[chosen]
        return State(state.z[rows], state.log_p[rows], state.gradient[rows]).where(stuck, state), count


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
    places: list[torch.Tensor] = []
    acceptances: list[torch.Tensor] = []
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
) -> tuple[State, torch.Tensor, torch.Tensor]:
    """Iterations of few steps, whose size each chain finds for itself, from where the chains start.

    Returns the state, positions (rows, dim) of the second half, and which chains are stuck.
    """
    own = OwnSteps(torch.full_like(state.log_p, math.log(0.1)))
    positions, acceptances = [], []
    for index in range(iterations):
        steps = math.ceil(halton(index + 1) * min(FIRST_STEPS, run.max_steps))
        state, proposal, _ = run.iterate(state, scale, own.step, steps)
        own = own.update(proposal.acceptance, target)
        positions.append(state.z)
        acceptances.append(proposal.acceptance)
    stuck = own.behind | (_late_mean(acceptances) < STUCK)
    return state, _pooled(positions, stuck), stuck


def _late_mean(values: list[torch.Tensor]) -> torch.Tensor:
    """Of the second half."""
    return torch.stack(values[len(values) // 2 :]).mean(dim=0)


def _pooled(positions: list[torch.Tensor], stuck: torch.Tensor) -> torch.Tensor:
    """The second half of the positions of chains that are not stuck, as rows."""
    free = ~stuck if bool((~stuck).sum() > 1) else torch.ones_like(stuck)
    return torch.stack(positions[len(positions) // 2 :])[:, free].flatten(0, 1)


def _fresh(scale: Scale, step: float, length: float, count: int) -> Tuned:
    return Tuned(scale, StepSize.around(step), Length.at(length), count)


def _adapt(
    run: Run, state: State, tuned: Tuned, target: float, largest: int
) -> tuple[State, Tuned, torch.Tensor]:
    """One iteration of the warm-up; also returns the chains' acceptance probabilities."""
    step = tuned.step.step
    steps = run.steps(tuned.count, tuned.length.length, step, largest)
    moved, proposal, _ = run.iterate(state, tuned.scale, step, steps)
    slope = chees_slope(state.z, proposal, tuned.scale, steps * step)
    size = tuned.step.update(harmonic_mean(proposal), target)
    length = tuned.length.update(slope, RATE, size.step, run.max_steps * size.step)
    return moved, Tuned(tuned.scale, size, length, tuned.count + 1), proposal.acceptance
