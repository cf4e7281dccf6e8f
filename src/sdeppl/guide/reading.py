"""Reading a model for a guide: whether its prior is the one trained on, and what its sites observe."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from ..backend import Backend
from ..query import ModelDensity, posterior_probes
from ..tracing import (
    ROWS,
    ModelError,
    ObservedSite,
    SiteReader,
    check_call,
    find_sites,
    imputed,
    original,
    read_sites,
)

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


def asked(
    guide: "ScoreGuide",
    model: Callable[..., Any] | None,
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
) -> tuple[Callable[..., Any], Any, Any]:
    """The model and its inputs: the guide's own where they are not given, with gaps drawn where they are."""
    if model is None and args is None and kwargs is None:
        return guide.model, guide.args, guide.kwargs
    check_call(guide.model if model is None else model, () if args is None else args, kwargs)
    args = guide.args if args is None else tuple(args)
    kwargs = guide.kwargs if kwargs is None else dict(kwargs)
    return imputed(original(model or guide.model), args, kwargs), args, kwargs


def density_of(
    guide: "ScoreGuide",
    model: Callable[..., Any],
    data: Mapping[str, torch.Tensor],
    args: Any,
    kwargs: Any,
    sites: Sequence[ObservedSite],
    backend: Backend,
) -> ModelDensity:
    """The model's own density of latents and data, in the guide's coordinates."""
    gaussian = guide.fitted()
    return ModelDensity(
        model, guide.space, data, tuple(args), dict(kwargs), gaussian, backend, tuple(sites), guide.seed
    )


def check_latents(
    guide: "ScoreGuide", model: Callable[..., Any], args: Any, kwargs: Any
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Check that the prior is the one trained on; returns the names of the sites that can get data, and of
    those observed at values that depend on the latents.

    It is looked at every time, also of the very model trained on: what that reads from a global, a
    pyro.param or a module may have changed since. Raises: ModelError, naming the site.
    """
    own = model is guide.model and args is guide.args and kwargs is guide.kwargs
    names = (guide.observable, guide.moving) if own else _same_latents(guide, model, args, kwargs)
    try:
        check_prior_record(guide, model, args, kwargs)
    except ModelError:
        raise
    except Exception:
        # another shape or support makes the model fail at latents of the old one, in words of its own
        _same_latents(guide, model, args, kwargs)
        raise
    return names


def check_prior_record(
    guide: "ScoreGuide", model: Callable[..., Any], args: Any, kwargs: Any, rows: int = ROWS
) -> None:
    """Check the prior against what it was when the guide was fitted. rows: of densities, for less work.

    Raises: ModelError, naming the site.
    """
    reader = SiteReader(model, guide.space, args, kwargs)
    trained = guide.trained_on()
    nodes = reader.nodes(trained.z[0])
    if any(s.name not in nodes or nodes[s.name]["fn"].shape() != s.shape for s in guide.space.sites):
        _same_latents(guide, model, args, kwargs)
    changed = trained.changed(reader, rows)
    if changed:
        raise ModelError(
            f"latent site '{changed}' has another prior here than the guide was trained on; train a "
            "guide for this model, these inputs and whatever else it reads (globals, pyro.param, modules)"
        )


def _same_latents(
    guide: "ScoreGuide", model: Callable[..., Any], args: Any, kwargs: Any
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    sites = find_sites(model, args, kwargs, latents=guide.space.names)
    differs = sites.space.same_as(guide.traced)
    if differs:
        raise ModelError(f"the model's latents are not those the guide was trained on: {differs}")
    return sites.observable, sites.moving
