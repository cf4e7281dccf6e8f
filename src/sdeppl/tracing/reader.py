"""Running a model with its latents put in, and reading its sites' distributions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyro
import torch
from pyro import poutine

from .errors import ModelError
from .latents import LatentSpace
from .randomness import BatchedRandomness, seeded
from .unwrap import own_mask, unwrap


@dataclass(frozen=True)
class SiteReader:
    """Runs the model with its latents and data put in, and reads its sites' distributions."""

    model: Callable[..., Any]
    space: LatentSpace
    args: Sequence[Any]
    kwargs: dict[str, Any]
    data: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def nodes(self, z: torch.Tensor, seed: int = 0) -> Mapping[str, Any]:
        """The trace at z (dim,); seed: of sites that are neither latent nor data."""
        conditioned = poutine.condition(self.model, data={**self.data, **self.space.unflatten(z)})
        with pyro.validation_enabled(False), seeded(seed), BatchedRandomness():
            trace = poutine.trace(conditioned).get_trace(*self.args, **self.kwargs)
        nodes: Mapping[str, Any] = trace.nodes
        return nodes

    def moments(self, name: str, z: torch.Tensor, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean (n,) and variances (n,) or covariance (n, n) of the site at z (dim,)."""
        return normal_moments(name, self.nodes(z, seed)[name]["fn"])

    def mask(self, name: str, z: torch.Tensor) -> torch.Tensor | None:
        """Where the model itself masks the site, broadcast to its shape."""
        site = self.nodes(z)[name]
        return own_mask(site["fn"], site["mask"])

    def prior_log_densities(self, z: torch.Tensor) -> dict[str, torch.Tensor]:
        """{latent site: ln p at each row of z (batch, dim)}, without sites that know no density."""
        rows = [self.nodes(row) for row in z]
        found = {}
        for name in self.space.names:
            try:
                densities = [nodes[name]["fn"].log_prob(nodes[name]["value"]).sum() for nodes in rows]
            except NotImplementedError:
                continue
            found[name] = torch.stack(densities).to(torch.float64)
        return found


def normal_moments(name: str, fn: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Flat mean and noise of a (multivariate) normal. Raises: ModelError for any other, naming it."""
    base, shape = unwrap(fn), fn.shape()
    if isinstance(base, torch.distributions.Normal):
        mean, variance = torch.broadcast_tensors(base.loc, base.scale**2)
        return (
            mean.expand(shape).reshape(-1).to(torch.float64),
            variance.expand(shape).reshape(-1).to(torch.float64),
        )
    normals = (torch.distributions.MultivariateNormal, torch.distributions.LowRankMultivariateNormal)
    if isinstance(base, normals):
        size = base.event_shape[0]
        blocks = base.covariance_matrix.expand((*shape, size)).reshape(-1, size, size)
        mean = base.loc.expand(shape).reshape(-1)
        return mean.to(torch.float64), torch.block_diag(*blocks).to(torch.float64)
    raise ModelError(
        f"site '{name}' is a {type(base).__name__}; the mean likelihood needs a Normal or a "
        "MultivariateNormal observation"
    )


def changed_prior(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> str | None:
    """The first name in both whose log densities differ, as another support or parameter makes them."""
    for name in one.keys() & other.keys():
        if not torch.allclose(one[name], other[name], rtol=1e-4, atol=1e-4, equal_nan=True):
            return name
    return None
