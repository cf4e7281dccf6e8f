"""A model conditioned on data, for samplers that evaluate its density."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger

from ..backend import host_numbers
from ..distributions import Diffusion
from .errors import ModelError
from .randomness import seeded
from .running import unvalidated
from .unwrap import own_mask, unwrap


class Observe(Messenger):
    """Give the sites in `data` their observed values; leave out what was not observed (NaN).

    Missing entries of independent components are masked; those of a multivariate normal are
    marginalised. Diffusion sites contribute nothing to the density.

    Raises: ModelError, naming the site, for a shape that does not fit, or missing entries of a
    distribution whose components cannot be left out.
    """

    def __init__(self, data: Mapping[str, Any]) -> None:
        super().__init__()
        self.data = {name: data_tensor(name, value) for name, value in data.items()}
        # asked here, not while the model runs, which would end a trace of its operations
        self.complete = {name for name, value in self.data.items() if not bool(torch.isnan(value).any())}

    def _pyro_sample(self, msg: Any) -> None:
        if isinstance(msg["fn"], Diffusion):
            msg["fn"] = msg["fn"].mask(False)
            msg["is_observed"] = True
            msg["value"] = torch.zeros(msg["fn"].shape())
        elif msg["name"] in self.data:
            name, fn = msg["name"], msg["fn"]
            msg["value"] = self.data[name]
            check_shape(name, fn, msg["value"])
            if name not in self.complete:
                msg["fn"], msg["value"] = observed_part(name, fn, msg["value"])
            msg["is_observed"] = True


def data_tensor(name: str, value: Any, dtype: torch.dtype | None = None) -> torch.Tensor:
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


def check_shape(name: str, fn: Any, value: torch.Tensor) -> None:
    """Check that data have the site's shape. Raises: ModelError."""
    if tuple(value.shape) != tuple(fn.shape()):
        raise ModelError(
            f"site '{name}': the data have shape {tuple(value.shape)}, the model {tuple(fn.shape())}; "
            "mark what was not observed with NaN"
        )


def observed_part(name: str, fn: Any, value: torch.Tensor) -> tuple[Any, torch.Tensor]:
    """A distribution and a value of the same density as fn at `value` with NaN entries, of which there
    are some, left out."""
    missing = torch.isnan(value)
    base, mask = unwrap(fn), own_mask(fn)
    if base.event_dim == 0:
        kept = ~missing if mask is None else mask & ~missing
        # any value in the support does: it is masked, but NaN would reach the gradient
        real = base.support is dist.constraints.real
        filler = torch.zeros_like(value) if real else base.sample().to(value).expand(value.shape)
        wide = base if base.batch_shape == value.shape else base.expand(value.shape)
        return wide.mask(kept).to_event(fn.event_dim), torch.where(missing, filler, value)
    gone = missing.reshape(*fn.shape()[: value.dim() - base.event_dim], -1)
    if mask is None and bool((gone.all(dim=-1) | ~gone.any(dim=-1)).all()):  # whole events
        wide = base if base.batch_shape == gone.shape[:-1] else base.expand(gone.shape[:-1])
        filled = torch.where(missing, wide.sample().to(value), value)
        return wide.mask(~gone.any(dim=-1)).to_event(fn.event_dim - base.event_dim), filled
    normals = (torch.distributions.MultivariateNormal, torch.distributions.LowRankMultivariateNormal)
    if isinstance(base, normals) and base.batch_shape == () and mask is None:
        kept = torch.nonzero(~missing)[:, 0]
        covariance = base.covariance_matrix[kept][:, kept]
        return dist.MultivariateNormal(base.loc[kept], covariance), value[kept]
    raise ModelError(
        f"site '{name}' has missing entries, but {type(base).__name__} cannot leave some out; give "
        "complete data, or model its components as independent"
    )


def observed_values(
    model: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], names: Sequence[str]
) -> dict[str, torch.Tensor]:
    """What the model itself observes at the sites `names`, called with these arguments."""
    with seeded(0), torch.no_grad(), unvalidated():
        nodes: Mapping[str, Any] = poutine.trace(model).get_trace(*args, **kwargs).nodes
    return {name: nodes[name]["value"] for name in names if name in nodes and nodes[name]["is_observed"]}
