"""Which sites of a model are latent, which can be observed, and which is the forward SDE."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from pyro.infer.inspect import get_dependencies
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample

from ..distributions import Diffusion
from ..sde import AffineSDE
from .errors import ModelError
from .latents import LatentSpace
from .randomness import seeded


@dataclass(frozen=True)
class ModelSites:
    """What a trace shows: the latents, the names that can be observed, the forward SDE or None."""

    space: LatentSpace
    observable: tuple[str, ...]
    diffusion: AffineSDE | None


def find_sites(
    model: Callable[..., Any],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    latents: Sequence[str] | None = None,
) -> ModelSites:
    """Trace the model once and sort its sample sites.

    A site is observable if it is observed already, or if it depends on others and none depends on
    it. The rest is latent, unless `latents` names them. `Diffusion` sites are neither.

    Raises: ModelError for no latent, a discrete or NaN latent, a latent that is not known, a
    Diffusion that something depends on, several Diffusion sites, or one over several latents.
    """
    kwargs = dict(kwargs or {})
    with seeded(0), torch.no_grad():
        trace = poutine.trace(model).get_trace(*args, **kwargs)
    sites: dict[str, Any] = {
        name: site
        for name, site in dict[str, Any](trace.nodes).items()
        if site["type"] == "sample"
        and not site_is_subsample(site)
        and not site["infer"].get("_deterministic", False)
    }
    diffusions = [name for name, site in sites.items() if isinstance(site["fn"], Diffusion)]
    parents = _parents(model, args, kwargs, sites)
    _check_without_children(diffusions, parents)
    plain = [name for name in sites if name not in diffusions]
    has_children = {parent for name in plain for parent in parents[name]}
    observed = [
        name for name in plain if sites[name]["is_observed"] or (parents[name] and name not in has_children)
    ]
    if latents is not None:
        unknown = [name for name in latents if name not in plain]
        if unknown:
            raise ModelError(f"latents={list(latents)}: the model has no site '{unknown[0]}', only {plain}")
        observed = [name for name in plain if name not in latents]
    chosen = [name for name in plain if name not in observed]
    if not chosen:
        raise ModelError(f"the model has no latent site; its sample sites are {list(sites)}")
    space = LatentSpace.from_trace({name: sites[name] for name in chosen})
    _check_fixed_supports(model, args, kwargs, space)
    return ModelSites(space, tuple(observed), _forward(sites, diffusions, chosen))


def _check_without_children(diffusions: list[str], parents: dict[str, set[str]]) -> None:
    for name, needed in parents.items():
        used = [d for d in diffusions if d in needed]
        if used:
            raise ModelError(
                f"site '{name}' depends on the Diffusion site '{used[0]}'; observe x0 instead: the "
                "forward SDE only carries x0 to noise"
            )


def _check_fixed_supports(
    model: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], space: LatentSpace
) -> None:
    """The bijections are read once, so a support may not move with another latent."""
    with seeded(1), torch.no_grad():
        nodes = poutine.trace(model).get_trace(*args, **kwargs).nodes
    missing = [name for name in space.names if name not in nodes]
    if missing:
        raise ModelError(f"latent site '{missing[0]}' is not in every run; its presence must not be random")
    differs = space.same_as(LatentSpace.from_trace({name: nodes[name] for name in space.names}))
    if differs:
        raise ModelError(
            f"{differs}: it changes from draw to draw; write the latent as a function of one whose "
            "shape and support are fixed"
        )


def _parents(
    model: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], sites: dict[str, Any]
) -> dict[str, set[str]]:
    """Names of the sites that each site's distribution depends on directly."""
    with seeded(0), _TensorData():
        dependencies: Any = get_dependencies(model, tuple(args), kwargs)
    found = dependencies["prior_dependencies"]
    return {name: set(found.get(name, {})) - {name} for name in sites}


class _TensorData(Messenger):
    """Observed numbers as tensors, which is what Pyro's inspection of dependencies takes."""

    def _pyro_sample(self, msg: Any) -> None:
        if msg["is_observed"]:
            msg["value"] = torch.as_tensor(msg["value"])


def _forward(sites: dict[str, Any], diffusions: list[str], latents: list[str]) -> AffineSDE | None:
    if not diffusions:
        return None
    if len(diffusions) > 1:
        raise ModelError(f"the model has several Diffusion sites, {diffusions}; one forward SDE is needed")
    if len(latents) > 1:
        raise ModelError(
            f"site '{diffusions[0]}' is the forward SDE of one latent, but the model has "
            f"{latents}; give the SDE of all with ScoreGuide(model, sde=...)"
        )
    sde: AffineSDE = sites[diffusions[0]]["fn"].sde
    return sde
