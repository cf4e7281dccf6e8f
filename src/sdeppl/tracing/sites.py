"""Which sites of a model are latent, which can be observed, and which is the forward SDE."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer.inspect import TrackProvenance
from pyro.ops.provenance import get_provenance
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample

from ..distributions import Diffusion
from ..sde import IsotropicSDE
from .errors import ModelError, no_data
from .latents import LatentSpace
from .observe import data_tensor
from .randomness import seeded
from .running import traced, unvalidated
from .unwrap import unwrap


@dataclass(frozen=True)
class ModelSites:
    """What a trace shows: the latents, the names that can be observed, the forward SDE or None."""

    space: LatentSpace
    observable: tuple[str, ...]
    diffusion: IsotropicSDE | None


def find_sites(
    model: Callable[..., Any],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    latents: Sequence[str] | None = None,
) -> ModelSites:
    """Trace the model once and sort its sample sites.

    A site is observable if it is observed already, or if it depends on others and none depends on
    it; so is a Delta of others, a hard constraint once it gets a value. The rest is latent, unless
    `latents` names them. `Diffusion` sites are neither.

    Raises: ModelError for no latent, a discrete or NaN latent, a latent that is not known or that the
    model observes, a Diffusion that something depends on, several Diffusion sites, or one over
    several latents.
    """
    kwargs = dict(kwargs or {})
    found = _sort(model, args, kwargs, latents)
    if not found.latent:
        raise ModelError(f"the model has no latent site; its sample sites are {list(found.sites)}")
    space = LatentSpace.from_trace({name: found.sites[name] for name in found.latent})
    _check_fixed_supports(model, args, kwargs, space)
    forward = _forward(found.sites, found.diffusions, found.latent)
    return ModelSites(space, tuple(found.observable), forward)


def without_unseen(
    model: Callable[..., Any],
    data: Collection[str],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    latents: Sequence[str] | None = None,
) -> tuple[Callable[..., Any], list[str]]:
    """The model without its observable sites of no value, and the names of the latents that remain.

    data: names of the sites that get a value; the model's own observations stand besides.

    Raises: ModelError for no value at all, or a value whose site depends on one of no value.
    """
    found = _sort(model, args, dict(kwargs or {}), latents)
    seen = {*data, *(name for name, site in found.sites.items() if site["is_observed"])}
    if not seen:
        raise no_data(found.observable)
    unseen = [name for name in found.observable if name not in seen]
    for name in found.sites:
        needed = [parent for parent in unseen if parent in found.parents[name]]
        if needed and name not in unseen:
            raise ModelError(
                f"site '{name}' depends on site '{needed[0]}', which is neither latent nor observed; give "
                f"it a value, or name it in latents="
            )
    remaining = [name for name in found.latent if name not in seen]
    return (poutine.block(model, hide=unseen) if unseen else model), remaining


@dataclass(frozen=True)
class _Sorted:
    """The sample sites by name, the names of each kind, and what each depends on directly."""

    sites: dict[str, Any]
    latent: list[str]
    observable: list[str]
    diffusions: list[str]
    parents: dict[str, set[str]]


def _sort(
    model: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], latents: Sequence[str] | None
) -> _Sorted:
    with seeded(0), torch.no_grad():
        nodes = traced(model, args, kwargs)
    sites: dict[str, Any] = {
        name: site
        for name, site in nodes.items()
        if site["type"] == "sample"
        and not site_is_subsample(site)
        and not site["infer"].get("_deterministic", False)
    }
    diffusions = [name for name, site in sites.items() if isinstance(site["fn"], Diffusion)]
    parents = site_parents(model, args, kwargs, sites)
    _check_without_children(diffusions, parents)
    plain = [name for name in sites if name not in diffusions]
    has_children = {parent for name in plain for parent in parents[name]}
    observed = [
        name for name in plain if sites[name]["is_observed"] or (parents[name] and name not in has_children)
    ]
    if latents is not None:
        fixed = [name for name in latents if name in plain and sites[name]["is_observed"]]
        if fixed:
            raise ModelError(
                f"latent site '{fixed[0]}' is observed in the model, so there is nothing to infer; call it "
                "with that site unobserved"
            )
        unknown = [name for name in latents if name not in plain]
        if unknown:
            raise ModelError(f"latents={list(latents)}: the model has no site '{unknown[0]}', only {plain}")
        observed = [name for name in plain if name not in latents]
    chosen = [name for name in plain if name not in observed]
    return _Sorted(sites, chosen, observed, diffusions, parents)


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
        nodes = traced(model, args, kwargs)
    missing = [name for name in space.names if name not in nodes]
    if missing:
        raise ModelError(f"latent site '{missing[0]}' is not in every run; its presence must not be random")
    differs = space.same_as(LatentSpace.from_trace({name: nodes[name] for name in space.names}))
    if differs:
        raise ModelError(
            f"{differs}: it changes from draw to draw; write the latent as a function of one whose "
            "shape and support are fixed"
        )


def site_parents(
    model: Callable[..., Any],
    args: Sequence[Any],
    kwargs: dict[str, Any],
    sites: Mapping[str, Any],
    observed: bool = False,
) -> dict[str, set[str]]:
    """Names of the random sites that each site's distribution depends on directly.

    sites: of a trace, whose values are used again; observed: whether to name those that the model itself
    observes too. What depends on sites through a Delta or a deterministic site depends on them directly.
    """
    # NaN among the data means not observed, which validation would refuse
    with seeded(0), unvalidated(), torch.no_grad(), TrackProvenance(), _Replay(sites):
        nodes = traced(model, args, kwargs)
        present = [name for name in sites if name in nodes]  # one whose presence is random is refused later
        found = {name: set(_provenance(nodes[name])) - {name} for name in present}
    random = {name for name in present if observed or not nodes[name]["is_observed"]}
    return {name: found.get(name, set()) & random for name in sites}


def _provenance(site: Any) -> frozenset[str]:
    fn = unwrap(site["fn"])
    if isinstance(fn, dist.Delta):  # its density depends on nothing but whether the values agree
        return get_provenance(fn.v)
    # what a constructor assigns in place is not tracked, what it was given is
    given: frozenset[str] = get_provenance(list(vars(fn).values()))
    try:
        return given | get_provenance(site["fn"].log_prob(site["value"]))
    except NotImplementedError:  # read_sites refuses it by name, if it gets data
        return given


class _Replay(Messenger):
    """Values of a trace as tensors: torch cannot draw all distributions of tensors that are tracked."""

    def __init__(self, sites: Mapping[str, Any]) -> None:
        super().__init__()
        self.sites = sites

    def _pyro_sample(self, msg: Any) -> None:
        if msg["is_observed"]:
            msg["value"] = data_tensor(msg["name"], msg["value"])
        elif msg["name"] in self.sites and not isinstance(unwrap(msg["fn"]), dist.Delta):
            msg["value"] = self.sites[msg["name"]]["value"]


def _forward(sites: dict[str, Any], diffusions: list[str], latents: list[str]) -> IsotropicSDE | None:
    if not diffusions:
        return None
    if len(diffusions) > 1:
        raise ModelError(f"the model has several Diffusion sites, {diffusions}; one forward SDE is needed")
    if len(latents) > 1:
        raise ModelError(
            f"site '{diffusions[0]}' is the forward SDE of one latent, but the model has "
            f"{latents}; give the SDE of all with ScoreGuide(model, sde=...)"
        )
    sde: IsotropicSDE = sites[diffusions[0]]["fn"].sde
    return sde
