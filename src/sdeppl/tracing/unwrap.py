"""Distributions taken apart: what lies inside `to_event`, `mask` and `expand`, and parameters."""

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import ExpandedDistribution
from pyro.poutine.messenger import Messenger
from torch.distributions import MixtureSameFamily, TransformedDistribution

from ..distributions import Censored, Interval
from ..distributions.typing import Distribution, Site, Support

_WRAPPERS = (torch.distributions.Independent, dist.MaskedDistribution, ExpandedDistribution)

_PLAIN: dict[type, type] = {
    dist.NanMaskedNormal: dist.Normal,
    dist.NanMaskedMultivariateNormal: dist.MultivariateNormal,
}


def unwrap(fn: Distribution) -> Distribution:
    """The distribution inside; a transformed one is left whole, since its density is another."""
    while isinstance(fn, _WRAPPERS):
        fn = fn.base_dist
    return fn


def is_data_set(fn: Distribution) -> bool:
    """Whether it draws rows of a data set: its log_prob is then of a mass, which is no density, and compares
    each row with every sample."""
    return isinstance(unwrap(fn), dist.Empirical)


class PlainNormals(Messenger):
    """Pyro's normals that leave out NaN by themselves, made normals; `Observe` leaves it out, as everywhere.

    Theirs look at the data to do so, which neither vmap nor a trace of operations can.
    """

    def _pyro_sample(self, msg: Site) -> None:
        msg["fn"] = plain_normals(msg["fn"])


def plain_normals(fn: Distribution) -> Distribution:
    """The distribution with `NanMaskedNormal`s inside made `Normal`s, multivariate ones too."""
    return replaced(fn, _plain)


def _plain(fn: Distribution) -> Distribution:
    kind = _PLAIN.get(type(fn))
    if kind is None:
        return fn
    found = copy.copy(fn)
    found.__class__ = kind
    return found


def replaced(fn: Distribution, change: Callable[[Distribution], Distribution]) -> Distribution:
    """The distribution with what is inside its wrappers changed."""
    if not isinstance(fn, _WRAPPERS):
        return change(fn)
    inner = replaced(fn.base_dist, change)
    if inner is fn.base_dist:
        return fn
    found = copy.copy(fn)
    found.base_dist = inner
    return found


def own_mask(fn: Distribution, outer: Any = None) -> torch.Tensor | None:
    """Where `fn.mask` and a handler's mask (`outer`) keep the site, in its shape; None for no mask."""
    shape, batch, masks = fn.shape(), fn.batch_shape, [outer]
    while isinstance(fn, _WRAPPERS):
        masks.append(getattr(fn, "_mask", None))
        fn = fn.base_dist
    masks = [torch.as_tensor(mask, dtype=torch.bool) for mask in masks if mask is not None]
    if not masks:
        return None
    full = torch.ones(shape, dtype=torch.bool)
    for mask in masks:
        missing_dims = len(shape) - max(mask.dim(), len(batch))
        full = full & mask.reshape(mask.shape + (1,) * missing_dims).expand(shape)
    return full


# ---- A univariate distribution taken apart into its parameters, and built again from others


@dataclass(frozen=True)
class Parameter:
    """A tensor of a distribution, and the constraint it obeys."""

    value: torch.Tensor
    constraint: Support


def parameters(fn: Distribution, prefix: str = "") -> dict[str, Parameter]:
    """The parameters of a distribution by path, those of the distributions inside it among them.

    Of two ways to give one parameter, logits. Raises: TypeError for what is not built of parameters.
    """
    own = {
        prefix + name: Parameter(torch.as_tensor(getattr(fn, name)), fn.arg_constraints[name])
        for name in _own(fn)
    }
    for name, inner in _inner(fn).items():
        own |= parameters(inner, f"{prefix}{name}.")
    if not own:
        raise TypeError(f"{type(fn).__name__} has no parameters that are known")
    return own


def rebuilt(fn: Distribution, values: Mapping[str, torch.Tensor], prefix: str = "") -> Distribution:
    """A distribution of the same kind with parameters `values`, by the paths of `parameters`."""
    given: dict[str, Any] = {name: values[prefix + name] for name in _own(fn)}
    inner = {name: rebuilt(part, values, f"{prefix}{name}.") for name, part in _inner(fn).items()}
    if isinstance(fn, MixtureSameFamily):
        return type(fn)(inner["mixture_distribution"], inner["component_distribution"], validate_args=False)
    if inner:
        rest = {"transforms": fn.transforms} if type(fn).__name__ == "TransformedDistribution" else given
        return type(fn)(inner["base_dist"], **rest, validate_args=False)
    return type(fn)(**given, validate_args=False)


def _inner(fn: Distribution) -> dict[str, Distribution]:
    """The distributions that a distribution is made of, by the names of its attributes."""
    names: tuple[str, ...] = ()
    if isinstance(fn, MixtureSameFamily):
        names = ("mixture_distribution", "component_distribution")
    elif isinstance(fn, (Censored, Interval)) or type(fn).__name__ == TransformedDistribution.__name__:
        names = ("base_dist",)
    parts = {name: getattr(fn, name) for name in names}
    # what is expanded only has the batch shape of the wrapper
    return {name: unwrap(part).expand(part.batch_shape) for name, part in parts.items()}


def _own(fn: Distribution) -> list[str]:
    """Names of the parameters that its constructor takes and that it was given."""
    taken = [name for name in inspect.signature(type(fn).__init__).parameters if name in fn.arg_constraints]
    for given, wanted in (("probs", "logits"), ("gate", "gate_logits")):
        if given in taken and wanted in taken:
            taken.remove(given)
    return taken


# ---- A location family moved by what it is observed at: y - v of y ~ p(y; loc) is p(y; loc - v) at zero


def shifted(base: Distribution, value: torch.Tensor) -> Distribution:
    """The distribution of y - value, y from `base`, whose location is its parameter `loc` (of a Delta, `v`).

    Whether its density is that of `base` moved has to be seen by evaluating both: a lognormal's `loc` is no
    location. Raises: TypeError for a distribution without such a parameter.
    """
    if isinstance(base, dist.Delta):
        return dist.Delta(base.v - value, base.log_density, base.event_dim)
    if isinstance(base, torch.distributions.LowRankMultivariateNormal):
        loc, factor, diagonal = base.loc - value, base.cov_factor, base.cov_diag
        return dist.LowRankMultivariateNormal(loc, factor, diagonal, validate_args=False)
    if isinstance(base, torch.distributions.MultivariateNormal):
        return type(base)(base.loc - value, scale_tril=base.scale_tril, validate_args=False)
    own = {name: parameter.value for name, parameter in parameters(base).items()}
    if "loc" not in own:
        raise TypeError(f"{type(base).__name__} has no location")
    return rebuilt(base, {**own, "loc": own["loc"] - value})
