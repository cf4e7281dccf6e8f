"""Hamiltonian Monte Carlo of hundreds of chains at once, on the same model."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from pyro import poutine

from ..backend import Progress, real_parameter
from ..backend.arguments import word
from ..denoisers import Denoiser
from ..distributions.typing import Args, Kwargs, Model
from ..guide import ScoreGuide
from ..mcmc import Density, Run, State, sample, warm_up
from ..posterior import log_density
from ..sde import log_snr_grid
from ..tracing import LatentSpace, ModelError, Potential, find_sites, over_rows, start
from ..tracing.randomness import BatchedRandomness, derive_seed, seeded
from ..tracing.running import traced, unvalidated
from .given import condition_model, model_given, whole_counts
from .result import Reference, summary, warn_of_chains

LARGEST_DENSE = 256
NEAR = 0.02  # σ/α at which the score guides the trajectories; at 0 that of a network is 0/0
FARTHEST = 50.0  # prior standard deviations, beyond which the density counts as zero
RTOL = 1e-4
FAR = 3.0  # standard deviations
ROWS = 4096

# ---- The density of a trained guide's probability-flow ODE as the prior of a Markov chain


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
        denoiser, gaussian = guide.denoiser("torch"), guide.fitted()
        if not gaussian.has_density:
            raise ModelError(
                f"the prior varies along {gaussian.rank} of {gaussian.dim} directions "
                "only, so it has no density; use the guide's own posterior"
            )
        return cls(denoiser, gaussian.location, gaussian.scale, log_snr_grid(denoiser.sde, 2, NEAR)[-2])

    @torch.no_grad()
    def log_p(self, z: torch.Tensor) -> torch.Tensor:
        """(chains,); minus infinity far out."""
        x = (z - self.location) / self.scale
        inside = (x.abs() < FARTHEST).all(dim=-1)
        rows: Any = torch.where(inside[:, None], x, 0.0)
        found: Any = log_density(self.denoiser, rows, rtol=RTOL).value
        return torch.where(inside, found - self.scale.log().sum(), -torch.inf)

    @torch.no_grad()
    def force(self, z: torch.Tensor) -> torch.Tensor:
        """The score at a small t, (chains, dim)."""
        x, sde = (z - self.location) / self.scale, self.denoiser.sde
        alpha = sde.alpha(self.t)
        score: object = self.denoiser.score(alpha * x + sde.shift(self.t), self.t)
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


def checked_space(prior: object, space: LatentSpace, reparam: Mapping[str, Any] | None) -> LatentSpace:
    """The guide's own space of these latents. Raises: TypeError; ValueError; ModelError for other latents."""
    if not isinstance(prior, ScoreGuide):
        raise TypeError(f"prior is a trained ScoreGuide; got {type(prior).__name__}")
    if reparam:
        raise ValueError("prior and reparam: the guide's prior is of the model's own sites; give one of them")
    differs = space.same_as(prior.traced)
    if differs:
        raise ModelError(f"the model's latents are not those the guide was trained on: {differs}")
    return prior.space


def reparametrised(
    space: LatentSpace,
    model: Model,
    config: Mapping[str, Any] | None,
    args: Args,
    kwargs: Kwargs | None,
) -> tuple[LatentSpace, Model]:
    """The latents to sample and the model, as `poutine.reparam` makes them; both as they are for no config.

    Raises: ModelError, as `find_sites` does; ValueError for a name that is no latent.
    """
    if config is not None and not isinstance(config, Mapping):
        raise TypeError(f"reparam is a mapping, {{site: what to put in its place}}; got {config!r:.80}")
    if not config:
        return space, model
    unknown = [name for name in config if name not in space.names]
    if unknown:
        raise ValueError(f"reparam: '{unknown[0]}' is no latent site; they are {space.names}")
    changed = poutine.reparam(model, config=dict(config))
    return find_sites(changed, args, kwargs).space, changed


def recovered(potential: Potential, names: Sequence[str], z: torch.Tensor) -> dict[str, torch.Tensor]:
    """The model's own sites, (chains, draws, *shape), at z (chains, draws, dim) of the latents sampled."""

    def one(row: torch.Tensor) -> tuple[torch.Tensor, ...]:
        values = potential.space.unflatten(row)
        with unvalidated(), BatchedRandomness():
            conditioned = poutine.condition(potential.model, data=values)
            nodes = traced(conditioned, potential.args, potential.kwargs)
        return tuple(nodes[name]["value"] for name in names)

    found = over_rows(one, z.flatten(0, 1), True)
    return {name: v.unflatten(0, z.shape[:2]) for name, v in zip(names, found, strict=True)}


@torch.no_grad()
def place_of(space: LatentSpace, z: torch.Tensor, starts: torch.Tensor) -> str:
    """In words, "mostly where 'tau' is small"; '' where they begin as all draws lie, or there are none.

    z (draws, dim), starts (trajectories, dim), unconstrained. It names the number whose median over the
    starts is farthest from that of the draws, in their standard deviations on that side, by quartiles.
    """
    if not len(starts):
        return ""
    rows = z[:: max(len(z) // ROWS, 1)]
    levels = torch.tensor([0.25, 0.5, 0.75], dtype=z.dtype, device=z.device)
    low, middle, high = torch.quantile(rows, levels, dim=0)
    typical = starts.median(dim=0).values
    spread = torch.where(typical < middle, middle - low, high - middle) / 0.6745
    distance = torch.where(spread > 0, (typical - middle).abs() / spread, 0.0)
    k = int(distance.argmax())
    if float(distance[k]) < FAR:
        return ""
    site = next(site for site in space.sites if site.start <= k < site.stop)
    near, usual = space.unflatten(torch.stack([typical, middle]))[site.name]
    if near.shape != site.unconstrained_shape:
        return f"mostly where '{site.name}' is unusual"
    index = np.unravel_index(k - site.start, tuple(near.shape)) if near.dim() else ()
    label = f"[{', '.join(str(int(i)) for i in index)}]" if index else ""
    side = "small" if float(near[index]) < float(usual[index]) else "large"
    return f"mostly where '{site.name}{label}' is {side}"


def hmc(
    model: Model,
    data: Mapping[str, object],
    *,
    args: Args = (),
    kwargs: Kwargs | None = None,
    draws: int = 100,
    warmup: int = 200,
    chains: int = 256,
    seed: int = 0,
    latents: Sequence[str] | None = None,
    mass: str = "auto",
    target: float = 0.8,
    max_steps: int = 200,
    reparam: Mapping[str, Any] | None = None,
    prior: ScoreGuide | None = None,
    progress: bool | None = None,
) -> Reference:
    """Sample p(latents given data) with HMC, all chains in one batch.

    Every iteration takes the same number of leapfrog steps in all chains, a Halton number times the
    trajectory length, rounded up. The warm-up adapts across chains the mass matrix, the step size (dual
    averaging of the harmonic mean of acceptances) and the length (ChEES); then they stay as they are, and
    draws are kept. Chains start at draws from the prior that the data allow, and have step sizes of their
    own until they arrive; one that is stuck during the warm-up is put where another is. `tuning` of the
    result holds step size, length (in whitened latents), mean acceptance and steps, and how many chains
    were moved so.

    data, args, kwargs, latents: as for `nuts`. draws, warmup: of each chain. mass: 'diagonal', 'dense', or
    'auto', dense up to 256 latents. target: of the acceptance. max_steps: of a trajectory. Cost: for a
    trajectory step one gradient of the batched model; memory: draws × chains × numbers in float64.

    reparam: as for `nuts`. prior: a trained guide of this model, where the model's own prior has no density:
    ln p of the latents is then that of the guide's probability-flow ODE (`log_density`, to a relative error
    of 1e-4), at one solve for each iteration, and the leapfrog follows the guide's score. That is the
    posterior under what the guide has learned, by other means than its reverse SDE.

    Raises: ModelError, naming the site, for a discrete latent, an unknown site, a wrong shape, no data at
    all, a site without a log-density, or a model that cannot be run for many chains at once; TypeError and
    ValueError for numbers out of range (draws >= 4, warmup >= 20, chains >= 4).
    Warns: ChainWarning, as `nuts` does, and for chains that accepted nothing; it says where divergences begin
    and what to do.
    Source: Hoffman, Radul and Sountsov 2021.
    """
    seed, draws, warmup, chains, max_steps = whole_counts(
        seed, draws=(draws, 4), warmup=(warmup, 20), chains=(chains, 4), max_steps=(max_steps, 1)
    )
    target = real_parameter("target", target)
    _check_options(mass, target)
    space, conditioned = condition_model(model, data, args, kwargs, latents)
    if prior is not None:
        space = checked_space(prior, space, reparam)
    sampled, conditioned = reparametrised(space, conditioned, reparam, args, kwargs)
    potential = Potential(conditioned, sampled, args, dict(kwargs or {}), prior is None)
    flow = None if prior is None else FlowPrior.of(prior)
    began = time.perf_counter()
    with seeded(seed, 2), Progress(warmup + draws, progress, "hmc") as bar:
        run, first = _begin(potential, flow, chains, seed, max_steps, bar)
        dense = mass == "dense" or (mass == "auto" and sampled.dim <= LARGEST_DENSE)
        state, tuned, moved = warm_up(run, first, warmup, dense, target)
        warm = time.perf_counter()
        found = sample(run, state, tuned, draws)
        done = time.perf_counter()
    values = recovered(potential, space.names, found.z) if reparam else _unflattened(space, found.z)
    result = summary(
        values,
        int(found.tuning["divergences"]),
        done - began,
        warm - began,
        tuning={**found.tuning, "moved_chains": moved},
        supports={site.name: site.support for site in space.sites},
        place=place_of(sampled, found.z.flatten(0, 1), found.starts),
        stats=found.stats,
    )
    warn_of_chains("HMC", result)
    return replace(result, given=model_given(model, data, args, kwargs))


def _check_options(mass: str, target: float) -> None:
    word("mass", mass, "auto", "dense", "diagonal")
    if not 0 < real_parameter("target", target) < 1:
        raise ValueError(f"target is an acceptance probability between 0 and 1; got {target}")


def _begin(
    potential: Potential, flow: FlowPrior | None, chains: int, seed: int, max_steps: int, bar: Any
) -> tuple[Run, State]:
    """What iterations share, and where the chains start."""
    first = start(potential, chains, seed)
    random = _Random(torch.Generator(first.z.device).manual_seed(derive_seed(seed, 1)), first.z)
    recorded = potential.recorded(first.z)
    if flow is None:
        return Run(recorded, random, max_steps, bar), first
    both = WithFlow(recorded, flow)
    return Run(both, random, max_steps, bar), both(first.z)


@dataclass(frozen=True)
class _Random:
    """torch's generator as the chains' random numbers; like: what tensors are like."""

    generator: torch.Generator
    like: torch.Tensor

    def normal(self, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.randn(shape, **self._options())

    def uniform(self, count: int) -> torch.Tensor:
        return torch.rand((count,), **self._options())

    def integers(self, count: int, below: int) -> torch.Tensor:
        return torch.randint(below, (count,), **{**self._options(), "dtype": torch.int64})

    def _options(self) -> dict[str, Any]:
        return {"generator": self.generator, "dtype": self.like.dtype, "device": self.like.device}


@torch.no_grad()
def _unflattened(space: LatentSpace, z: torch.Tensor) -> dict[str, torch.Tensor]:
    return space.unflatten(z)
