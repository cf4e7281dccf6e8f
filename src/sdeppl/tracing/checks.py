"""What keeps data from being observed at a site of the model."""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyro.distributions as dist
import torch

from ..backend.sharing import SHARED
from ..distributions import Diffusion
from .draws import SlowDrawsWarning, prior_draws
from .edges import check_values
from .errors import ModelError, random_parent
from .latents import LatentSpace
from .observe import data_tensor
from .probing import SLOW_PROBES
from .provenance import origins_of
from .reader import SiteReader
from .running import unvalidated
from .runs import is_computed, sample_sites_of
from .sites import check_not_computed
from .supports import log_density
from .target import SEEDS, Target
from .unwrap import own_mask, unwrap

RUNS = 64  # of a model that branches on its draws, to see whether its sites are the same


def check_prior(nodes: Mapping[str, Any], space: LatentSpace) -> None:
    """The prior is known by its draws, so nothing may change it after them. Raises: ModelError."""
    latents = set(space.names)
    for name, node in nodes.items():
        if node["type"] == "sample" and isinstance(node["fn"], dist.Unit):
            raise ModelError(
                f"site '{name}' is a pyro.factor, which prior draws do not show; write it as an observed site"
            )
        if name not in latents and _is_weighted(node):
            raise ModelError(
                f"site '{name}' is a Delta with a log_density, which is a pyro.factor, and prior draws do "
                "not show it; write it as an observed site"
            )
    for name in space.names:
        scale = nodes[name]["scale"]
        if not isinstance(scale, (int, float)) or scale != 1:
            raise ModelError(f"latent site '{name}' is scaled or subsampled; a posterior needs scale 1")


def own_observations(
    nodes: Mapping[str, Any], again: Mapping[str, Any], known: Sequence[str]
) -> dict[str, torch.Tensor]:
    """{site: value} of what the model itself observes, in two runs at other latents, but for sites `known`,
    the forward SDE and what is computed."""
    found, left_out = {}, set(known)
    for name, node in sample_sites_of(nodes).items():
        counts = node["is_observed"] and not isinstance(node["fn"], (Diffusion, dist.Unit))
        if counts and name not in left_out and not is_computed(node, again[name]):
            found[name] = data_tensor(name, node["value"])
    return found


def _is_weighted(node: Any) -> bool:
    """Whether an observed Delta has a log_density that counts."""
    base = unwrap(node["fn"]) if node["type"] == "sample" and node["is_observed"] else None
    if not isinstance(base, dist.Delta) or not bool((torch.as_tensor(base.log_density) != 0).any()):
        return False
    mask = own_mask(node["fn"], node["mask"])
    return mask is None or bool(mask.any())


def check_fixed(
    model: Callable[..., Any], space: LatentSpace, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> None:
    """Check that the sites of a model, and their densities, are the same in all runs at given latents.

    Looked at in prior draws, one by one where the model branches on what it draws, and with seeds for what
    is random besides. Raises: ModelError, naming the site.
    """
    with SHARED, warnings.catch_warnings():
        warnings.simplefilter("ignore", SlowDrawsWarning)  # said where many draws are made
        draws = prior_draws(model, space.names, RUNS, (0,), args, kwargs)
    values = {name: value[0] for name, value in draws.items()}
    reader = SiteReader(model, space, args, dict(kwargs))
    first, *others = (_densities(reader.at(values, seed)) for seed in (0, *SEEDS))
    for name, density in first.items():
        if any(not torch.allclose(density, other[name], equal_nan=True) for other in others):
            raise random_parent(name, space.names)


def _densities(nodes: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """{site: log-density} of those that have one."""
    found = {}
    for name, node in sample_sites_of(nodes).items():
        with contextlib.suppress(NotImplementedError), unvalidated():  # a support may move with the latents
            found[name] = torch.as_tensor(log_density(node["fn"], node["value"]))
    return found


def check_site(name: str, value: torch.Tensor, nodes: Mapping[str, Any], space: LatentSpace) -> None:
    """Check that the model has the site, and that the data fit it. Raises: ModelError, naming it."""
    latents = space.names
    if name in latents:
        raise ModelError(
            f"site '{name}' is a latent of the guide, so it cannot be observed; if it is an observation, "
            "name the latents with ScoreGuide(model, latents=[...])"
        )
    sampled = name in nodes and nodes[name]["type"] == "sample"
    check_not_computed([name], [name] if sampled and is_computed(nodes[name]) else [])
    if not sampled:
        sites = sample_sites_of(nodes)
        computed = [n for n, site in sites.items() if is_computed(site)]
        known = [n for n in sites if n not in (*latents, *computed)]
        raise ModelError(f"the model has no observable site '{name}'; it has {known}")
    if tuple(value.shape) != tuple(nodes[name]["fn"].shape()):
        raise ModelError(
            f"site '{name}': the data have shape {tuple(value.shape)}, the model "
            f"{tuple(nodes[name]['fn'].shape())}; mark what was not observed with NaN"
        )
    if torch.isinf(value).any():
        raise ModelError(f"site '{name}': the data hold infinity; mark what was not observed with NaN")
    if not isinstance(nodes[name]["scale"], (int, float)) or nodes[name]["scale"] != 1:
        raise ModelError(f"site '{name}' is scaled (poutine.scale); a posterior needs scale 1")


def check_parents(
    model: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    nodes: Mapping[str, Any],
    names: Sequence[str],
    space: LatentSpace,
) -> set[str]:
    """Check that the observed sites `names` depend on latents and each other alone.

    Returns those that another, or a latent, depends on. Raises: ModelError, naming both sites.
    """
    sites = sample_sites_of(nodes)
    parents = origins_of(model, args, dict(kwargs), sites).parents()
    known = {*space.names, *names}
    for name in names:
        unknown = [p for p in parents[name] if p in sites and p not in known and not nodes[p]["is_observed"]]
        if unknown:
            unknown.sort(key=list(sites).index)
            support = getattr(unwrap(nodes[unknown[0]]["fn"]), "support", None)
            raise random_parent(name, space.names, unknown[0], bool(getattr(support, "is_discrete", False)))
    return {parent for name in (*names, *space.names) for parent in parents[name]}


def check_support(target: Target) -> None:
    """Check that each observed event lies in the support, for one draw at least where that depends on
    the latents, and not on an edge without density. Raises: ModelError, naming the site and a value."""

    def at() -> Iterator[tuple[Any, torch.Tensor]]:
        for row in range(min(SLOW_PROBES, len(target.probes.draws))):
            nodes = target.runs.at(row)
            base, value = target.base(nodes), target.observed(nodes)
            indices = base.event_dim and not value.is_floating_point()  # as a matching's data are
            if target.moving is None and not indices:
                value = torch.where(torch.isnan(target.y), value, target.y)
            yield base, value

    with unvalidated():
        check_values(target.name, target.kept, at())
