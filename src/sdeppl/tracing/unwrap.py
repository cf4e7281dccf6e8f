"""What lies inside `to_event`, `mask` and `expand`."""

import copy
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import ExpandedDistribution
from pyro.poutine.messenger import Messenger

_WRAPPERS = (torch.distributions.Independent, dist.MaskedDistribution, ExpandedDistribution)

_PLAIN: dict[type, type] = {
    dist.NanMaskedNormal: dist.Normal,
    dist.NanMaskedMultivariateNormal: dist.MultivariateNormal,
}


def unwrap(fn: Any) -> Any:
    """The distribution inside; a transformed one is left whole, since its density is another."""
    while isinstance(fn, _WRAPPERS):
        fn = fn.base_dist
    return fn


def is_data_set(fn: Any) -> bool:
    """Whether it draws rows of a data set: its log_prob is then of a mass, which is no density, and compares
    each row with every sample."""
    return isinstance(unwrap(fn), dist.Empirical)


class PlainNormals(Messenger):
    """Pyro's normals that leave out NaN by themselves, made normals; `Observe` leaves it out, as everywhere.

    Theirs look at the data to do so, which neither vmap nor a trace of operations can.
    """

    def _pyro_sample(self, msg: Any) -> None:
        msg["fn"] = plain_normals(msg["fn"])


def plain_normals(fn: Any) -> Any:
    """The distribution with `NanMaskedNormal`s inside made `Normal`s, multivariate ones too."""
    kind = _PLAIN.get(type(fn))
    inner = plain_normals(fn.base_dist) if isinstance(fn, _WRAPPERS) else None
    if kind is None and (inner is None or inner is fn.base_dist):
        return fn
    found = copy.copy(fn)
    if kind is None:
        found.base_dist = inner
    else:
        found.__class__ = kind
    return found


def own_mask(fn: Any, outer: Any = None) -> torch.Tensor | None:
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
