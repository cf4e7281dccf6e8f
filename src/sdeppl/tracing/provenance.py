"""Which random sites the sites of a model depend on: their distributions, and what they are observed at."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch
from pyro.ops.provenance import ProvenanceTensor, detach_provenance, get_provenance
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch.overrides import TorchFunctionMode

from .errors import ModelError
from .observe import data_tensor
from .randomness import seeded
from .running import traced, unvalidated
from .unwrap import unwrap

Names = dict[str, set[str]]


@dataclass(frozen=True)
class Origins:
    """Names of the sites that each site depends on directly: its distribution, and the value that the model
    observes it at, both by site name; data: the sites that are observed at values of no random site.

    What depends on sites through a Delta, a deterministic site or one observed at a value that depends on
    them depends on them directly.
    """

    distribution: Names
    value: Names
    data: frozenset[str]

    def parents(self, but: Collection[str] = ()) -> Names:
        """Of both, without those named."""
        return {name: (found | self.value[name]) - {*but} for name, found in self.distribution.items()}


def origins_of(
    model: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], sites: Mapping[str, Any]
) -> Origins:
    """The origins of `sites`, of a trace of the model, whose values are used again.

    Raises: ModelError for a site without a density at its value.
    """
    track = _Track(sites)
    # NaN among the data means not observed, which validation would refuse
    with seeded(0), unvalidated(), torch.no_grad(), _InPlace(), track:
        nodes = traced(model, args, kwargs)
        present = [name for name in sites if name in nodes]  # one whose presence is random is refused later
        distribution = {name: _of_distribution(nodes[name]) & sites.keys() - {name} for name in present}
    value = {name: found & sites.keys() - {name} for name, found in track.of_value.items()}
    return Origins(
        {name: set(distribution.get(name, ())) for name in sites},
        {name: set(value.get(name, ())) for name in sites},
        frozenset(track.data),
    )


def _of_distribution(site: Any) -> frozenset[str]:
    fn = unwrap(site["fn"])
    if isinstance(fn, dist.Delta):  # its density depends on nothing but whether the values agree
        return get_provenance(fn.v)
    # what a constructor computes by what is not tracked is lost, what it was given is not
    given: frozenset[str] = get_provenance(list(vars(fn).values()))
    try:
        return given | get_provenance(site["fn"].log_prob(detach_provenance(site["value"])))
    except (NotImplementedError, AttributeError):  # read_sites refuses it by name, if it gets data
        return given
    except (RuntimeError, IndexError) as error:
        raise ModelError(
            f"site '{site['name']}': {type(fn).__name__} of shape {tuple(site['fn'].shape())} has no density "
            f"at a value of shape {tuple(site['value'].shape)} ({str(error).splitlines()[0]})"
        ) from error


class _Track(Messenger):
    """Values of a trace, as tensors that remember which sites they come from.

    Torch cannot draw all distributions of tensors that are tracked.
    """

    def __init__(self, sites: Mapping[str, Any]) -> None:
        super().__init__()
        self.sites = sites
        self.of_value: dict[str, frozenset[str]] = {}
        self.data: set[str] = set()

    def _pyro_sample(self, msg: Any) -> None:
        if msg["is_observed"]:
            msg["value"] = data_tensor(msg["name"], msg["value"])
            self.of_value[msg["name"]] = get_provenance(msg["value"])
        elif msg["name"] in self.sites and not isinstance(unwrap(msg["fn"]), dist.Delta):
            msg["value"] = self.sites[msg["name"]]["value"]

    def _pyro_post_sample(self, msg: Any) -> None:
        name = msg["name"]
        if site_is_subsample(msg) or isinstance(unwrap(msg["fn"]), dist.Delta):
            return
        if msg["is_observed"]:
            if self.of_value[name] - self.data:
                return
            self.data.add(name)
        msg["value"] = ProvenanceTensor(detach_provenance(msg["value"]), frozenset({name}))


class _InPlace(TorchFunctionMode):
    """Lets a tensor remember what is assigned into it, as `y[gaps] = x` does; only while this is entered."""

    def __enter__(self) -> "_InPlace":
        self._changed: list[torch.Tensor] = []
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for tensor in self._changed:
            tensor.__class__ = torch.Tensor

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name == "__setitem__" or (name.endswith("_") and not name.endswith("__")):
            changed = args[0] if args else next(iter((kwargs or {}).values()), None)
            self._remember(changed, get_provenance([args, kwargs or {}]))
        return result

    def _remember(self, tensor: Any, origins: frozenset[str]) -> None:
        if not origins:
            return
        if type(tensor) is torch.Tensor:
            plain = tensor.as_subclass(torch.Tensor)
            tensor.__class__ = ProvenanceTensor
            tensor._t = plain  # type: ignore[attr-defined]
            self._changed.append(tensor)
        if isinstance(tensor, ProvenanceTensor):
            tensor._provenance = origins
