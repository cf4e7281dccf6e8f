"""What was observed, and how likely each number of it is under draws of the latents."""

import pickle
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.poutine.util import site_is_subsample

from ..backend import host_numbers
from ..backend.sending import sent_state
from ..backend.sharing import SHARED
from ..backend.words import sites_in_words
from ..distributions import Diffusion
from .observe import Observe
from .probing import FAILURES
from .randomness import BatchedRandomness, seeded
from .running import traced, unvalidated
from .supports import log_density
from .unwrap import unwrap

CHUNK = 1024
_SILENT = (dist.Delta, dist.Unit, Diffusion)  # constraints, factors and noising are no data


@dataclass(frozen=True)
class GivenModel:
    """A model given data {site: tensor}, NaN where not observed; own: what it observes by itself besides;
    axes: {site: (names, labels)} of data that had them, as a Series or a DataArray has."""

    model: Callable[..., Any]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    data: Mapping[str, torch.Tensor]
    own: Mapping[str, torch.Tensor] = field(default_factory=dict)
    axes: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        name = getattr(self.model, "__name__", type(self.model).__name__)
        return f"GivenModel({name}, data of {sites_in_words({**self.own, **self.data})})"

    def __getstate__(self) -> dict[str, Any]:
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

    def log_likelihood(self, draws: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """{observed site: ln p of each number given each draw, (draws, *shape)}; of events that are not
        independent numbers, as of a multivariate normal, of each event. NaN where nothing was observed.

        draws: {latent: (draws, *shape)}. Raises: what the model raises.
        """
        rows = {name: torch.as_tensor(host_numbers(value)) for name, value in draws.items()}
        conditioned = Observe(self.data, self.own)(self.model)
        found: dict[str, torch.Tensor] = {}

        def one(latents: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            given = poutine.condition(conditioned, data=latents)
            nodes = traced(given, self.args, self.kwargs)
            return {name: _pointwise(site) for name, site in nodes.items() if _is_data(site, latents)}

        with SHARED, torch.no_grad(), unvalidated(), seeded(0), BatchedRandomness():
            try:
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", message="There is a performance drop")
                    found = torch.func.vmap(one, randomness="different", chunk_size=CHUNK)(rows)
            except FAILURES:
                count = len(next(iter(rows.values())))
                singles = [one({name: value[k] for name, value in rows.items()}) for k in range(count)]
                found = {name: torch.stack([single[name] for single in singles]) for name in singles[0]}
        return {name: self._unseen(name, value) for name, value in found.items()}

    def _unseen(self, name: str, value: torch.Tensor) -> torch.Tensor:
        data = self.data.get(name, self.own.get(name))
        if data is None or not bool(torch.isnan(data).any()):
            return value
        missing = torch.isnan(data).cpu().reshape(*value.shape[1:], -1).all(dim=-1)
        return torch.where(missing, torch.nan, value)


def _is_data(site: Any, latents: Mapping[str, Any]) -> bool:
    if site["type"] != "sample" or not site["is_observed"] or site["name"] in latents:
        return False
    return not site_is_subsample(site) and not isinstance(unwrap(site["fn"]), _SILENT)


def _pointwise(site: Any) -> torch.Tensor:
    return _masked(_by_number(site["fn"], site["value"]), site["mask"]) * site["scale"]


def _by_number(fn: Any, value: torch.Tensor) -> torch.Tensor:
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
