"""What a prior was when it was learned, so that a change is noticed."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from scipy.stats import ks_2samp

from .draws import prior_draws
from .reader import SiteReader

ROWS = 4  # at which densities are compared, and draws number by number
MANY = 256  # in which implicit priors are compared where the numbers are others
DIFFERENT = 1e-6  # probability, of all numbers, of such samples from the same prior


@dataclass(frozen=True)
class PriorRecord:
    """z: draws (rows, dim) from the prior, unconstrained; seed: of them; densities: {latent site: ln p at the
    first four}, of sites that have a density.

    The other sites, whose prior is a program, have their draws compared: those of the same seed are the same
    numbers, or, where the model draws something else before or from another generator, look alike.
    """

    z: torch.Tensor
    seed: tuple[int, ...]
    densities: Mapping[str, torch.Tensor]

    @classmethod
    def of(cls, reader: SiteReader, seed: tuple[int, ...]) -> "PriorRecord":
        """Of the reader's model as it is now."""
        z = _draws(reader, ROWS, (*seed, 0))
        densities = {
            name: density
            for name, density in reader.prior_log_densities(z).items()
            if bool(torch.isfinite(density).all())
        }
        if len(densities) < len(reader.space.names):
            z = torch.cat([z, _draws(reader, MANY, (*seed, 1))])
        return cls(z, seed, densities)

    def changed(self, reader: SiteReader, rows: int = ROWS) -> str | None:
        """The first latent site whose prior is another in the reader's model; rows: of densities alone."""
        found = reader.prior_log_densities(self.z[:rows])
        for name, density in self.densities.items():
            if name not in found or not _close(density[:rows], found[name]):
                return name
        implicit = [site for site in reader.space.sites if site.name not in self.densities]
        if not implicit or rows < ROWS or len(self.z) < ROWS + MANY:
            return None
        numbers = _draws(reader, ROWS, (*self.seed, 0))
        others = [
            site
            for site in implicit
            if not _close(self.z[:ROWS, site.start : site.stop], numbers[:, site.start : site.stop])
        ]
        if not others:
            return None
        fresh, level = _draws(reader, MANY, (*self.seed, 2)), DIFFERENT / reader.space.dim
        for site in others:
            columns = (values[:, site.start : site.stop].numpy() for values in (self.z[ROWS:], fresh))
            if any(ks_2samp(*pair).pvalue < level for pair in zip(*(c.T for c in columns), strict=True)):
                return site.name
        return None


def _draws(reader: SiteReader, count: int, seed: tuple[int, ...]) -> torch.Tensor:
    values = prior_draws(reader.model, reader.space.names, count, seed, reader.args, reader.kwargs)
    return reader.space.flatten(values)


def _close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-4, atol=1e-4, equal_nan=True)
