"""An observed site with its data, while it is read."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from .errors import ModelError, random_parent
from .probing import SLOW_PROBES, Probes
from .randomness import seeded
from .reader import SiteReader
from .running import unvalidated
from .supports import log_density
from .unwrap import unwrap

SEEDS = range(1, 8)


@dataclass(frozen=True)
class Target:
    """Site `name` with its data, put into the reader's model.

    y: the data in the site's shape and float64, NaN where not observed or masked; value: the same in
    the model's dtype, with numbers of the support where y is NaN; kept: which of its events were
    observed, in the site's batch shape.
    """

    reader: SiteReader
    name: str
    y: torch.Tensor
    value: torch.Tensor
    kept: torch.Tensor
    probes: Probes

    @classmethod
    def of(cls, reader: SiteReader, name: str, y: torch.Tensor, probes: Probes) -> "Target":
        """From the data y. Raises: ModelError for a mask that depends on the latents."""
        node = reader.nodes(probes.draws[0])[name]
        mask = reader.mask(name, probes.draws[0])
        if mask is not None:
            if any(not torch.equal(mask, _mask(reader, name, z)) for z in probes.draws[1:SLOW_PROBES]):
                raise ModelError(
                    f"site '{name}': its mask depends on the latents; write what it means into the "
                    "site's distribution"
                )
            y = torch.where(mask, y, torch.nan)
        base = unwrap(node["fn"])
        events = torch.isnan(y).reshape(*y.shape[: y.dim() - base.event_dim], -1)
        kept = ~events.any(dim=-1)
        value = reader.data[name]
        if bool(torch.isnan(y).any()):
            value = torch.where(torch.isnan(y), _filler(base, y, kept).to(value.dtype), value)
        return cls(reader, name, y, value, kept, probes)

    @property
    def partly(self) -> bool:
        """Whether some event was observed in part."""
        whole = self.kept.reshape(self.kept.shape + (1,) * (self.y.dim() - self.kept.dim()))
        return bool((~torch.isnan(self.y) & ~whole).any())

    def base(self, z: torch.Tensor, seed: int = 0) -> Any:
        """The site's distribution at z without to_event and mask, over the site's whole batch shape."""
        fn = self.reader.nodes(z, seed)[self.name]["fn"]
        inner, shape = unwrap(fn), fn.shape()
        batch = shape[: len(shape) - inner.event_dim]
        return inner if inner.batch_shape == batch else inner.expand(batch)

    def log_prob(self, z: torch.Tensor, seed: int = 0) -> torch.Tensor:
        """ln p(y | z) of the observed events, a number in float64. Raises: ModelError for no log_prob."""
        fn = self.base(z, seed)
        try:
            with unvalidated():  # a support may move with the latents
                terms = log_density(fn, self.value)
        except NotImplementedError as error:
            raise ModelError(
                f"site '{self.name}': {type(fn).__name__} has no log_prob, which conditioning on it needs"
            ) from error
        return torch.where(self.kept, terms, 0.0).sum().to(torch.float64)

    def require_fixed(self, function: Callable[[torch.Tensor, int], Any]) -> None:
        """Check that nothing random is left in the site, given latents and data; z, seed ↦ numbers."""
        first = function(self.probes.draws[0], 0)
        for seed in SEEDS:
            again = function(self.probes.draws[0], seed)
            pairs = zip(first, again, strict=True)
            if not all(torch.allclose(*pair, rtol=0.0, atol=0.0, equal_nan=True) for pair in pairs):
                raise random_parent(self.name, self.reader.space.names)

    def require_density(self, values: torch.Tensor) -> None:
        """Check ln p(y | z) at draws from the prior. Raises: ModelError for NaN, or where none is finite."""
        if bool(torch.isnan(values).any()):
            raise ModelError(
                f"site '{self.name}': its log_prob is NaN at a draw from the prior; check its "
                "parameters there, and that every observed site it depends on was observed completely"
            )
        if bool(torch.isinf(values).all()):
            raise ModelError(
                f"site '{self.name}': the density of the data is zero, or infinite, at all of {len(values)} "
                "draws from the prior; check the data, or widen the prior"
            )


def _mask(reader: SiteReader, name: str, z: torch.Tensor) -> torch.Tensor:
    mask = reader.mask(name, z)
    return torch.tensor(True) if mask is None else mask


def _filler(base: Any, y: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """Numbers in the support for what was not observed; they enter no density, but gradients."""
    try:
        with seeded(0), torch.no_grad():
            return base.expand(kept.shape).sample()
    except NotImplementedError:
        return y[kept][0] if bool(kept.any()) else torch.zeros_like(y)
