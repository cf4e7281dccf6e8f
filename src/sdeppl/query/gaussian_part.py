"""The prior's mean and covariance in standardised unconstrained coordinates."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from ..backend import Backend, place
from ..denoisers import GaussianDenoiser
from ..linalg import (
    Diagonalisable,
    DiagonalisableBlocks,
    Grid,
    Spectral,
    operator_from_dict,
    operator_to_dict,
    placed,
)
from ..sde import IsotropicSDE
from ..tracing import LatentSpace, ModelError
from .structure import dense_moments, estimate_field


@dataclass(frozen=True)
class GaussianPart:
    """z = location + scale · x with x standardised; Cov x = covariance.

    location, scale (dim,), float64 tensors; covariance: of x, an operator on such tensors: by eigenvectors
    (`Spectral`) where there is no layout, else by the structure that `words` tell. `draws` is how many prior
    draws the moments were estimated from.
    """

    location: torch.Tensor
    scale: torch.Tensor
    covariance: Diagonalisable
    draws: int
    words: str = ""

    def __repr__(self) -> str:
        how = self.words or f"rank={self.rank}"
        return f"GaussianPart(dim={len(self.location)}, {how}, from {self.draws} draws)"

    @property
    def by_eigenvectors(self) -> bool:
        """Whether all eigenvectors of the covariance are at hand, and its coordinates are along them."""
        return isinstance(self.covariance, Spectral) and self.covariance.across is None

    @property
    def rank(self) -> int:
        """Of the covariance: the number of directions in which x varies."""
        return self.covariance.eigenvalues.shape[-1] if self.by_eigenvectors else len(self.location)

    @property
    def kinds(self) -> str:
        """`words` without how the structures were found."""
        return "; ".join(one.split(" (")[0].split(", ")[0] for one in self.words.split("; "))

    @property
    def parts(self) -> list[tuple[tuple[slice, ...], Diagonalisable]]:
        """Of each part of the covariance that has its own structure the numbers, and that part."""
        if isinstance(self.covariance, DiagonalisableBlocks):
            return list(zip(self.covariance.places, self.covariance.parts, strict=True))
        return [((slice(0, len(self.location)),), self.covariance)]

    def part(self, place: slice) -> Diagonalisable:
        """Of these numbers, which have their own. Raises: KeyError where they have not."""
        for places, part in self.parts:
            if places == (place,):
                return part
        raise KeyError(place)

    @property
    def has_density(self) -> bool:
        """Whether x varies in all directions."""
        return all(
            not isinstance(part, Spectral) or part.across is not None or part.U.shape[0] == part.U.shape[1]
            for _, part in self.parts
        )

    @property
    def basis(self) -> torch.Tensor:
        """Eigenvectors V (dim, rank). Raises: ValueError where there are too many to be written out."""
        found: Any = self.covariance.basis
        return found

    @property
    def eigenvalues(self) -> torch.Tensor:
        """λ, (rank,)."""
        found: Any = self.covariance.eigenvalues
        return found

    @classmethod
    def estimate(cls, batches: Iterable[torch.Tensor]) -> "GaussianPart":
        """From batches (n, dim) of unconstrained draws, by all eigenvectors of their covariance.

        Raises: ValueError for fewer than 2, or where nothing varies. Warns: RankWarning.
        """
        location, scale, covariance, count = dense_moments(batches)
        return cls(location, scale, covariance, count)

    def standardise(self, z: torch.Tensor) -> torch.Tensor:
        """(batch, dim) unconstrained to standardised."""
        return (z - self.location) / self.scale

    def denoiser(self, sde: IsotropicSDE, backend: Backend) -> GaussianDenoiser:
        """The best linear denoiser, in standardised coordinates, on a backend."""
        covariance: Any = placed(self.covariance, backend)
        return GaussianDenoiser(sde, place(torch.zeros_like(self.location), backend), covariance)

    def contents(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Tensors by name and JSON, from which `of` makes it again."""
        tensors: dict[str, Any] = {"location": self.location, "scale": self.scale}
        content: dict[str, Any] = {"draws": self.draws}
        if self.by_eigenvectors:
            return tensors | {"basis": self.basis, "eigenvalues": self.eigenvalues}, content
        arrays, content["covariance"] = operator_to_dict(self.covariance, "covariance")
        return tensors | arrays, content | {"words": self.words}

    @classmethod
    def of(cls, tensors: Mapping[str, Any], content: Mapping[str, Any]) -> "GaussianPart":
        """What `contents` took apart. Raises: KeyError for what is missing."""
        covariance: Any
        if "covariance" in content:
            covariance = operator_from_dict(tensors, content["covariance"], "covariance")
        else:
            covariance = Spectral(tensors["basis"], tensors["eigenvalues"])
        words = content.get("words", "")
        return cls(tensors["location"], tensors["scale"], covariance, int(content["draws"]), words)


def gaussian_of_layout(
    space: LatentSpace,
    layout: Mapping[str, Grid],
    batches: Callable[[int], Iterable[torch.Tensor]],
    draws: int,
) -> GaussianPart:
    """The Gaussian part of latents of which some have a layout: each of these by its own structure, the
    others together by all eigenvectors.

    batches: the number of a pass ↦ batches (n, dim) of `draws` unconstrained draws in all, fresh in each.
    Correlations between a site with a layout and any other are left to a network. Raises: ModelError, naming
    the site, for a structure that cannot be made; ValueError where nothing varies.
    """
    location = torch.zeros(space.dim, dtype=torch.float64)
    scale, seen, places, words = torch.ones_like(location), [], [], []
    parts: list[Diagonalisable] = []
    plain = [slice(site.start, site.stop) for site in space.sites if site.name not in layout]

    def columns(own: slice, kept: bool, number: int) -> Iterator[torch.Tensor]:
        for z in batches(number):
            if kept and number == 0 and plain:
                seen.append(torch.cat([z[:, one] for one in plain], dim=-1))
            yield z[:, own]

    for site in space.sites:
        if site.name in layout:
            own, grid = slice(site.start, site.stop), layout[site.name]
            one = partial(columns, own, not parts)
            try:
                location[own], scale[own], covariance, text = estimate_field(
                    one, grid.of(site.shape), grid, draws
                )
            except ValueError as error:
                raise ModelError(f"site '{site.name}': {error}") from error
            parts.append(covariance)
            places.append([own])
            words.append(f"{site.name} {text}")
    if plain:
        vector = GaussianPart.estimate(seen)
        numbers = torch.cat([torch.arange(one.start, one.stop) for one in plain])
        location[numbers], scale[numbers] = vector.location, vector.scale
        parts.append(vector.covariance)
        places.append(plain)
    whole = parts[0] if len(parts) == 1 else DiagonalisableBlocks(parts, places)
    return GaussianPart(location, scale, whole, draws, "; ".join(words))
