"""One Hamiltonian trajectory of all chains, and Metropolis' choice at its end.

Energies H = -ln p(z) + |n|² / 2 for momenta n ~ N(0, I) of the whitened latents L⁻¹ z. Source: Neal 2011,
"MCMC using Hamiltonian dynamics", section 4.1 for the whitening.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from array_api_compat import device

from ..backend import Array, Number, array_namespace
from ..linalg import solve_lower

DIVERGED = 1000.0


@dataclass(frozen=True)
class State:
    """Chains: z (chains, dim), log_p (chains,), gradient (chains, dim), arrays of one library."""

    z: Any
    log_p: Any
    gradient: Any

    @property
    def finite(self) -> Any:
        """(chains,): where log density and gradient are numbers."""
        xp = array_namespace(self.z)
        return xp.isfinite(self.log_p) & xp.all(xp.isfinite(self.gradient), axis=-1)

    def where(self, condition: Array, other: "State") -> "State":
        """This where the condition (chains,) holds, else the other."""
        xp, rows = array_namespace(self.z), condition[:, None]
        return State(
            xp.where(rows, self.z, other.z),
            xp.where(condition, self.log_p, other.log_p),
            xp.where(rows, self.gradient, other.gradient),
        )

    def take(self, index: Array) -> "State":
        """The chains `index`."""
        xp = array_namespace(self.z)
        return State(*(xp.take(part, index, axis=0) for part in (self.z, self.log_p, self.gradient)))


class Density(Protocol):
    """What a trajectory needs: ln p and a force at its end, and the force alone on the way."""

    def __call__(self, z: Any, /) -> State: ...

    def gradient(self, z: Any, /) -> Any:
        """(chains, dim)."""
        ...


@dataclass(frozen=True)
class Scale:
    """L with the posterior's covariance about L Lᵀ: diagonal (dim,), or lower triangular (dim, dim)."""

    L: Array

    def apply(self, n: Array) -> Array:
        """L n of rows."""
        return n * self.L if self.L.ndim == 1 else n @ self.L.T

    @cached_property
    def square(self) -> Array:
        """L Lᵀ, or its diagonal."""
        return self.L * self.L if self.L.ndim == 1 else self.L @ self.L.T

    @cached_property
    def inverse(self) -> Array:
        """L⁻¹ of a triangular L."""
        xp = array_namespace(self.L)
        return solve_lower(self.L, xp.eye(self.L.shape[0], dtype=self.L.dtype, device=device(self.L)))

    def kick(self, v: Array, gradient: Array, size: Array) -> Array:
        """v + size · L Lᵀ gradient, of rows: the change of velocities v = L n; size: one, or (rows, 1)."""
        if self.L.ndim == 1:
            return v + gradient * (size * self.square)
        return v + size * (gradient @ self.square)

    def whiten(self, z: Array) -> Array:
        """L⁻¹ of rows."""
        return z / self.L if self.L.ndim == 1 else z @ self.inverse.T


@dataclass(frozen=True)
class Proposal:
    """Ends of trajectories: the state, its momenta n (chains, dim), and for each chain its acceptance
    probability, whether the energy error is above 1,000 or not a number, and whether it is the latter."""

    state: State
    momentum: Array
    acceptance: Array
    diverged: Array
    non_finite: Array


def propose(
    density: Density, state: State, momentum: Array, scale: Scale, step: Number, steps: int
) -> Proposal:
    """`steps` >= 1 leapfrog steps of size `step`, one for all chains or (chains, 1): second order,
    reversible, of volume one.

    A chain that meets a force, or ends at a density, that is not finite is rejected. The force need not be
    the gradient of ln p for the draws to be right: whatever function of z it is, the steps keep the volume.
    """
    xp, z, alive = array_namespace(state.z), state.z, state.finite
    v = scale.kick(scale.apply(momentum), state.gradient, 0.5 * step)
    for _ in range(steps - 1):
        z = z + step * v
        v = scale.kick(v, density.gradient(z), step)
        if not math.isfinite(float(xp.sum(v))):  # array-lint: rare; to look at every chain costs more
            good = xp.all(xp.isfinite(v), axis=-1)
            alive = alive & good
            z, v = xp.where(good[:, None], z, state.z), xp.where(good[:, None], v, xp.zeros_like(v))
    end = density(z + step * v)
    n = scale.whiten(scale.kick(v, end.gradient, 0.5 * step))
    change = _energy(state.log_p, momentum) - _energy(end.log_p, n)
    non_finite = ~(alive & end.finite) | xp.isnan(change)
    change = xp.where(non_finite, xp.full_like(change, -math.inf), change)
    acceptance = xp.exp(xp.clip(change, max=0.0))
    return Proposal(end, n, acceptance, change < -DIVERGED, non_finite)


def _energy(log_p: Array, momentum: Array) -> Array:
    return 0.5 * array_namespace(momentum).sum(momentum * momentum, axis=-1) - log_p


def choose(state: State, proposal: Proposal, uniform: Array) -> tuple[State, Array]:
    """The proposal where uniform (chains,) is below its acceptance probability, and where that is."""
    accepted = uniform < proposal.acceptance
    return proposal.state.where(accepted, state), accepted
