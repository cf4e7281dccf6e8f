"""The density of one site, with an eye on where it is no number."""

from dataclasses import dataclass, field
from typing import Any

import torch

from ..likelihood import DensityObservation, JointObservation, Observation
from ..tracing import DensitySite, over_rows
from ..tracing.errors import infinite_density
from .bridge import Bridge


@dataclass
class Asked:
    """How often a density was asked, and how often it was NaN and -infinity; the latents of the first NaN, in
    words."""

    rows: int = 0
    undefined: int = 0
    impossible: int = 0
    first: str = ""


@dataclass(frozen=True)
class SiteDensity:
    """x ↦ ln p(y given x), (batch,), NaN where the model gives none; what was `asked` is counted.

    Raises: ModelError, naming site and latents, where it is +infinity.
    """

    bridge: Bridge
    site: DensitySite
    asked: Asked = field(default_factory=Asked, compare=False)

    def __call__(self, x: Any) -> Any:
        z = self.bridge.latents(x)
        values = over_rows(self.site.log_prob, z, self.bridge.vectorised)
        infinite, undefined = values == torch.inf, torch.isnan(values)
        if bool(infinite.any()):
            raise infinite_density(self.site.name, self._words(z[infinite][0]))
        self.asked.rows += len(values)
        self.asked.impossible += int((values == -torch.inf).sum())
        if bool(undefined.any()):
            self.asked.undefined += int(undefined.sum())
            self.asked.first = self.asked.first or self._words(z[undefined][0])
        return self.bridge.arrive(values)

    def _words(self, z: torch.Tensor) -> str:
        return f"z = {z.tolist()}" if self.site.space is None else self.site.space.words(z)


def densities_of(observation: Observation | None) -> list[SiteDensity]:
    """Of the sites that an observation knows by their densities alone."""
    parts = observation.parts if isinstance(observation, JointObservation) else (observation,)
    functions = [part.function for part in parts if isinstance(part, DensityObservation)]
    return [function for function in functions if isinstance(function, SiteDensity)]
