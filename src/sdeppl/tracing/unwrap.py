"""What lies inside `to_event`, `mask` and `expand`."""

from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import ExpandedDistribution

_WRAPPERS = (torch.distributions.Independent, dist.MaskedDistribution, ExpandedDistribution)


def unwrap(fn: Any) -> Any:
    """The distribution inside; a transformed one is left whole, since its density is another."""
    while isinstance(fn, _WRAPPERS):
        fn = fn.base_dist
    return fn


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
