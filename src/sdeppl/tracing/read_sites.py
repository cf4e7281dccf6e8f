"""Reading observed sites: what p(y | z) is as a function of the unconstrained latents z."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyro.distributions as dist
import torch

from .asking import Reading, read_together
from .checks import check_parents, check_prior, check_site, check_support, own_observations
from .density import read_constraint, read_density
from .errors import NoLatent
from .family import read_family
from .gaussian import is_gaussian, read_gaussian
from .latents import LatentSpace
from .masks import check_masks
from .observed import ObservedSite
from .probing import Probes
from .reader import Runs, SiteReader
from .target import Target


@torch.no_grad()
def read_sites(
    model: Callable[..., Any],
    space: LatentSpace,
    data: Mapping[str, torch.Tensor],
    draws: torch.Tensor,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
) -> list[ObservedSite]:
    """The observed sites of `data`, each as the most special kind that it is.

    `GaussianSite`: (multivariate) normals, and bijections of normals number by number; `FamilySite`:
    other univariate distributions of which one parameter depends on the latents; `ConstraintSite`: a
    Delta; `DensitySite`: all else that has log_prob. draws: (at least 4, dim) unconstrained latents from
    the prior, where the site is looked at: a function counts as affine if its Jacobian at the first leads
    to all the others, to 1e-5 of its size in float32 and 1e-9 in float64, a parameter as constant if it is
    at all of them. A bend that no draw reaches is not seen, so give a few hundred. Data that depend on no
    latent are left out if another observed site, or a latent, depends on them. What the model observes by
    itself is read besides, at a value that may depend on the latents, as that of residuals does.

    Raises: ModelError, naming the site: unknown, a latent, wrong shape, data outside the support,
    scaled, singular, without log_prob, depending on no latent or on a site that is neither latent nor
    given, a Delta that is not affine, an event of several numbers that was observed in part; pyro.factor.
    """
    kwargs = dict(kwargs or {})
    reader = SiteReader(model, space, args, kwargs)
    nodes = reader.nodes(draws[0])
    check_prior(nodes, space)
    own = own_observations(nodes, reader.nodes(draws[1]), (*space.names, *data))
    for name, value in (*data.items(), *own.items()):
        check_site(name, value, nodes, space)
    needed = check_parents(model, args, kwargs, nodes, [*data, *own], space)
    reader = replace(reader, data={name: _like(nodes[name], value) for name, value in data.items()})
    check_masks(reader, draws, [*data, *own])
    precise = {site.dtype for site in space.sites} == {torch.float64}
    probes = Probes(draws, 1e-9 if precise else 1e-5)
    runs = Runs(reader, draws)
    targets = [Target.of(runs, name, value.to(torch.float64), probes) for name, value in data.items()]
    targets += read_together([Target.of_own(runs, name, probes) for name in own], probes)
    sites = read_together([_read_or_leave_out(target, needed) for target in targets], probes)
    runs.kept.clear()  # which the sites' functions would hold
    return [site for site in sites if site is not None]


def _read_or_leave_out(target: Target, needed: Collection[str]) -> Reading[ObservedSite | None]:
    """None for a site that depends on no latent, which another site needs the value of, or whose value moves
    with its distribution, so that its density stays."""
    try:
        return (yield from _read(target))
    except NoLatent:
        if target.name in needed or target.moving is not None:
            return None
        raise


def _read(target: Target) -> Reading[ObservedSite]:
    check_support(target)
    if target.moving == "free":
        return (yield from read_density(target))
    base = target.base(target.runs.at())
    if isinstance(base, dist.Delta):
        return (yield from read_constraint(target))
    site: ObservedSite | None = None
    if is_gaussian(base):
        site = yield from read_gaussian(target)
    elif base.event_dim == 0 and bool(target.kept.any()):
        site = yield from read_family(target)
    return site or (yield from read_density(target))


def _like(node: Any, value: torch.Tensor) -> torch.Tensor:
    """The data in the dtype of what the model draws there, since another site may use them."""
    drawn = node["value"]
    if not isinstance(drawn, torch.Tensor):
        return value
    whole = bool((value == value.round()).all())  # not where something is missing
    return value.to(drawn.dtype) if drawn.is_floating_point() or whole else value
