"""One Hamiltonian trajectory of all chains, and Metropolis' choice at its end.

Energies H = -ln p(z) + |n|² / 2 for momenta n ~ N(0, I) of the whitened latents L⁻¹ z. Source: Neal 2011,
"MCMC using Hamiltonian dynamics", section 4.1 for the whitening.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch

from .potential import Density, State

DIVERGED = 1000.0
Step = float | torch.Tensor  # of all chains, or (chains, 1)


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

    @cached_property
    def inverse(self) -> torch.Tensor:
        """L⁻¹ of a triangular L."""
        one = torch.eye(self.L.shape[0], dtype=self.L.dtype, device=self.L.device)
        found: torch.Tensor = torch.linalg.solve_triangular(self.L, one, upper=False)
        return found

    def kick(self, v: torch.Tensor, gradient: torch.Tensor, size: Step) -> torch.Tensor:
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
        return z @ self.inverse.T


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
    density: Density, state: State, momentum: torch.Tensor, scale: Scale, step: Step, steps: int
) -> Proposal:
    """`steps` >= 1 leapfrog steps of size `step`, one for all chains or (chains, 1): second order,
    reversible, of volume one.

    A chain that meets a force, or ends at a density, that is not finite is rejected. The force need not be
    the gradient of ln p for the draws to be right: whatever function of z it is, the steps keep the volume.
    """
    z, alive = state.z, state.finite
    v = scale.kick(scale.apply(momentum), state.gradient, 0.5 * step)
    for _ in range(steps - 1):
        z = _ahead(z, v, step)
        v = scale.kick(v, density.gradient(z), step)
        if not math.isfinite(float(v.sum())):
            good = torch.isfinite(v).all(dim=-1)
            alive = alive & good
            z, v = (torch.where(good[:, None], one, other) for one, other in ((z, state.z), (v, 0.0)))
    end = density(_ahead(z, v, step))
    n = scale.whiten(scale.kick(v, end.gradient, 0.5 * step))
    change = (end.log_p - 0.5 * (n * n).sum(dim=-1)) - (state.log_p - 0.5 * (momentum * momentum).sum(dim=-1))
    non_finite = ~(alive & end.finite) | torch.isnan(change)
    change = torch.where(non_finite, -torch.inf, change)
    acceptance = change.clamp_max(0.0).exp()
    return Proposal(end, n, acceptance, change < -DIVERGED, non_finite)


def _ahead(z: torch.Tensor, v: torch.Tensor, step: Step) -> torch.Tensor:
    """z + step · v."""
    return torch.addcmul(z, v, step) if isinstance(step, torch.Tensor) else torch.add(z, v, alpha=step)


def choose(state: State, proposal: Proposal, uniform: torch.Tensor) -> tuple[State, torch.Tensor]:
    """The proposal where uniform (chains,) is below its acceptance probability, and where that is."""
    accepted = uniform < proposal.acceptance
    return proposal.state.where(accepted, state), accepted
