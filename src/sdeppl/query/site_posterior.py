"""Posterior draws in the sites' own supports, shapes and units."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..backend import Backend, from_torch, place, to_torch
from ..posterior import FitCheck, Posterior, PosteriorBySite, PosteriorRun
from ..tracing import GivenModel, LatentSpace
from .export import save_posterior
from .gaussian_part import GaussianPart
from .site_density import densities_of


@dataclass(frozen=True)
class SitePosterior(PosteriorBySite[PosteriorRun]):
    """p(latent sites given the data), compiled; `sample` solves the guided reverse SDE.

    space: how the latents were flattened; gaussian: how they were standardised; arrays: the
    posterior of the standardised vector; given: the model given the data.
    """

    space: LatentSpace
    gaussian: GaussianPart
    arrays: Posterior
    fit: FitCheck | None = None
    given: GivenModel | None = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        return f"SitePosterior({self.space!r}; {self.arrays.choice}; on {self.backend})"

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"given": self.given if self.given is not None and self.given.sendable else None}

    def _asked(self) -> tuple[int, ...]:
        parts = [part.asked for part in densities_of(self.arrays.observation)]
        return tuple(
            sum(counts) for counts in zip(*((p.rows, p.undefined, p.impossible) for p in parts), strict=True)
        )

    def _noted(self, found: PosteriorRun, before: tuple[int, ...]) -> PosteriorRun:
        counts = [now - then for now, then in zip(self._asked(), before, strict=True)]
        if not any(counts):
            return found
        rows, undefined, impossible = counts
        firsts = (part.asked.first for part in densities_of(self.arrays.observation))
        first = next(filter(None, firsts), "") if undefined else ""
        return found.with_no_density(undefined / rows, impossible / rows, first)

    def save(self, path: str | Path) -> None:
        """Write all that sampling needs to one safetensors file, for `load_posterior`, which needs no torch.

        Raises: FileNotFoundError; TypeError for what only torch can evaluate: an observation that is not
        affine, a support such as the simplex, a network other than ResidualMLP that `export_onnx` cannot
        write.
        """
        save_posterior(self, path)

    def _in_units(self, x: Any) -> dict[str, Any]:
        return site_values(self.space, self.gaussian, self.backend, x)


def site_values(space: LatentSpace, gaussian: GaussianPart, backend: Backend, x: Any) -> dict[str, Any]:
    """Draws (draws, dim) of the standardised vector as {site name: (draws, *shape)}, in the sites' units."""
    xp, values = backend.xp, {}
    z = place(gaussian.location, backend) + place(gaussian.scale, backend) * x
    for site in space.sites:
        flat = z[:, site.start : site.stop]
        if site.is_real:
            value = xp.reshape(flat, (z.shape[0], *site.shape))
        else:
            inner = to_torch(flat).reshape(z.shape[0], *site.unconstrained_shape)
            value = from_torch(site.transform(inner), backend)
        dtype = xp.float32 if site.dtype == torch.float32 else value.dtype
        values[site.name] = xp.astype(value, dtype, copy=False)
    return values
