"""Running a model with its latents put in, and reading its sites' distributions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from pyro import poutine

from ..backend.sending import sent_state
from .latents import LatentSpace
from .randomness import batched, seeded
from .running import traced, unvalidated
from .supports import log_density

Nodes = Mapping[str, Any]


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

    def nodes(self, z: torch.Tensor, seed: int = 0) -> Nodes:
        """The trace at z (dim,); seed: of sites that are neither latent nor data."""
        return self.at(self.space.unflatten(z), seed)

    def at(self, values: Mapping[str, torch.Tensor], seed: int = 0) -> Nodes:
        """The trace at values of the latents, by site."""
        conditioned = poutine.condition(self.model, data={**self.data, **values})
        with unvalidated(), seeded(seed):
            return batched(lambda: traced(conditioned, self.args, self.kwargs), next(iter(values.values())))

    def function(self, read: Callable[[Nodes], Any]) -> "SiteFunction":
        """z ↦ what `read` finds in the trace at z."""
        return SiteFunction(self, (read,))

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


@dataclass(frozen=True)
class SiteFunction:
    """A function of the latents z (dim,) that is read off the trace of a run of the model at z.

    reads: the functions that make it of the trace, one after the other.
    """

    reader: SiteReader
    reads: tuple[Callable[[Any], Any], ...]

    def __call__(self, z: torch.Tensor) -> Any:
        return self.read(self.reader.nodes(z))

    def read(self, nodes: Nodes) -> Any:
        """Its value, of the trace."""
        value: Any = nodes
        for part in self.reads:
            value = part(value)
        return value

    def then(self, function: Callable[[Any], Any]) -> "SiteFunction":
        """z ↦ function(this(z))."""
        return SiteFunction(self.reader, (*self.reads, function))


def shared(functions: Sequence[Callable[[torch.Tensor], Any]], z: torch.Tensor) -> list[Callable[[], Any]]:
    """The functions at z, each as a call; those that are read off one model's trace share one run of it."""
    runs: dict[int, Nodes | Exception] = {}

    def at(function: Any) -> Any:
        if not isinstance(function, SiteFunction):
            return function(z)
        key = id(function.reader)
        if key not in runs:
            try:
                runs[key] = function.reader.nodes(z)
            except Exception as error:  # which each of them meets
                runs[key] = error
        found = runs[key]
        if isinstance(found, Exception):
            raise found
        return function.read(found)

    return [partial(at, function) for function in functions]


@dataclass(frozen=True)
class Runs:
    """The model's traces at given latents (rows, dim), one by one, each run once."""

    reader: SiteReader
    latents: torch.Tensor
    kept: dict[tuple[int, int], Nodes] = field(default_factory=dict)

    def at(self, row: int = 0, seed: int = 0) -> Nodes:
        """The trace at a row; seed: as of `SiteReader.nodes`."""
        if (row, seed) not in self.kept:
            self.kept[row, seed] = self.reader.nodes(self.latents[row], seed)
        return self.kept[row, seed]
