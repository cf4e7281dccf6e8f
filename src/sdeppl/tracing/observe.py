"""A model conditioned on data, and how likely each number of them is under draws of the latents."""

import math
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from numpy.typing import NDArray
from pyro import poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample

from ..backend import host_numbers
from ..backend.arguments import sites_in_words
from ..backend.sharing import SHARED, sent_state
from ..distributions import Diffusion
from ..distributions.typing import Args, Distribution, Kwargs, Model, Nodes, Site
from .errors import ModelError, cannot_leave_out
from .probing import FAILURES
from .randomness import BatchedRandomness, seeded, stacked, vmapped
from .running import traced, unvalidated
from .supports import log_density
from .unwrap import own_mask, plain_normals, unwrap

_NORMALS = (torch.distributions.MultivariateNormal, torch.distributions.LowRankMultivariateNormal)
CHUNK = 1024
_SILENT = (dist.Delta, dist.Unit, Diffusion)  # constraints, factors and noising are no data


class Observe(Messenger):
    """Give the sites in `data` their observed values; leave out what was not observed (NaN), there and in
    what the model observes by itself.

    own: the values of the latter, for where they are NaN (`observed_values`). Missing entries of independent
    components are masked; those of a multivariate normal are marginalised, row by row. Diffusion sites
    contribute nothing to the density.

    Raises: ModelError, naming the site, for a shape that does not fit, or missing entries of a
    distribution whose components cannot be left out.
    """

    def __init__(self, data: Mapping[str, object], own: Mapping[str, torch.Tensor] | None = None) -> None:
        super().__init__()
        self.data = {name: data_tensor(name, value) for name, value in data.items()}
        # in NumPy, since to ask a tensor while the model runs would end a trace of its operations
        missing = {
            n: torch.isnan(value).numpy(force=True) for n, value in {**(own or {}), **self.data}.items()
        }
        self.missing = {name: where for name, where in missing.items() if where.any()}

    def _pyro_sample(self, msg: Site) -> None:
        name = msg["name"]
        if isinstance(msg["fn"], Diffusion):
            msg["fn"] = msg["fn"].mask(False)
            msg["is_observed"] = True
            msg["value"] = torch.zeros(msg["fn"].shape())
            return
        if name in self.data:
            msg["value"] = self.data[name]
            check_shape(name, msg["fn"], msg["value"])
            msg["is_observed"] = True
        if msg["is_observed"]:
            msg["fn"] = plain_normals(msg["fn"])
        if msg["is_observed"] and name in self.missing:
            shape = msg["fn"].shape()
            value, missing = msg["value"].expand(shape), np.broadcast_to(self.missing[name], shape)
            msg["fn"], msg["value"] = observed_part(name, msg["fn"], value, missing)


def data_tensor(name: str, value: object, dtype: torch.dtype | None = None) -> torch.Tensor:
    """Data as people have them (`backend.host_numbers`) as a tensor; masked entries become NaN.

    dtype: of the tensor; the data's own by default. A tensor stays on its device. Raises: ModelError, naming
    the site, for what is not real numbers, None among it.
    """
    if isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_complex():
        return value if dtype is None else value.to(dtype)
    try:
        # a copy: torch refuses negative strides, and warns of memory that it may not write to
        owned = np.array(host_numbers(value, f"site '{name}': the data"))
    except TypeError as error:
        raise ModelError(str(error)) from error
    return torch.as_tensor(owned, dtype=dtype)


def check_shape(name: str, fn: Distribution, value: torch.Tensor) -> None:
    """Check that data have the site's shape. Raises: ModelError."""
    if tuple(value.shape) != tuple(fn.shape()):
        raise ModelError(
            f"site '{name}': the data have shape {tuple(value.shape)}, the model {tuple(fn.shape())}; "
            "mark what was not observed with NaN"
        )


def observed_part(
    name: str, fn: Distribution, value: torch.Tensor, gaps: NDArray[np.bool_]
) -> tuple[Distribution, torch.Tensor]:
    """A distribution and a value of the same density as fn at `value` without the entries that are `gaps`.

    value, gaps: of the site's shape. Raises: ModelError where an event is missing in part and its
    distribution has no marginals at hand.
    """
    if gaps.all():
        return fn.mask(False), torch.zeros_like(value)
    base, mask = unwrap(fn), own_mask(fn)
    batch = value.shape[: value.dim() - base.event_dim]
    of_event = gaps.reshape(*batch, -1)
    partly = bool((of_event.any(axis=-1) & ~of_event.all(axis=-1)).any())
    missing = torch.tensor(gaps, device=value.device)
    kept = ~missing if mask is None else mask & ~missing
    if partly and not isinstance(base, _NORMALS):
        raise cannot_leave_out(name, base)
    if partly and base.batch_shape == () and mask is None:
        seen = torch.tensor(np.flatnonzero(~gaps), device=value.device)
        covariance = base.covariance_matrix[seen][:, seen]
        return dist.MultivariateNormal(base.loc[seen], covariance), value[seen]
    if partly:
        rows = torch.ones_like(missing) if mask is None else mask
        marginal, filled = _marginal(base, value, missing)
        return _over_events(marginal, rows, fn), filled
    wide = base if base.batch_shape == batch else base.expand(batch)
    return _over_events(wide, kept, fn), torch.where(missing, _filler(wide, value, of_event), value)


def _filler(base: Distribution, value: torch.Tensor, gaps: NDArray[np.bool_]) -> torch.Tensor:
    """Numbers in the support for missing events: they are masked, but NaN would reach the gradient.

    One that was seen, where all have the same support: draws would be made at every evaluation.
    """
    if base.event_dim == 0 and base.support is dist.constraints.real:
        return torch.zeros_like(value)
    seen = value[tuple(np.argwhere(~gaps.any(axis=-1))[0])].expand_as(value)
    if base.event_dim == 0 and not any(isinstance(b, torch.Tensor) for b in vars(base.support).values()):
        return seen
    try:
        drawn: torch.Tensor = base.sample().to(value)
    except (RuntimeError, NotImplementedError):  # that can be drawn from neither under vmap nor while tracked
        return seen
    return drawn


def _over_events(base: Distribution, kept: torch.Tensor, fn: Distribution) -> Distribution:
    """base, of which whole events are kept, with as many event dimensions as fn."""
    mask = kept.reshape(*base.batch_shape, -1)[..., 0]
    return base.mask(mask).to_event(fn.event_dim - base.event_dim)


def _marginal(
    base: Distribution, value: torch.Tensor, missing: torch.Tensor
) -> tuple[Distribution, torch.Tensor]:
    """Multivariate normals whose missing numbers are independent of the rest, at a value where their density
    is one: N(0; 0, 1/2π) = 1."""
    pairs = ~missing[..., :, None] & ~missing[..., None, :]
    alone = torch.diag_embed(missing.to(base.loc.dtype) / (2 * math.pi))
    covariance = torch.where(pairs, base.covariance_matrix, alone)
    normal = dist.MultivariateNormal(torch.where(missing, 0.0, base.loc), covariance_matrix=covariance)
    return normal, torch.where(missing, 0.0, value)


def observed_values(
    model: Model, args: Args, kwargs: Kwargs, names: Sequence[str]
) -> dict[str, torch.Tensor]:
    """What the model itself observes at the sites `names`, called with these arguments."""
    with seeded(0), torch.no_grad(), unvalidated():
        nodes: Nodes = poutine.trace(model).get_trace(*args, **kwargs).nodes
    return {name: nodes[name]["value"] for name in names if name in nodes and nodes[name]["is_observed"]}


# ---- What was observed, and how likely each number of it is under draws of the latents


@dataclass(frozen=True)
class GivenModel:
    """A model given data {site: tensor}, NaN where not observed; own: what it observes by itself besides;
    axes: {site: (names, labels)} of data that had them, as a Series or a DataArray has."""

    model: Model
    args: Args
    kwargs: Kwargs
    data: Mapping[str, torch.Tensor]
    own: Mapping[str, torch.Tensor] = field(default_factory=dict)
    axes: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        name = getattr(self.model, "__name__", type(self.model).__name__)
        return f"GivenModel({name}, data of {sites_in_words({**self.own, **self.data})})"

    def __getstate__(self) -> dict[str, object]:
        return sent_state(self, model="model")

    @property
    def sendable(self) -> bool:
        """Whether another process finds the model by its name, and its inputs can be pickled."""
        if getattr(self.model, "__module__", "__main__") == "__main__":
            return False
        try:
            pickle.dumps((self.model, self.args, self.kwargs))
        except Exception:  # of many kinds, by what the model holds
            return False
        return True

    def log_likelihood(self, draws: Mapping[str, object]) -> dict[str, torch.Tensor]:
        """{observed site: ln p of each number given each draw, (draws, *shape)}; of events that are not
        independent numbers, as of a multivariate normal, of each event. NaN where nothing was observed.

        draws: {latent: (draws, *shape)}. Raises: what the model raises.
        """
        rows = {name: torch.as_tensor(host_numbers(value)) for name, value in draws.items()}
        conditioned = Observe(self.data, self.own)(self.model)

        def one(latents: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            given = poutine.condition(conditioned, data=latents)
            nodes = traced(given, self.args, self.kwargs)
            return {name: _pointwise(site) for name, site in nodes.items() if _is_data(site, latents)}

        with SHARED, torch.no_grad(), unvalidated(), seeded(0), BatchedRandomness():
            try:
                found = vmapped(one, rows, chunk=CHUNK)
            except FAILURES:
                count = len(next(iter(rows.values())))
                found = stacked([one({n: value[k] for n, value in rows.items()}) for k in range(count)])
        return {name: self._unseen(name, value) for name, value in found.items()}

    def _unseen(self, name: str, value: torch.Tensor) -> torch.Tensor:
        data = self.data.get(name, self.own.get(name))
        if data is None or not bool(torch.isnan(data).any()):
            return value
        missing = torch.isnan(data).cpu().reshape(*value.shape[1:], -1).all(dim=-1)
        return torch.where(missing, torch.nan, value)


def _is_data(site: Site, latents: Mapping[str, object]) -> bool:
    if site["type"] != "sample" or not site["is_observed"] or site["name"] in latents:
        return False
    return not site_is_subsample(site) and not isinstance(unwrap(site["fn"]), _SILENT)


def _pointwise(site: Site) -> torch.Tensor:
    return _masked(_by_number(site["fn"], site["value"]), site["mask"]) * site["scale"]


def _by_number(fn: Distribution, value: torch.Tensor) -> torch.Tensor:
    """ln p, not summed over the numbers of an event that are independent."""
    if isinstance(fn, torch.distributions.Independent):
        return _by_number(fn.base_dist, value)
    if isinstance(fn, dist.MaskedDistribution):
        return _masked(_by_number(fn.base_dist, value), fn._mask)
    return log_density(fn, value)


def _masked(value: torch.Tensor, mask: Any) -> torch.Tensor:
    """0 where the mask, which has the first axes of the value, is not set."""
    if mask is None or mask is True:
        return value
    if mask is False:
        return torch.zeros_like(value)
    return torch.where(mask.reshape(mask.shape + (1,) * (value.dim() - mask.dim())), value, 0.0)
