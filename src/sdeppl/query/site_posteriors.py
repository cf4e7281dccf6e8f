"""Posterior draws of many data sets in the sites' own supports, shapes and units."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..backend import place, to_torch
from ..posterior import FitCheck, PosteriorBySite, PosteriorRuns, Posteriors
from ..tracing import LatentSpace, ModelError
from .gaussian_part import GaussianPart
from .site_posterior import site_values


@dataclass(frozen=True)
class SitePosteriors(PosteriorBySite[PosteriorRuns]):
    """p(latent sites given the data) for many data sets; `sample` solves them together.

    space, gaussian: as of `SitePosterior`; arrays: the posteriors of the standardised vector.
    """

    space: LatentSpace
    gaussian: GaussianPart
    arrays: Posteriors
    fit: FitCheck | None = None

    def __repr__(self) -> str:
        return f"SitePosteriors({self.space!r}; {self.sets} data sets; on {self.backend})"

    @property
    def sets(self) -> int:
        """Number of data sets."""
        return self.arrays.sets

    def log_likelihood(self, values: Mapping[str, Any]) -> Any:
        """ln p(y given the latents), (data sets, draws), each data set's own y at {site: (data sets, draws,
        *shape)}; None under a hard constraint, which has no density. But for what no latent changes.

        Raises: ModelError for values outside the support, and for a site without values.
        """
        missing = [name for name in self.space.names if name not in values]
        if missing:
            raise ModelError(
                f"there are no values of latent site '{missing[0]}'; give those of {self.space.names}"
            )
        tensors = {name: to_torch(place(value, self.backend)) for name, value in values.items()}
        shape = next(iter(tensors.values())).shape[:2]
        flat = {name: value.reshape(-1, *value.shape[2:]) for name, value in tensors.items()}
        x = place(self.gaussian.standardise(self.space.flatten(flat)), self.backend)
        xp, observation = self.backend.xp, self.arrays.observation
        if observation is not None:
            return None if observation.hard else xp.reshape(observation.log_prob(x), tuple(shape))
        rows = xp.reshape(x, (*shape, x.shape[-1]))
        parts = [self.arrays.one(number).observation for number in range(self.sets)]
        if any(part is None or part.hard for part in parts):
            return None
        return xp.stack([part.log_prob(rows[n, ...]) for n, part in enumerate(parts) if part is not None])

    def _in_units(self, x: Any) -> dict[str, Any]:
        xp = self.backend.xp
        flat = site_values(self.space, self.gaussian, self.backend, xp.reshape(x, (-1, x.shape[-1])))
        return {name: xp.reshape(v, (*x.shape[:2], *v.shape[1:])) for name, v in flat.items()}
