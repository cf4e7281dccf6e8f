"""What keeps data from being observed at a site of the model."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyro.distributions as dist
import torch
from pyro.poutine.util import site_is_subsample

from .errors import ModelError, random_parent
from .latents import LatentSpace
from .probing import SLOW_PROBES
from .sites import site_parents
from .target import Target
from .unwrap import unwrap


def check_prior(nodes: Mapping[str, Any], space: LatentSpace) -> None:
    """The prior is known by its draws, so nothing may change it after them. Raises: ModelError."""
    for name, node in nodes.items():
        if node["type"] == "sample" and isinstance(node["fn"], dist.Unit):
            raise ModelError(
                f"site '{name}' is a pyro.factor, which prior draws do not show; write it as an observed site"
            )
    for name in space.names:
        scale = nodes[name]["scale"]
        if not isinstance(scale, (int, float)) or scale != 1:
            raise ModelError(f"latent site '{name}' is scaled or subsampled; a posterior needs scale 1")


def check_site(name: str, value: torch.Tensor, nodes: Mapping[str, Any], space: LatentSpace) -> None:
    """Check that the model has the site, and that the data fit it. Raises: ModelError, naming it."""
    known = [n for n in nodes if nodes[n]["type"] == "sample" and n not in space.names]
    if name in space.names:
        raise ModelError(
            f"site '{name}' is a latent of the guide, so it cannot be observed; if it is an observation, "
            "name the latents with ScoreGuide(model, latents=[...])"
        )
    if name not in known:
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

    Returns those that another depends on. Raises: ModelError, naming both sites.
    """
    sites = {
        name: node for name, node in nodes.items() if node["type"] == "sample" and not site_is_subsample(node)
    }
    parents = site_parents(model, args, dict(kwargs), sites, observed=True)
    for name in names:
        unknown = [
            parent
            for parent in sites
            if parent in parents[name]
            and parent not in (*space.names, *names)
            and not nodes[parent]["is_observed"]
        ]
        if unknown:
            support = getattr(unwrap(nodes[unknown[0]]["fn"]), "support", None)
            raise random_parent(name, space.names, unknown[0], bool(getattr(support, "is_discrete", False)))
    return {parent for name in names for parent in parents[name]}


def check_support(target: Target) -> None:
    """Check that each observed event lies in the support, for one draw at least where that depends on
    the latents. Raises: ModelError, naming the site and a value."""
    inside = ~target.kept
    for z in target.probes.draws[:SLOW_PROBES]:
        base = target.base(z)
        try:
            support = base.support
        except NotImplementedError:
            return
        inside = inside | support.check(torch.where(torch.isnan(target.y), target.value, target.y))
        if bool(inside.all()):
            return
    wrong = target.y[~inside][0]
    raise ModelError(
        f"site '{target.name}': the data are outside the support of {type(base).__name__}, {support}: "
        f"{wrong.tolist()}"
    )
