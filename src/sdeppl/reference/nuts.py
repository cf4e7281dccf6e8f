"""Pyro's NUTS on the same model."""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from pyro import poutine
from pyro.infer import MCMC, NUTS, Predictive
from pyro.infer.autoguide.initialization import init_to_sample
from pyro.ops.stats import effective_sample_size, split_gelman_rubin

from ..tracing import LatentSpace, ModelError, Observe, find_sites, without_unseen
from ..tracing.randomness import seeded


class ChainWarning(UserWarning):
    """The chains do not show that they have converged."""


@dataclass(frozen=True)
class Reference:
    """Draws of a Markov chain Monte Carlo run and what they say of themselves.

    draws: {site: (chains × draws, *shape)}, chain after chain; r_hat, ess: {site: (*shape)}, split
    R-hat and effective sample size; divergences: in all chains; seconds: warm-up included;
    warmup_seconds: of these, the warm-up's.
    """

    draws: dict[str, torch.Tensor]
    r_hat: dict[str, torch.Tensor]
    ess: dict[str, torch.Tensor]
    divergences: int
    chains: int
    seconds: float
    warmup_seconds: float

    @property
    def worst_ess(self) -> float:
        """Effective sample size of the number that mixes worst."""
        return min(float(ess.min()) for ess in self.ess.values())

    @property
    def worst_r_hat(self) -> float:
        """Split R-hat of the number that mixes worst."""
        return max(float(r_hat.max()) for r_hat in self.r_hat.values())


def nuts(
    model: Callable[..., Any],
    data: Mapping[str, Any],
    *,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    draws: int = 1000,
    warmup: int = 500,
    chains: int = 2,
    seed: int = 0,
    reparam: Mapping[str, Any] | None = None,
    latents: Sequence[str] | None = None,
    progress: bool = True,
    **kernel: Any,
) -> Reference:
    """Sample p(latents given data) with Pyro's NUTS, chain after chain.

    data: by site name, besides what the model observes by itself; NaN means not observed, and an
    observable site of no value contributes nothing. latents: names of the latent sites, where the
    trace does not tell them, as for ScoreGuide. reparam: as for `poutine.reparam`, e.g.
    {"level": WienerReparam()}; draws are of the model's own sites all the same. kernel: further
    arguments of `pyro.infer.NUTS` (full_mass, target_accept_prob, jit_compile, ...). Chains start at
    draws from the prior.

    Raises: ModelError, naming the site, for a discrete latent, an unknown site, a wrong shape, or no
    data at all; TypeError and ValueError for draws (at least 4, which split R-hat takes), warmup or
    chains out of range.
    Warns: ChainWarning for R-hat above 1.05 or divergences.
    """
    _check_counts(draws=(draws, 4), warmup=(warmup, 0), chains=(chains, 1))
    space, conditioned = _conditioned(model, data, args, kwargs, reparam, latents)
    kernel.setdefault("init_strategy", init_to_sample)
    if not reparam:  # tracing has bijections for some supports that Pyro has not
        kernel.setdefault("transforms", {site.name: site.transform for site in space.sites})
    samples, divergences, clock = [], 0, _Clock()
    for chain in range(chains):
        with seeded(seed, chain), warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
            mcmc = MCMC(
                NUTS(conditioned, **kernel),
                num_samples=draws,
                warmup_steps=warmup,
                disable_progbar=not progress,
                hook_fn=clock.hook,
            )
            with clock:
                mcmc.run(*args, **dict(kwargs or {}))
            found = mcmc.get_samples()
            if reparam:
                found = Predictive(conditioned, found, return_sites=space.names)(*args, **dict(kwargs or {}))
        samples.append({name: found[name] for name in space.names})
        divergences += sum(len(steps) for steps in mcmc.diagnostics().get("divergences", {}).values())
    result = _summary(samples, divergences, clock)
    _warn_of_chains(result)
    return result


def _warn_of_chains(result: Reference) -> None:
    """Warn the caller of `nuts` where the chains do not show that they have converged."""
    if result.divergences or not result.worst_r_hat < 1.05:
        warnings.warn(
            f"NUTS: split R-hat up to {result.worst_r_hat:.3f}, {result.divergences} divergences; run "
            "longer, or in another parametrisation, before you trust it",
            ChainWarning,
            stacklevel=3,
        )


def _summary(samples: list[dict[str, torch.Tensor]], divergences: int, clock: "_Clock") -> Reference:
    """Chains of draws with their diagnostics."""
    stacked = {name: torch.stack([chain[name] for chain in samples]) for name in samples[0]}
    return Reference(
        draws={name: value.flatten(0, 1) for name, value in stacked.items()},
        r_hat={name: split_gelman_rubin(value, 0, 1) for name, value in stacked.items()},
        ess={name: effective_sample_size(value, 0, 1) for name, value in stacked.items()},
        divergences=divergences,
        chains=len(samples),
        seconds=clock.seconds,
        warmup_seconds=clock.warmup_seconds,
    )


def _conditioned(
    model: Callable[..., Any],
    data: Mapping[str, Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None,
    reparam: Mapping[str, Any] | None,
    latents: Sequence[str] | None,
) -> tuple[LatentSpace, Callable[..., Any]]:
    """The latents, and the model given the data."""
    observed = Observe(data)(model)
    with seeded(0):
        trace = poutine.trace(model).get_trace(*args, **dict(kwargs or {}))
    unknown = [name for name in data if name not in trace.nodes]
    if unknown:
        raise ModelError(f"the model has no site '{unknown[0]}'; it has {list(trace.stochastic_nodes)}")
    # what is observable shows without the data only: a site that depends on an observed one alone
    # would count as a latent of its own
    kept, remaining = without_unseen(model, data, args, kwargs, latents)
    observed = Observe(data)(kept)
    space = find_sites(observed, args, kwargs, remaining).space
    return space, poutine.reparam(observed, config=dict(reparam)) if reparam else observed


def _check_counts(**counts: tuple[int, int]) -> None:
    """Check (count, least) by name."""
    for name, (count, least) in counts.items():
        if not isinstance(count, Integral):
            raise TypeError(f"{name} is a whole number; got {name}={count!r}")
        if count < least:
            raise ValueError(f"need {name} >= {least}; got {name}={count}")


class _Clock:
    """Seconds of a run, and of its warm-up, over all chains."""

    def __init__(self) -> None:
        self.seconds = self.warmup_seconds = self._started = 0.0

    def __enter__(self) -> None:
        self._started = self._warm = time.perf_counter()

    def hook(self, kernel: Any, samples: Any, stage: str, index: int) -> None:
        if stage.startswith("Warmup"):
            self._warm = time.perf_counter()

    def __exit__(self, *exception: object) -> None:
        self.seconds += time.perf_counter() - self._started
        self.warmup_seconds += self._warm - self._started
