"""Reading a model for a guide: whether its prior is the one trained on, and what its sites observe."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from ..query import posterior_probes
from ..tracing import ModelError, ObservedSite, SiteReader, changed_prior, find_sites, read_sites

if TYPE_CHECKING:
    from .guide import ScoreGuide

PROBES, NEAR = 256, 64


def read_near(
    guide: "ScoreGuide",
    model: Callable[..., Any],
    data: Mapping[str, torch.Tensor],
    args: Any,
    kwargs: Any,
) -> list[ObservedSite]:
    """The observed sites, looked at on draws from the prior and near the posterior."""
    probes = guide.prior_batch(PROBES, 1)
    sites = read_sites(model, guide.space, data, probes, args, kwargs)
    near = posterior_probes(sites, guide.fitted(), probes[:NEAR], guide.seed)
    if near is None:
        return sites
    # a bend where the posterior is, and the prior seldom
    return read_sites(model, guide.space, data, torch.cat([near, probes]), args, kwargs)


def check_latents(guide: "ScoreGuide", model: Callable[..., Any], args: Any, kwargs: Any) -> tuple[str, ...]:
    """Check that the prior is the one trained on; returns the names of the observable sites."""
    if model is guide.model and args is guide.args and kwargs is guide.kwargs:
        return guide.observable
    sites = find_sites(model, args, kwargs, latents=guide.space.names)
    differs = sites.space.same_as(guide.traced)
    if differs:
        raise ModelError(f"the model's latents are not those the guide was trained on: {differs}")
    z = guide.prior_batch(4, 1)
    trained = SiteReader(guide.model, guide.space, guide.args, guide.kwargs).prior_log_densities(z)
    asked = SiteReader(model, guide.space, args, kwargs).prior_log_densities(z)
    changed = changed_prior(trained, asked)
    if changed:
        raise ModelError(
            f"latent site '{changed}' has another prior here than the guide was trained on; train a "
            "guide for this model and these inputs"
        )
    return sites.observable
