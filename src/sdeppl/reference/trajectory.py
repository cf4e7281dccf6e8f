"""One Hamiltonian trajectory of all chains, and Metropolis' choice at its end.

Energies H = -ln p(z) + |n|² / 2 for momenta n ~ N(0, I) of the whitened latents L⁻¹ z. Source: Neal 2011,
"MCMC using Hamiltonian dynamics", section 4.1 for the whitening.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch

from .potential import State

DIVERGED = 1000.0


@dataclass(frozen=True)
class Scale:
    """L with the posterior's covariance about L Lᵀ: diagonal (dim,), or lower triangular (dim, dim)."""

    L: torch.Tensor

    def apply(self, n: torch.Tensor) -> torch.Tensor:
        """L n of rows."""
        return n * self.L if self.L.dim() == 1 else n @ self.L.T

    @cached_property
    def square(self) -> torch.Tensor:
        """L Lᵀ, or its diagonal."""
        return self.L * self.L if self.L.dim() == 1 else self.L @ self.L.T

    def kick(self, v: torch.Tensor, gradient: torch.Tensor, size: float | torch.Tensor) -> torch.Tensor:
        """v + size · L Lᵀ gradient, of rows: the change of velocities v = L n; size: one, or (rows, 1)."""
        if isinstance(size, torch.Tensor):
            gradient, size = size * gradient, 1.0
        if self.L.dim() == 1:
            return torch.addcmul(v, gradient, self.square, value=size)
        return torch.addmm(v, gradient, self.square, alpha=size)

    def whiten(self, z: torch.Tensor) -> torch.Tensor:
        """L⁻¹ of rows."""
        if self.L.dim() == 1:
            return z / self.L
        whitened: torch.Tensor = torch.linalg.solve_triangular(self.L, z.T, upper=False).T
        return whitened


@dataclass(frozen=True)
class Proposal:
    """Ends of trajectories: the state, its momenta n (chains, dim), and for each chain its acceptance
    probability, whether the energy error is above 1,000 or not a number, and whether it is the latter."""

    state: State
    momentum: torch.Tensor
    acceptance: torch.Tensor
    diverged: torch.Tensor
    non_finite: torch.Tensor


def propose(
    potential: Callable[[torch.Tensor], State],
    state: State,
    momentum: torch.Tensor,
    scale: Scale,
    step: float | torch.Tensor,
    steps: int,
    finish: Callable[[State], State] | None = None,
) -> Proposal:
    """`steps` >= 1 leapfrog steps of size `step`, one for all chains or (chains, 1): second order,
    reversible, of volume one.

    A chain that meets a density or a gradient that is not finite waits at its start, and is rejected.
    finish: gives the end its ln p, where the potential's is not all of it. The gradient need not be that of
    ln p for the draws to be right: of any force that is a function of z the steps keep the volume.
    """
    current, alive = state, state.finite
    v = scale.kick(scale.apply(momentum), state.gradient, 0.5 * step)
    for index in range(steps):
        moved = potential(current.z + step * v)
        alive = alive & torch.isfinite(moved.log_p + moved.gradient.sum(dim=-1))
        current = moved.where(alive, state)
        v = scale.kick(v, current.gradient, 0.5 * step if index == steps - 1 else step)
    n = scale.whiten(v)
    current = current if finish is None else finish(current)
    change = (current.log_p - 0.5 * (n**2).sum(dim=-1)) - (state.log_p - 0.5 * (momentum**2).sum(dim=-1))
    non_finite = ~alive | torch.isnan(change)
    change = torch.where(non_finite, -torch.inf, change)
    acceptance = change.clamp_max(0.0).exp()
    return Proposal(current, n, acceptance, change < -DIVERGED, non_finite)


def choose(state: State, proposal: Proposal, uniform: torch.Tensor) -> tuple[State, torch.Tensor]:
    """The proposal where uniform (chains,) is below its acceptance probability, and where that is."""
    accepted = uniform < proposal.acceptance
    return proposal.state.where(accepted, state), accepted
