"""Running a model with its latents put in, and reading its sites' distributions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro import poutine

from .errors import ModelError
from .latents import LatentSpace
from .randomness import BatchedRandomness, derive_seed


@dataclass(frozen=True)
class SiteReader:
    """Runs the model with its latents put in, and reads the observed sites' distributions."""

    model: Callable[..., Any]
    space: LatentSpace
    args: Sequence[Any]
    kwargs: dict[str, Any]

    def nodes(self, z: torch.Tensor) -> Mapping[str, Any]:
        conditioned = poutine.condition(self.model, data=self.space.unflatten(z))
        with pyro.validation_enabled(False), torch.random.fork_rng():
            torch.manual_seed(derive_seed(0))
            with BatchedRandomness():
                nodes: Mapping[str, Any] = (
                    poutine.trace(conditioned).get_trace(*self.args, **self.kwargs).nodes
                )
        return nodes

    def moments(self, name: str, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean (n,) and variances (n,) or covariance (n, n) of the site at z (dim,)."""
        return normal_moments(name, self.nodes(z)[name]["fn"])

    def mask(self, name: str, z: torch.Tensor) -> torch.Tensor | None:
        """Where the model itself masks the site, broadcast to its shape."""
        site = self.nodes(z)[name]
        fn, masks = site["fn"], [site["mask"]]
        shape, batch = fn.shape(), fn.batch_shape
        while hasattr(fn, "base_dist"):
            masks.append(getattr(fn, "_mask", None))
            fn = fn.base_dist
        masks = [torch.as_tensor(m) for m in masks if m is not None]
        if not masks:
            return None
        full = torch.ones(shape, dtype=torch.bool)
        for mask in masks:
            missing_dims = len(shape) - max(mask.dim(), len(batch))
            full = full & mask.reshape(mask.shape + (1,) * missing_dims).expand(shape)
        return full


def normal_moments(name: str, fn: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Flat mean and noise of a (multivariate) normal. Raises: ModelError for any other, naming it."""
    kind, shape = type(fn).__name__, fn.shape()
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    if isinstance(fn, torch.distributions.Normal):
        mean, variance = torch.broadcast_tensors(fn.loc, fn.scale**2)
        return (
            mean.expand(shape).reshape(-1).to(torch.float64),
            variance.expand(shape).reshape(-1).to(torch.float64),
        )
    if hasattr(fn, "covariance_matrix"):
        size = fn.event_shape[0]
        blocks = fn.covariance_matrix.expand((*shape, size)).reshape(-1, size, size)
        mean = fn.loc.expand(shape).reshape(-1)
        return mean.to(torch.float64), torch.block_diag(*blocks).to(torch.float64)
    raise ModelError(
        f"site '{name}' is {kind} over {type(fn).__name__}; the mean likelihood needs a Normal or a "
        "MultivariateNormal observation"
    )
