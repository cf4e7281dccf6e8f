"""The iterations that are kept, after the warm-up."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace, device

from .trajectory import State
from .warmup import Run, Tuned


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
