"""Running a model with its latents put in, and reading its sites' distributions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from pyro import poutine

from ..backend.sending import sent_state
from .latents import LatentSpace
from .randomness import BatchedRandomness, seeded
from .running import traced, unvalidated
from .supports import log_density
from .unwrap import own_mask


@dataclass(frozen=True)
class SiteReader:
    """Runs the model with its latents and data put in, and reads its sites' distributions."""

    model: Callable[..., Any]
    space: LatentSpace
    args: Sequence[Any]
    kwargs: dict[str, Any]
    data: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        return sent_state(self, model="model")

    def nodes(self, z: torch.Tensor, seed: int = 0) -> Mapping[str, Any]:
        """The trace at z (dim,); seed: of sites that are neither latent nor data."""
        conditioned = poutine.condition(self.model, data={**self.data, **self.space.unflatten(z)})
        with unvalidated(), seeded(seed), BatchedRandomness():
            return traced(conditioned, self.args, self.kwargs)

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
                densities = [log_density(nodes[name]["fn"], nodes[name]["value"]).sum() for nodes in rows]
            except NotImplementedError:
                continue
            found[name] = torch.stack(densities).to(torch.float64)
        return found
