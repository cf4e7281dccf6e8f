"""The density of a trained guide's probability-flow ODE as the prior of a Markov chain."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..denoisers import Denoiser
from ..guide import ScoreGuide
from ..mcmc import Density, State
from ..posterior import log_density
from ..sde import log_snr_grid
from ..tracing import LatentSpace, ModelError

NEAR = 0.02  # σ/α at which the score guides the trajectories; at 0 that of a network is 0/0
FARTHEST = 50.0  # prior standard deviations, beyond which the density counts as zero
RTOL = 1e-4


@dataclass(frozen=True)
class FlowPrior:
    """ln p(z) of z = location + scale · x, with x as the guide's denoiser has it, and a force near its slope.

    Source: Song et al. 2021, eq. 39, for the density.
    """

    denoiser: Denoiser
    location: torch.Tensor
    scale: torch.Tensor
    t: float

    @classmethod
    def of(cls, guide: ScoreGuide) -> "FlowPrior":
        """Raises: ModelError for a guide that is not fitted, or whose prior is singular."""
        denoiser, gaussian = guide.denoiser("torch"), guide.gaussian
        assert gaussian is not None  # or denoiser() has raised
        if gaussian.basis.shape[0] != gaussian.basis.shape[1]:
            raise ModelError(
                f"the prior varies along {gaussian.basis.shape[1]} of {gaussian.basis.shape[0]} directions "
                "only, so it has no density; use the guide's own posterior"
            )
        return cls(denoiser, gaussian.location, gaussian.scale, log_snr_grid(denoiser.sde, 2, NEAR)[-2])

    @torch.no_grad()
    def log_p(self, z: torch.Tensor) -> torch.Tensor:
        """(chains,); minus infinity far out."""
        x = (z - self.location) / self.scale
        inside = (x.abs() < FARTHEST).all(dim=-1)
        found = log_density(self.denoiser, torch.where(inside[:, None], x, 0.0), rtol=RTOL).value
        return torch.where(inside, found - self.scale.log().sum(), -torch.inf)

    @torch.no_grad()
    def force(self, z: torch.Tensor) -> torch.Tensor:
        """The score at a small t, (chains, dim)."""
        x, sde = (z - self.location) / self.scale, self.denoiser.sde
        alpha = sde.alpha(self.t)
        score: Any = self.denoiser.score(alpha * x + sde.shift(self.t), self.t)
        return alpha * score / self.scale


@dataclass(frozen=True)
class WithFlow:
    """A likelihood and that prior."""

    likelihood: Density
    prior: FlowPrior

    def __call__(self, z: torch.Tensor) -> State:
        """ln p of both, and the force."""
        state = self.likelihood(z)
        return State(z, state.log_p + self.prior.log_p(z), state.gradient + self.prior.force(z))

    def gradient(self, z: torch.Tensor) -> torch.Tensor:
        """The force, (chains, dim)."""
        return self.likelihood.gradient(z) + self.prior.force(z)


def checked_space(prior: Any, space: LatentSpace, reparam: Mapping[str, Any] | None) -> LatentSpace:
    """The guide's own space of these latents. Raises: TypeError; ValueError; ModelError for other latents."""
    if not isinstance(prior, ScoreGuide):
        raise TypeError(f"prior is a trained ScoreGuide; got {type(prior).__name__}")
    if reparam:
        raise ValueError("prior and reparam: the guide's prior is of the model's own sites; give one of them")
    differs = space.same_as(prior.traced)
    if differs:
        raise ModelError(f"the model's latents are not those the guide was trained on: {differs}")
    return prior.space
