"""What keeps data from being observed at a site: a support, an edge of it, a mask, something random."""

import contextlib
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import pyro.distributions as dist
import torch
from torch.distributions import constraints

from ..backend.sharing import SHARED
from ..distributions import Diffusion
from ..distributions.typing import Args, Distribution, Kwargs, Model, Nodes, Site, Support
from .draws import SlowDrawsWarning, prior_draws
from .errors import ModelError, random_parent, weighted_delta
from .latents import LatentSpace
from .observe import check_shape, data_tensor
from .observed import SEEDS, Target
from .probing import SLOW_PROBES
from .randomness import seeded
from .running import SiteReader, traced, unvalidated
from .runs import is_computed, origins_of, sample_sites_of
from .sites import check_not_computed
from .supports import bounds, data_support, log_density, plain
from .unwrap import own_mask, unwrap

SHOWN = 3
PAIRS = 8  # of draws, with the masked numbers of one put into the other
RUNS = 64  # of a model that branches on its draws, to see whether its sites are the same


def check_values(name: str, kept: torch.Tensor, at: Iterable[tuple[Distribution, torch.Tensor]]) -> None:
    """Check that each event lies in the support, and has a density, at one of several draws at least.

    kept: which events were observed, in the site's batch shape; at: the site's distribution over that shape,
    and the value it is observed at, at draws of the latents. Raises: ModelError, naming the site, the first
    values that do not, and whether they are on the edge.
    """
    inside = finite = ~kept
    for base, value in at:
        try:
            support = data_support(base)
            inside = inside | support.check(value)
            finite = finite | _has_density(base, value, inside)
        except (NotImplementedError, AttributeError):  # a distribution that states no support, or no density
            return
        if bool((inside & finite).all()):
            return
    if not bool(inside.all()):
        raise ModelError(
            f"site '{name}': the data are outside the support of {type(base).__name__}, {support}: "
            f"{_numbers(value, ~inside)}"
        )
    edge = ~finite & _on_edge(support, value, finite)
    if bool(edge.any()):
        raise ModelError(
            f"site '{name}': the data are on the edge of the support of {type(base).__name__}, {support}, "
            f"where its density is zero or infinite: {_numbers(value, edge)}; move them inside by what the "
            "measurement resolves, leave them out (NaN), or give the edge a probability of its own"
        )


def check_observed(observed: Callable[..., Any], args: Args, kwargs: Kwargs, draws: int = 16) -> None:
    """`check_values` of all that a model observes, once given its data (`Observe`), at draws of its own."""

    @cache
    def nodes(seed: int) -> Nodes:
        with seeded(seed, 3), torch.no_grad(), unvalidated():
            return traced(observed, args, kwargs)

    def at(name: str) -> Iterator[tuple[Distribution, torch.Tensor]]:
        for node in (nodes(seed)[name] for seed in range(draws)):
            base, value = unwrap(node["fn"]), node["value"]
            batch = value.shape[: value.dim() - base.event_dim]
            yield base if base.batch_shape == batch else _expanded(name, base, batch), value

    for name, node in nodes(0).items():
        if (
            node["type"] != "sample"
            or not node["is_observed"]
            or isinstance(unwrap(node["fn"]), (Diffusion, dist.Unit))
        ):
            continue
        base, value = next(at(name))
        mask = own_mask(node["fn"], node["mask"])
        whole = torch.ones_like(value, dtype=torch.bool) if mask is None else mask
        with unvalidated():
            check_values(name, whole.reshape(*base.batch_shape, -1)[..., 0], at(name))


def _expanded(name: str, base: Distribution, batch: torch.Size) -> Distribution:
    try:
        return base.expand(batch)
    except NotImplementedError as error:
        raise ModelError(
            f"site '{name}': the data have the batch shape {tuple(batch)}, {type(base).__name__} says "
            f"{tuple(base.batch_shape)} and cannot be expanded to it; write it with a distribution that "
            "has the data's shape"
        ) from error


def _has_density(base: Distribution, value: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    if isinstance(base, dist.Delta) or base.support.is_discrete:  # whose ends are numbers like any other
        return inside
    return torch.isfinite(log_density(base, value))


def _on_edge(support: Support, value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Whether a number of each event is at an end of the support, in the shape of `like`."""
    ends = bounds(support)
    if ends is not None:
        found = (value == torch.as_tensor(ends[0])) | (value == torch.as_tensor(ends[1]))
    elif plain(support) is constraints.simplex:
        found = value == 0
    else:
        return torch.zeros_like(like)
    return found.reshape(*like.shape, -1).any(dim=-1)


def _numbers(value: torch.Tensor, wrong: torch.Tensor) -> str:
    """The first of the wrong events, and where they stand."""
    places = torch.nonzero(wrong)
    found = []
    for place in places[:SHOWN]:
        index = tuple(place.tolist())
        where = f" (number {index[0] if len(index) == 1 else index})" if index else ""
        found.append(f"{value[index].tolist()}{where}")
    more = len(places) - len(found)
    return ", ".join(found) + (f" and {more} more" if more > 0 else "")


# ---- Masks on latents, which switch their prior density off in Pyro: which of them matter


def check_masks(reader: SiteReader, draws: torch.Tensor, observed: Collection[str]) -> None:
    """Check that what is masked on latents touches nothing that is not: no density of a latent or of an
    observed site depends on it, as where a padded group and its data are masked together.

    The draws of such numbers are then those of the prior, and do not matter to the others. draws (rows, dim):
    unconstrained, from the prior. Raises: ModelError, naming the latent and what depends on it.
    """
    nodes = reader.nodes(draws[0])
    masked = {}
    for name in reader.space.names:
        mask = own_mask(nodes[name]["fn"], nodes[name]["mask"])
        if mask is not None and not bool(mask.all()):
            masked[name] = ~mask
    if not masked:
        return
    kept = {*reader.space.names, *observed}
    for row in range(min(PAIRS, len(draws) - 1)):
        one, other = (reader.space.unflatten(draws[k]) for k in (row, row + 1))
        before = _kept_densities(reader, one, kept)
        changed = {name: torch.where(gone, other[name], one[name]) for name, gone in masked.items()}
        if not _touched(before, _kept_densities(reader, one | changed, kept)):
            continue
        for name, value in changed.items():
            touched = _touched(before, _kept_densities(reader, one | {name: value}, kept))
            if touched:
                raise _switched_off(name, touched)
        raise _switched_off(
            next(iter(masked)), _touched(before, _kept_densities(reader, one | changed, kept))
        )
    _check_without_density(reader, nodes, masked)


def _switched_off(name: str, touched: str) -> ModelError:
    return ModelError(
        f"latent site '{name}' is masked, which switches its prior density off in Pyro while its draws stay, "
        f"and site '{touched}' depends on it; give it the prior that is meant, without a mask (a wide one "
        f"for a flat one), or mask '{touched}' where it is masked too"
    )


def _kept_densities(
    reader: SiteReader, values: Mapping[str, torch.Tensor], kept: Collection[str]
) -> dict[str, torch.Tensor]:
    """{site: log-densities where it is not masked} of the sites that are kept and have one."""
    found = {}
    for name, node in reader.at(values).items():
        if name not in kept:
            continue
        try:
            terms = log_density(node["fn"], node["value"])
        except NotImplementedError:
            continue
        mask = True if node["mask"] is None else node["mask"]
        found[name] = torch.where(torch.as_tensor(mask), terms, 0.0)
    return found


def _touched(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]) -> str:
    """The first site whose densities are others, or ''."""
    for name, terms in before.items():
        if not torch.allclose(terms, after[name], rtol=1e-6, atol=1e-9, equal_nan=True):
            return name
    return ""


def _check_without_density(reader: SiteReader, nodes: Nodes, masked: Mapping[str, torch.Tensor]) -> None:
    """A latent that is only drawn shows by its draws alone what it depends on."""
    parents = origins_of(reader.model, reader.args, reader.kwargs, sample_sites_of(nodes)).parents()
    for name in reader.space.names:
        try:
            log_density(nodes[name]["fn"], nodes[name]["value"])
        except NotImplementedError:
            above = [parent for parent in masked if parent in parents[name]]
            if above:
                raise _switched_off(above[0], name) from None


# ---- What keeps data from being observed at a site of the model


def check_prior(nodes: Nodes, space: LatentSpace) -> None:
    """The prior is known by its draws, so nothing may change it after them. Raises: ModelError."""
    latents = set(space.names)
    for name, node in nodes.items():
        if node["type"] == "sample" and isinstance(node["fn"], dist.Unit):
            raise ModelError(
                f"site '{name}' is a pyro.factor, which prior draws do not show; write it as an observed site"
            )
        if name not in latents and _is_weighted(node):
            raise weighted_delta(name)
    for name in space.names:
        scale = nodes[name]["scale"]
        if not isinstance(scale, (int, float)) or scale != 1:
            raise ModelError(f"latent site '{name}' is scaled or subsampled; a posterior needs scale 1")


def own_observations(nodes: Nodes, again: Nodes, known: Sequence[str]) -> dict[str, torch.Tensor]:
    """{site: value} of what the model itself observes, in two runs at other latents, but for sites `known`,
    the forward SDE and what is computed."""
    found, left_out = {}, set(known)
    for name, node in sample_sites_of(nodes).items():
        counts = node["is_observed"] and not isinstance(node["fn"], (Diffusion, dist.Unit))
        if counts and name not in left_out and not is_computed(node, again[name]):
            found[name] = data_tensor(name, node["value"])
    return found


def _is_weighted(node: Site) -> bool:
    """Whether an observed Delta has a log_density that counts."""
    base = unwrap(node["fn"]) if node["type"] == "sample" and node["is_observed"] else None
    if not isinstance(base, dist.Delta) or not bool((torch.as_tensor(base.log_density) != 0).any()):
        return False
    mask = own_mask(node["fn"], node["mask"])
    return mask is None or bool(mask.any())


def check_fixed(model: Model, space: LatentSpace, args: Args, kwargs: Kwargs) -> None:
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


def _densities(nodes: Nodes) -> dict[str, torch.Tensor]:
    """{site: log-density} of those that have one."""
    found = {}
    for name, node in sample_sites_of(nodes).items():
        with contextlib.suppress(NotImplementedError), unvalidated():  # a support may move with the latents
            found[name] = torch.as_tensor(log_density(node["fn"], node["value"]))
    return found


def check_site(name: str, value: torch.Tensor, nodes: Nodes, space: LatentSpace) -> None:
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
    check_shape(name, nodes[name]["fn"], value)
    if torch.isinf(value).any():
        raise ModelError(f"site '{name}': the data hold infinity; mark what was not observed with NaN")
    if not isinstance(nodes[name]["scale"], (int, float)) or nodes[name]["scale"] != 1:
        raise ModelError(f"site '{name}' is scaled (poutine.scale); a posterior needs scale 1")


def check_parents(
    model: Model,
    args: Args,
    kwargs: Kwargs,
    nodes: Nodes,
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

    def at() -> Iterator[tuple[Distribution, torch.Tensor]]:
        for row in range(min(SLOW_PROBES, len(target.probes.draws))):
            nodes = target.runs.at(row)
            base, value = target.base(nodes), target.observed(nodes)
            indices = base.event_dim and not value.is_floating_point()  # as a matching's data are
            if target.moving is None and not indices:
                value = torch.where(torch.isnan(target.y), value, target.y)
            yield base, value

    with unvalidated():
        check_values(target.name, target.kept, at())
