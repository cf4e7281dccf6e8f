"""The iterations that are kept, after the warm-up."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from .potential import State
from .warmup import Run, Tuned


@dataclass(frozen=True)
class Sampled:
    """z (chains, draws, dim); starts (trajectories, dim): of those that diverged; stats: of each iteration,
    (chains, draws), by ArviZ's names; tuning: the settings, and what the run was like."""

    z: torch.Tensor
    starts: torch.Tensor
    stats: Mapping[str, torch.Tensor]
    tuning: Mapping[str, float]


def sample(run: Run, state: State, tuned: Tuned, draws: int) -> Sampled:
    """Step size and length are those that the warm-up found on average."""
    step, length = tuned.step.average, tuned.length.average
    places, log_p, steps, proposals, moved = [state.z], [], [], [], torch.zeros_like(state.finite)
    for index in range(draws):
        steps.append(run.steps(tuned.count + index, length, step, run.max_steps))
        state, proposal, accepted = run.iterate(state, tuned.scale, step, steps[-1])
        places.append(state.z)
        log_p.append(state.log_p)
        proposals.append((proposal.acceptance, proposal.diverged, proposal.non_finite))
        moved = moved | accepted
    acceptance, diverged, non_finite = (torch.stack(part, dim=1) for part in zip(*proposals, strict=True))
    z = torch.stack(places, dim=1)
    stats = {
        "lp": torch.stack(log_p, dim=1),
        "acceptance_rate": acceptance,
        "diverging": diverged,
        "n_steps": torch.tensor(steps, device=z.device).expand(diverged.shape),
    }
    tuning = {
        "step_size": step,
        "length": length,
        "acceptance": float(acceptance.mean()),
        "steps": sum(steps) / draws,
        "divergences": int(diverged.sum()),
        "non_finite": int(non_finite.sum()),
        "stuck_chains": int((~moved).sum()),
    }
    return Sampled(z[:, 1:], z[:, :-1][diverged], stats, tuning)
