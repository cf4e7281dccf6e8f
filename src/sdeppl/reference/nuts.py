"""Pyro's NUTS on the same model."""

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from pyro import poutine
from pyro.infer import MCMC, NUTS, Predictive
from pyro.infer.autoguide.initialization import init_to_sample

from ..backend import Progress
from ..distributions.typing import Args, Kwargs, Model
from ..tracing.randomness import seeded
from ..tracing.supports import InSupport
from .given import condition_model, model_given, whole_counts
from .result import Reference, summary, warn_of_chains


def nuts(
    model: Model,
    data: Mapping[str, object],
    *,
    args: Args = (),
    kwargs: Kwargs | None = None,
    draws: int = 1000,
    warmup: int = 500,
    chains: int = 2,
    seed: int = 0,
    reparam: Mapping[str, Any] | None = None,
    latents: Sequence[str] | None = None,
    progress: bool | None = None,
    **kernel: object,
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
    Warns: ChainWarning for R-hat above 1.05, divergences, or an effective sample size below 100.
    """
    seed, draws, warmup, chains = whole_counts(seed, draws=(draws, 4), warmup=(warmup, 0), chains=(chains, 1))
    space, conditioned = condition_model(model, data, args, kwargs, latents)
    if reparam:
        conditioned = poutine.reparam(conditioned, config=dict(reparam))
    conditioned = InSupport()(conditioned)
    kernel.setdefault("init_strategy", init_to_sample)
    if not reparam:  # tracing has bijections for some supports that Pyro has not; it takes their inverses
        kernel.setdefault("transforms", {site.name: site.transform.inv for site in space.sites})
    samples, divergences = [], 0
    with Progress(chains * (warmup + draws), progress, "nuts") as bar:
        clock = _Clock(bar)
        for chain in range(chains):
            with seeded(seed, chain), warnings.catch_warnings():
                warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
                mcmc = MCMC(
                    NUTS(conditioned, **kernel),
                    num_samples=draws,
                    warmup_steps=warmup,
                    disable_progbar=True,
                    hook_fn=clock.hook,
                )
                with clock:
                    mcmc.run(*args, **dict(kwargs or {}))
                found = mcmc.get_samples()
                if reparam:
                    found = Predictive(conditioned, found, return_sites=space.names)(
                        *args, **dict(kwargs or {})
                    )
            samples.append({name: found[name] for name in space.names})
            divergences += sum(len(steps) for steps in mcmc.diagnostics().get("divergences", {}).values())
    stacked = {name: torch.stack([chain[name] for chain in samples]) for name in space.names}
    supports = {site.name: site.support for site in space.sites}
    result = summary(stacked, divergences, clock.seconds, clock.warmup_seconds, supports=supports)
    warn_of_chains("NUTS", result)
    return replace(result, given=model_given(model, data, args, kwargs))


class _Clock:
    """Seconds of a run, and of its warm-up, over all chains, and their bar."""

    def __init__(self, bar: Progress) -> None:
        self.bar = bar
        self.seconds = self.warmup_seconds = self._started = 0.0

    def __enter__(self) -> None:
        self._started = self._warm = time.perf_counter()

    def hook(self, kernel: object, samples: object, stage: str, index: int) -> None:
        self.bar.update()
        if stage.startswith("Warmup"):
            self._warm = time.perf_counter()

    def __exit__(self, *exception: object) -> None:
        self.seconds += time.perf_counter() - self._started
        self.warmup_seconds += self._warm - self._started
