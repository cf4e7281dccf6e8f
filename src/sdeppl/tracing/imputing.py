"""Latents of no prior that fill gaps in what a model observes: drawn from the site that observes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import update_wrapper
from typing import Any

import pyro.distributions as dist
import torch
from pyro.poutine.messenger import Messenger
from torch.distributions import biject_to

from ..distributions.typing import Args, Distribution, Kwargs, Model, Nodes, Site, Support
from .observe import data_tensor
from .randomness import seeded
from .running import traced, unvalidated
from .runs import Origins, origins_of, sample_sites_of
from .unwrap import own_mask, unwrap


@dataclass(frozen=True)
class Gaps:
    """Latent `name` (numbers without a prior, `shape`) fills what site `source` is observed at.

    index (n,): which of the source's numbers, flat, the latent's are, in its own order; above: the sites
    that the source's distribution depends on.
    """

    name: str
    source: str
    index: torch.Tensor
    above: frozenset[str]


def imputed(model: Model, args: Args, kwargs: Kwargs) -> Model:
    """The model with each latent of no prior (wholly masked, or an ImproperUniform) that fills gaps in what a
    site of independent numbers is observed at drawn from that site, which is then observed in the other
    numbers alone: the same joint density, of latents that can be drawn. The model itself where there is none.

    p(gaps) = 1 and p(y = (gaps, data) | θ) = Π p(gaps_i | θ) Π p(data_j | θ). The rewritten model is run
    twice for each such latent, to know θ's distribution of y before the gaps are drawn.
    """
    while True:
        found = next(iter(_gaps(model, args, dict(kwargs))), None)
        if found is None:
            return model
        model = Imputing(model, found)


def original(model: Model) -> Model:
    """The model that `imputed` was given."""
    while isinstance(model, Imputing):
        model = model.model
    return model


def _gaps(model: Model, args: Args, kwargs: Kwargs) -> list[Gaps]:
    sites = _run(model, args, kwargs, {})
    improper = [name for name, site in sites.items() if _has_no_prior(site)]
    if not improper:
        return []
    origins = origins_of(_filled(model, {}), args, kwargs, sites)
    found = [_source(model, args, kwargs, sites, origins, name) for name in improper]
    return [one for one in found if one is not None]


def _has_no_prior(site: Site) -> bool:
    if site["is_observed"] or not site["value"].numel():
        return False
    mask = own_mask(site["fn"], site["mask"])
    return isinstance(unwrap(site["fn"]), dist.ImproperUniform) or (mask is not None and not bool(mask.any()))


def _source(
    model: Model,
    args: Args,
    kwargs: Kwargs,
    sites: Nodes,
    origins: Origins,
    name: str,
) -> Gaps | None:
    """The first site that is observed at the latent's numbers, among others, and does not depend on it."""
    values = {n: site["value"] for n, site in sites.items() if not site["is_observed"]}
    marks = [_start(sites[name]["fn"], seed) for seed in (1, 2)]
    runs = [_run(model, args, kwargs, {**values, name: mark}) for mark in marks]
    parents = {n: found - origins.data for n, found in origins.parents().items()}
    for source, site in sites.items():
        above = _closure(source, {**parents, source: origins.distribution[source]})
        if not site["is_observed"] or name in above or unwrap(site["fn"]).event_dim > 0:
            continue
        seen = [data_tensor(source, run[source]["value"]).reshape(-1) for run in runs]
        flat = [mark.reshape(-1) for mark in marks]
        places = [(one == two[:, None]) for one, two in zip(seen, flat, strict=True)]
        same = places[0] & places[1]
        whole = int((seen[0] != seen[1]).sum()) == len(flat[0]) and bool((same.sum(dim=1) == 1).all())
        if whole and _is_kept(site, same.any(dim=0)) and _is_simple(site):
            return Gaps(name, source, same.int().argmax(dim=1), frozenset(above))
    return None


def _is_kept(site: Site, gaps: torch.Tensor) -> bool:
    """Whether the source's own mask keeps these numbers."""
    mask = own_mask(site["fn"], site["mask"])
    return mask is None or bool(mask.reshape(-1)[gaps].all())


def _is_simple(site: Site) -> bool:
    """Whether its numbers can be drawn one without another, of one support, at scale 1."""
    bounds = [getattr(site["fn"].support, key, 0.0) for key in ("lower_bound", "upper_bound")]
    one = all(torch.as_tensor(bound).numel() == 1 for bound in bounds)
    return one and isinstance(site["scale"], (int, float)) and site["scale"] == 1


def _closure(name: str, parents: Mapping[str, set[str]]) -> set[str]:
    """All that a site depends on, through others too."""
    found: set[str] = set()
    left = set(parents[name])
    while left:
        one = left.pop()
        if one not in found and one in parents:
            found.add(one)
            left |= parents[one]
    return found


def _run(model: Model, args: Args, kwargs: Kwargs, values: Mapping[str, torch.Tensor]) -> dict[str, Site]:
    with seeded(0), torch.no_grad(), unvalidated():
        return sample_sites_of(traced(_filled(model, values), args, kwargs))


def _filled(model: Model, values: Mapping[str, torch.Tensor]) -> Model:
    def run(*args: object, **kwargs: object) -> Any:
        with _Fill(values):
            return model(*args, **kwargs)

    return run


def _start(fn: Distribution, seed: int) -> torch.Tensor:
    """Numbers in the support of a latent."""
    base = unwrap(fn)
    if not isinstance(base, dist.ImproperUniform):
        with seeded(seed):
            value: torch.Tensor = fn.sample()
            return value
    transform = biject_to(base.support)
    shape = transform.inverse_shape(fn.shape())
    generator = torch.Generator().manual_seed(seed)
    started: torch.Tensor = transform(torch.randn(shape, generator=generator))
    return started.to(torch.get_default_dtype())


class _Fill(Messenger):
    """Values of latents, those that are given or those of an ImproperUniform, which cannot be drawn."""

    def __init__(self, values: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Site) -> None:
        if msg["is_observed"] or msg["value"] is not None:
            return
        if msg["name"] in self.values:
            msg["value"] = self.values[msg["name"]]
        elif isinstance(unwrap(msg["fn"]), dist.ImproperUniform):
            msg["value"] = _start(msg["fn"], 0)


class Imputing:
    """A model whose latent `gaps.name` is drawn from the distribution of site `gaps.source`."""

    def __init__(self, model: Model, gaps: Gaps) -> None:
        self.model, self.gaps = model, gaps
        update_wrapper(self, model, updated=())

    def __call__(self, *args: object, **kwargs: object) -> Any:
        """Runs the model for the sites above, then for all, the latent before its source."""
        above = _Above(self.gaps)
        with above:
            self.model(*args, **kwargs)
        with _Draw(self.gaps, above):
            return self.model(*args, **kwargs)


class _Above(Messenger):
    """Shows the sites that the source's distribution depends on alone, and keeps their values and it."""

    def __init__(self, gaps: Gaps) -> None:
        super().__init__()
        self.gaps = gaps
        self.values: dict[str, torch.Tensor] = {}
        self.fn: Distribution = None

    def _pyro_sample(self, msg: Site) -> None:
        name = msg["name"]
        msg["stop"] = name not in self.gaps.above
        if name == self.gaps.source:
            self.fn = msg["fn"]
        elif msg["stop"] and msg["value"] is None and isinstance(unwrap(msg["fn"]), dist.ImproperUniform):
            msg["value"] = _start(msg["fn"], 0)

    def _pyro_post_sample(self, msg: Site) -> None:
        if msg["name"] in self.gaps.above:
            self.values[msg["name"]] = msg["value"]


class _Draw(Messenger):
    """Hides the sites that have been shown; the latent gets the numbers of its own, the source the rest."""

    def __init__(self, gaps: Gaps, above: _Above) -> None:
        super().__init__()
        self.gaps, self.above = gaps, above

    def _pyro_sample(self, msg: Site) -> None:
        name, index = msg["name"], self.gaps.index
        if name in self.above.values:
            msg["value"], msg["stop"] = self.above.values[name], True
        elif name == self.gaps.name:
            fn, shape = self.above.fn, msg["fn"].shape()
            numbers = Entries(unwrap(fn).expand(fn.shape()), index, shape)
            msg["fn"], msg["mask"] = numbers.to_event(msg["fn"].event_dim), None
        elif name == self.gaps.source:
            fn = msg["fn"]
            own = own_mask(fn)
            kept = torch.ones(fn.shape().numel(), dtype=torch.bool)
            kept[index] = False
            kept = kept.reshape(fn.shape()) if own is None else kept.reshape(fn.shape()) & own
            msg["fn"] = unwrap(fn).expand(fn.shape()).mask(kept).to_event(fn.event_dim)


class Entries(dist.TorchDistribution):
    """Some of the independent numbers of a distribution: those at `index` of its flat batch, in `shape`."""

    arg_constraints: dict[str, Any] = {}

    def __init__(self, base: Distribution, index: torch.Tensor, shape: torch.Size) -> None:
        self.base, self.index = base, index
        # where each number of the base is taken from; one that is no entry is any other
        self.places = torch.zeros(base.batch_shape.numel(), dtype=torch.long)
        self.places[index] = torch.arange(len(index))
        super().__init__(shape, torch.Size(), validate_args=False)

    @property
    def support(self) -> Support:
        """That of the base, one for all numbers."""
        return self.base.support

    def sample(self, sample_shape: Sequence[int] = torch.Size()) -> torch.Tensor:
        """Draws (*sample_shape, *shape)."""
        drawn: torch.Tensor = self.base.sample(sample_shape)
        return drawn.reshape(*sample_shape, -1)[..., self.index].reshape(*sample_shape, *self.batch_shape)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """ln p of value (..., *shape), in its shape."""
        lead = value.shape[: value.dim() - len(self.batch_shape)]
        whole = value.reshape(*lead, -1)[..., self.places].reshape(*lead, *self.base.batch_shape)
        terms: torch.Tensor = self.base.log_prob(whole)
        return terms.reshape(*lead, -1)[..., self.index].reshape(value.shape)

    def expand(self, batch_shape: Sequence[int], _instance: object = None) -> "Entries":
        """Itself, of its own shape. Raises: NotImplementedError for another."""
        if torch.Size(batch_shape) != self.batch_shape:
            raise NotImplementedError(f"entries of shape {tuple(self.batch_shape)} to {tuple(batch_shape)}")
        return self
