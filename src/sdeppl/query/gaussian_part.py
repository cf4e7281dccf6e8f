"""The prior's mean and covariance in standardised unconstrained coordinates."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch

from ..backend import Backend, place
from ..denoisers import GaussianDenoiser
from ..linalg import (
    Blocks,
    Diagonalisable,
    FieldShape,
    Grid,
    Layout,
    LinearOperator,
    PathShape,
    Spectral,
    Time,
    blocks_in_places,
    operator_to_dict,
    placed,
)
from ..posterior import saved_covariance
from ..sde import IsotropicSDE
from ..tracing import LatentSpace, ModelError
from .autoregression import PathGaussian, estimate_path
from .structure import dense_moments, estimate_field

Moments = tuple[torch.Tensor, torch.Tensor, LinearOperator]  # location, scale, covariance


@dataclass(frozen=True)
class GaussianPart:
    """z = location + scale · x with x standardised; Cov x = covariance.

    location, scale (dim,), float64 tensors; covariance: of x, an operator on such tensors: by eigenvectors
    (`Spectral`) where there is no layout, else by the structure that `words` tell. `draws` is how many prior
    draws the moments were estimated from; paths: of sites along time, from which those of other lengths
    follow.
    """

    location: torch.Tensor
    scale: torch.Tensor
    covariance: LinearOperator
    draws: int
    words: str = ""
    paths: Mapping[str, PathGaussian] = field(default_factory=dict)

    def __repr__(self) -> str:
        how = self.words or f"rank={self.rank}"
        return f"GaussianPart(dim={self.dim}, {how}, from {self.draws} draws)"

    @property
    def by_eigenvectors(self) -> bool:
        """Whether all eigenvectors of the covariance are at hand, and its coordinates are along them."""
        return isinstance(self.covariance, Spectral) and self.covariance.across is None

    @property
    def rank(self) -> int:
        """Of the covariance: the number of directions in which x varies."""
        return sum(
            part.U.shape[1] if isinstance(part, Spectral) and part.across is None else part.shape[0]
            for _, part in self.parts
        )

    @property
    def dim(self) -> int:
        """Numbers in x."""
        return len(self.location)

    @property
    def kinds(self) -> str:
        """`words` without how the structures were found."""
        return "; ".join(one.split(" (")[0].split(", ")[0] for one in self.words.split("; "))

    @property
    def parts(self) -> list[tuple[tuple[slice, ...], LinearOperator]]:
        """Of each part of the covariance that has its own structure the numbers, and that part."""
        if isinstance(self.covariance, Blocks):
            return list(zip(self.covariance.places, self.covariance.parts, strict=True))
        return [((slice(0, self.dim),), self.covariance)]

    def part(self, place: slice) -> LinearOperator:
        """Of these numbers, which have their own. Raises: KeyError where they have not."""
        for places, part in self.parts:
            if places == (place,):
                return part
        raise KeyError(place)

    @property
    def has_density(self) -> bool:
        """Whether x varies in all directions."""
        return self.rank == self.dim

    @property
    def basis(self) -> torch.Tensor:
        """Eigenvectors V (dim, rank). Raises: ValueError where there are too many to be written out."""
        found: Any = self._diagonalisable.basis
        return found

    @property
    def eigenvalues(self) -> torch.Tensor:
        """λ, (rank,)."""
        found: Any = self._diagonalisable.eigenvalues
        return found

    @property
    def _diagonalisable(self) -> Diagonalisable:
        if not isinstance(self.covariance, Diagonalisable):
            raise TypeError(f"{self.covariance!r} is not held by eigenvalues")
        return self.covariance

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
        content |= {"words": self.words, "paths": {}}
        for name, path in self.paths.items():
            own, content["paths"][name] = path.contents(f"path.{name}")
            arrays |= own
        return tensors | arrays, content

    @classmethod
    def of(cls, tensors: Mapping[str, Any], content: Mapping[str, Any]) -> "GaussianPart":
        """What `contents` took apart. Raises: KeyError for what is missing."""
        covariance = saved_covariance(tensors, content)
        known = content.get("paths", {}).items()
        paths = {name: PathGaussian.of(tensors, path, f"path.{name}") for name, path in known}
        words, draws = content.get("words", ""), int(content["draws"])
        return cls(tensors["location"], tensors["scale"], covariance, draws, words, paths)


def gaussian_of_layout(
    space: LatentSpace,
    layout: Mapping[str, Layout],
    batches: Callable[[int], Iterable[torch.Tensor]],
    draws: int,
) -> GaussianPart:
    """The Gaussian part of latents of which some have a layout: each of these by its own structure, the
    others together by all eigenvectors.

    batches: the number of a pass ↦ batches (n, dim) of `draws` unconstrained draws in all, fresh in each.
    Correlations between a site with a layout and any other are left to a network. Raises: ModelError, naming
    the site, for a structure that cannot be made; ValueError where nothing varies.
    """
    plain = [slice(site.start, site.stop) for site in space.sites if site.name not in layout]
    sites = [site for site in space.sites if site.name in layout]
    seen: list[torch.Tensor] = []
    parts: dict[str, Moments] = {}
    words, paths = [], {}

    def columns(own: slice, kept: bool, number: int) -> Iterator[torch.Tensor]:
        for z in batches(number):
            if kept and number == 0 and plain:
                seen.append(torch.cat([z[:, one] for one in plain], dim=-1))
            yield z[:, own]

    for site in sites:
        one = partial(columns, slice(site.start, site.stop), not parts)
        how, shape = layout[site.name], layout[site.name].of(site.shape)
        try:
            if isinstance(how, Time) and isinstance(shape, PathShape):
                path = paths[site.name] = estimate_path(one, shape, how)
                parts[site.name], text = path.moments(shape.length), path.model.words
            else:
                assert isinstance(how, Grid) and isinstance(shape, FieldShape)
                location, scale, covariance, text = estimate_field(one, shape, how, draws)
                parts[site.name] = location, scale, covariance
        except ValueError as error:
            raise ModelError(f"site '{site.name}': {error}") from error
        words.append(f"{site.name} {text}")
    vector = None
    if plain:
        vector = dense_moments(seen)[:3]
    return GaussianPart(*_joined(space, parts, vector), draws, "; ".join(words), paths)


def of_length(
    gaussian: GaussianPart, before: LatentSpace, after: LatentSpace, layout: Collection[str]
) -> GaussianPart:
    """The same for the lengths that paths have in another space of the same sites.

    layout: names of the sites that have one. Raises: ModelError, naming the site, for a length of which
    nothing is known.
    """
    parts: dict[str, Moments] = {}
    for old, new in zip(before.sites, after.sites, strict=True):
        if old.name not in layout:
            continue
        own = slice(old.start, old.stop)
        if old.name in gaussian.paths:
            try:
                parts[old.name] = gaussian.paths[old.name].moments(new.shape[0])
            except ValueError as error:
                raise ModelError(f"site '{old.name}': {error}") from error
        else:
            parts[old.name] = gaussian.location[own], gaussian.scale[own], gaussian.part(own)
    vector = None
    rest = [torch.arange(site.start, site.stop) for site in before.sites if site.name not in layout]
    if rest:
        numbers = torch.cat(rest)
        vector = gaussian.location[numbers], gaussian.scale[numbers], gaussian.parts[-1][1]
    location, scale, covariance = _joined(after, parts, vector)
    return replace(gaussian, location=location, scale=scale, covariance=covariance)


def _joined(space: LatentSpace, parts: Mapping[str, Moments], vector: Moments | None) -> Moments:
    """Location, scale and covariance of all latents, of those of sites and of the others together."""
    location = torch.zeros(space.dim, dtype=torch.float64)
    scale, places = (
        torch.ones_like(location),
        [[slice(s.start, s.stop)] for s in space.sites if s.name in parts],
    )
    operators = [parts[site.name][2] for site in space.sites if site.name in parts]
    for site in space.sites:
        if site.name in parts:
            location[site.start : site.stop], scale[site.start : site.stop] = parts[site.name][:2]
    if vector is not None:
        plain = [slice(site.start, site.stop) for site in space.sites if site.name not in parts]
        numbers = torch.cat([torch.arange(one.start, one.stop) for one in plain])
        location[numbers], scale[numbers] = vector[:2]
        operators.append(vector[2])
        places.append(plain)
    return location, scale, blocks_in_places(operators, places)
