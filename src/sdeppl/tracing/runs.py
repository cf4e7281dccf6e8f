"""What runs of a model tell of its sites: what is the same in several, and which depends on which."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch
from pyro.ops.provenance import ProvenanceTensor, detach_provenance, get_provenance
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch.overrides import TorchFunctionMode

from ..distributions.typing import Args, Kwargs, Model, Nodes, Site
from .errors import ModelError, first_line
from .observe import data_tensor
from .randomness import seeded
from .running import traced, unvalidated
from .unwrap import unwrap

MORE = 8
SHOWN = 6
Names = dict[str, set[str]]


def two_runs(model: Model, args: Args, kwargs: Kwargs) -> tuple[dict[str, Site], dict[str, Site]]:
    """The sample sites of runs with two seeds, without the choices of subsamples.

    Raises: ModelError where a site is in one of them alone.
    """
    runs = [drawn(model, args, kwargs, seed) for seed in (0, 1)]
    check_same_sites(*runs)
    return runs[0], runs[1]


def drawn(model: Model, args: Args, kwargs: Kwargs, seed: int) -> dict[str, Site]:
    """The sample sites of a run with a seed. Raises: ModelError, as `traced` does."""
    with seeded(seed), torch.no_grad():
        return sample_sites_of(traced(model, args, kwargs))


def check_random(
    model: Model,
    args: Args,
    kwargs: Kwargs,
    latents: Collection[str],
    *runs: Nodes,
) -> None:
    """Check that the latents have other values in runs with other seeds. Raises: ModelError, naming one that
    has not."""
    one, other = runs
    fixed = [
        name
        for name in latents
        if same_value(one[name], other[name])
        and one[name]["value"].numel()
        and not isinstance(unwrap(one[name]["fn"]), dist.Delta)
    ]
    for seed in range(2, 2 + MORE) if fixed else ():  # of a few values, two are often the same
        more = drawn(model, args, kwargs, seed)
        fixed = [name for name in fixed if name not in more or same_value(one[name], more[name])]
    if fixed:
        raise ModelError(
            f"latent site '{fixed[0]}' has the same value in {2 + MORE} runs with other seeds: a handler "
            "such as poutine.replay or poutine.seed fixes it, or the model draws it with a seed of its own; "
            "give the model without that, or observe the site"
        )


def sample_sites_of(nodes: Nodes) -> dict[str, Site]:
    """The sample sites of a trace, without the choices of subsamples."""
    return {
        name: site for name, site in nodes.items() if site["type"] == "sample" and not site_is_subsample(site)
    }


def check_same_sites(one: Collection[str], other: Collection[str]) -> None:
    """Check that two runs of a model have the same sites. Raises: ModelError, naming one that is not."""
    if set(one) == set(other):
        return
    changing = next(name for name in (*other, *one) if name not in one or name not in other)
    raise ModelError(
        f"site '{changing}' is not in every run of the model: one run samples {_some(one)}, another "
        f"{_some(other)}; sample the same sites in each run and choose between their values by "
        "torch.where, or sum the choice out, as dist.MixtureSameFamily does"
    )


def _some(names: Collection[str]) -> str:
    listed = ", ".join(f"'{name}'" for name in list(names)[:SHOWN])
    return f"{listed} and {len(names) - SHOWN} more sites" if len(names) > SHOWN else listed or "no site"


def same_value(one: Site, other: Site) -> bool:
    """Whether a site has the same value in two traces."""
    first, second = (data_tensor(site["name"], site["value"]) for site in (one, other))
    return first.shape == second.shape and torch.allclose(first, second, rtol=0.0, atol=0.0, equal_nan=True)


def is_computed(*runs: Site) -> bool:
    """Whether a site, in traces of several runs, is a Delta that is observed at its own value in each: how
    `pyro.deterministic` and `poutine.reparam` write down what they compute."""
    if any(site["infer"].get("_deterministic", False) for site in runs):
        return True
    fns = [unwrap(site["fn"]) for site in runs]
    return all(
        site["is_observed"]
        and isinstance(fn, dist.Delta)
        and bool((data_tensor(site["name"], site["value"]) == fn.v).all())
        for site, fn in zip(runs, fns, strict=True)
    )


# ---- Which random sites the sites of a model depend on: their distributions, and what they are observed at


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


def origins_of(model: Model, args: Args, kwargs: Kwargs, sites: Nodes) -> Origins:
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


def _of_distribution(site: Site) -> frozenset[str]:
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
            f"at a value of shape {tuple(site['value'].shape)} ({first_line(error)})"
        ) from error


class _Track(Messenger):
    """Values of a trace, as tensors that remember which sites they come from.

    Torch cannot draw all distributions of tensors that are tracked.
    """

    def __init__(self, sites: Nodes) -> None:
        super().__init__()
        self.sites = sites
        self.of_value: dict[str, frozenset[str]] = {}
        self.data: set[str] = set()

    def _pyro_sample(self, msg: Site) -> None:
        if msg["is_observed"]:
            msg["value"] = data_tensor(msg["name"], msg["value"])
            self.of_value[msg["name"]] = get_provenance(msg["value"])
        elif msg["name"] in self.sites and not isinstance(unwrap(msg["fn"]), dist.Delta):
            msg["value"] = self.sites[msg["name"]]["value"]

    def _pyro_post_sample(self, msg: Site) -> None:
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

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        for tensor in self._changed:
            tensor.__class__ = torch.Tensor

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: Args = (), kwargs: Kwargs | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name == "__setitem__" or (name.endswith("_") and not name.endswith("__")):
            changed = args[0] if args else next(iter((kwargs or {}).values()), None)
            self._remember(changed, get_provenance([args, kwargs or {}]))
        return result

    def _remember(self, tensor: object, origins: frozenset[str]) -> None:
        if not origins:
            return
        if type(tensor) is torch.Tensor:
            plain = tensor.as_subclass(torch.Tensor)
            tensor.__class__ = ProvenanceTensor
            tensor._t = plain  # type: ignore[attr-defined]
            self._changed.append(tensor)
        if isinstance(tensor, ProvenanceTensor):
            tensor._provenance = origins
