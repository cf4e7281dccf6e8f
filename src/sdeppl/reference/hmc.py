"""Hamiltonian Monte Carlo of hundreds of chains at once, on the same model."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..backend import Progress, real_parameter
from ..backend.arguments import word
from ..guide import ScoreGuide
from ..mcmc import Run, State, sample, warm_up
from ..tracing import LatentSpace, Potential, start
from ..tracing.randomness import derive_seed, seeded
from .divergences import place_of
from .flow_prior import FlowPrior, WithFlow, checked_space
from .given import given, model_given, whole_counts
from .reparametrised import recovered, reparametrised
from .result import Reference, summary, warn_of_chains

LARGEST_DENSE = 256


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
    space, conditioned = given(model, data, args, kwargs, latents)
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
