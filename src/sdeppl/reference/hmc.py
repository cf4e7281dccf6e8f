"""Hamiltonian Monte Carlo of hundreds of chains at once, on the same model."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from tqdm.auto import tqdm

from ..tracing.randomness import derive_seed, seeded
from .adapt import (
    Length,
    StepSize,
    chees_slope,
    covariance_scale,
    halton,
    harmonic_mean,
    robust_scale,
)
from .given import check_counts, given
from .potential import Potential, State, start
from .result import Reference, summary, warn_of_chains
from .trajectory import Proposal, Scale, choose, propose

WINDOWS = (0.1, 0.25, 0.5)  # of the warm-up: where the mass matrix is estimated anew
FIRST_STEPS = 10  # of a trajectory, before the mass matrix is known
LARGEST_DENSE = 256
RATE = 0.05
STUCK = 0.05  # mean acceptance of a chain over half a window of the warm-up


def hmc(
    model: Callable[..., Any],
    data: Mapping[str, Any],
    *,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    draws: int = 100,
    warmup: int = 200,
    chains: int = 256,
    seed: int = 0,
    latents: Sequence[str] | None = None,
    mass: str = "auto",
    target: float = 0.8,
    max_steps: int = 200,
    progress: bool = True,
) -> Reference:
    """Sample p(latents given data) with HMC, all chains in one batch.

    Every iteration takes the same number of leapfrog steps in all chains, a Halton number times the
    trajectory length, rounded up. The warm-up adapts across chains the mass matrix, the step size (dual
    averaging of the harmonic mean of acceptances) and the length (ChEES); then they stay as they are, and
    draws are kept. Chains start at draws from the prior; one that is stuck during the warm-up is put where
    another is. `tuning` of the result holds step size, length (in whitened latents), mean acceptance and
    steps, and how many chains were moved so.

    data, args, kwargs, latents: as for `nuts`. draws, warmup: of each chain. mass: 'diagonal', 'dense', or
    'auto', dense up to 256 latents. target: of the acceptance. max_steps: of a trajectory. Cost: for a
    trajectory step one gradient of the batched model; memory: draws × chains × numbers in float64.

    Raises: ModelError, naming the site, for a discrete latent, an unknown site, a wrong shape, no data at
    all, a site without a log-density, or a model that cannot be run for many chains at once; TypeError and
    ValueError for numbers out of range (draws >= 4, warmup >= 20, chains >= 4).
    Warns: ChainWarning, as `nuts` does, and for chains that accepted nothing.
    Source: Hoffman, Radul and Sountsov 2021.
    """
    check_counts(draws=(draws, 4), warmup=(warmup, 20), chains=(chains, 4), max_steps=(max_steps, 1))
    if mass not in ("auto", "dense", "diagonal"):
        raise ValueError(f"mass is 'auto', 'dense' or 'diagonal'; got {mass!r}")
    if not 0 < target < 1:
        raise ValueError(f"target is an acceptance probability between 0 and 1; got {target}")
    space, conditioned = given(model, data, args, kwargs, latents)
    dense = mass == "dense" or (mass == "auto" and space.dim <= LARGEST_DENSE)
    potential = Potential(conditioned, space, args, dict(kwargs or {}))
    began = time.perf_counter()
    with seeded(seed, 2), tqdm(total=warmup + draws, disable=not progress, desc="hmc") as bar:
        first = start(potential, chains, seed)
        generator = torch.Generator(first.z.device).manual_seed(derive_seed(seed, 1))
        run = _Run(potential.recorded(first.z), generator, max_steps, bar)
        state, tuned, moved = _warm_up(run, first, warmup, dense, target)
        warm = time.perf_counter()
        z, counts = _sample(run, state, tuned, draws)
        done = time.perf_counter()
    with torch.no_grad():
        values = space.unflatten(z)
    tuning = {**counts, "moved_chains": moved}
    supports = {site.name: site.support for site in space.sites}
    result = summary(values, int(counts["divergences"]), done - began, warm - began, tuning, supports)
    warn_of_chains("HMC", result)
    return result


@dataclass(frozen=True)
class _Tuned:
    """What the warm-up adapts; count: of all iterations so far, for the Halton number."""

    scale: Scale
    step: StepSize
    length: Length
    count: int = 0


@dataclass(frozen=True)
class _Run:
    """What all iterations share."""

    potential: Callable[[torch.Tensor], State]
    generator: torch.Generator
    max_steps: int
    bar: Any

    def iterate(
        self, state: State, scale: Scale, step: float, length: float, count: int, largest: int
    ) -> tuple[State, Proposal, torch.Tensor, int]:
        """One iteration: the new state, the proposal, which chains accepted, and the steps it took."""
        options: Any = {"generator": self.generator, "dtype": state.z.dtype, "device": state.z.device}
        momentum = torch.randn(state.z.shape, **options)
        uniform = torch.rand(state.log_p.shape, **options)
        steps = min(max(math.ceil(halton(count + 1) * length / step), 1), largest)
        proposal = propose(self.potential, state, momentum, scale, step, steps)
        chosen, accepted = choose(state, proposal, uniform)
        self.bar.update()
        return chosen, proposal, accepted, steps

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


def _warm_up(run: _Run, state: State, warmup: int, dense: bool, target: float) -> tuple[State, _Tuned, int]:
    """Adapt; the mass matrix at the ends of three windows, step size and length all the time.

    Returns the state, what was adapted, and how many chains were moved since they were stuck.
    """
    ends = [max(round(share * warmup), 1) for share in WINDOWS]
    tuned, moved = _fresh(robust_scale(state.z), 0.1, 1.0), 0
    positions: list[torch.Tensor] = []
    acceptances: list[torch.Tensor] = []
    for index in range(warmup):
        largest = FIRST_STEPS if index < ends[0] else run.max_steps
        state, tuned, acceptance = _adapt(run, state, tuned, target, largest)
        positions.append(state.z)
        acceptances.append(acceptance)
        if index + 1 in ends:
            half = len(positions) // 2
            stuck = torch.stack(acceptances[half:]).mean(dim=0) < STUCK
            pooled = torch.stack(positions[half:])[:, ~stuck if bool((~stuck).sum() > 1) else slice(None)]
            scale = covariance_scale(pooled.flatten(0, 1), dense and index + 1 > ends[0])
            tuned = replace(_fresh(scale, 0.5 * state.z.shape[1] ** -0.25, 2.0), count=tuned.count)
            state, count = run.unstick(state, stuck)
            moved += count
            positions, acceptances = [], []
    return state, tuned, moved


def _fresh(scale: Scale, step: float, length: float) -> _Tuned:
    return _Tuned(scale, StepSize.around(step), Length.at(length))


def _adapt(
    run: _Run, state: State, tuned: _Tuned, target: float, largest: int
) -> tuple[State, _Tuned, torch.Tensor]:
    """One iteration of the warm-up; also returns the chains' acceptance probabilities."""
    step = tuned.step.step
    moved, proposal, _, steps = run.iterate(
        state, tuned.scale, step, tuned.length.length, tuned.count, largest
    )
    slope = chees_slope(state.z, proposal, tuned.scale, steps * step)
    size = tuned.step.update(harmonic_mean(proposal), target)
    length = tuned.length.update(slope, RATE, size.step, run.max_steps * size.step)
    return moved, _Tuned(tuned.scale, size, length, tuned.count + 1), proposal.acceptance


def _sample(run: _Run, state: State, tuned: _Tuned, draws: int) -> tuple[torch.Tensor, dict[str, float]]:
    """Draws z (chains, draws, dim), and what the run was like."""
    step, length = tuned.step.average, tuned.length.average
    z, acceptance, steps = [], 0.0, 0
    moved = torch.zeros_like(state.log_p, dtype=torch.bool)
    divergences = non_finite = 0
    for index in range(draws):
        state, proposal, accepted, took = run.iterate(
            state, tuned.scale, step, length, tuned.count + index, run.max_steps
        )
        z.append(state.z)
        moved = moved | accepted
        acceptance += float(proposal.acceptance.mean()) / draws
        steps += took
        divergences += int(proposal.diverged.sum())
        non_finite += int(proposal.non_finite.sum())
    return torch.stack(z, dim=1), {
        "step_size": step,
        "length": length,
        "acceptance": acceptance,
        "steps": steps / draws,
        "divergences": divergences,
        "non_finite": non_finite,
        "stuck_chains": int((~moved).sum()),
    }
