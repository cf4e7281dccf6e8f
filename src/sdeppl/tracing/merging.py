"""Several observed sites of one kind as one, so that one run of the model serves all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch

from .family import Family
from .observed import DensitySite, FamilySite, GaussianSite, ObservedSite
from .reader import shared

Function = Callable[[torch.Tensor], Any]


@dataclass(frozen=True)
class Joined:
    """z ↦ the values (n,) of functions of z, one after the other."""

    functions: tuple[Function, ...]

    def __call__(self, z: torch.Tensor) -> torch.Tensor:
        return torch.cat([value() for value in shared(self.functions, z)])


@dataclass(frozen=True)
class JoinedMoments:
    """z ↦ mean (n,) and variances (n,) or covariance (n, n) of independent Gaussians, one after the other."""

    functions: tuple[Function, ...]

    def __call__(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        means, noise = zip(*(value() for value in shared(self.functions, z)), strict=True)
        return torch.cat(means), _block_diagonal(noise)


@dataclass(frozen=True)
class Total:
    """z ↦ the sum of functions of z."""

    functions: tuple[Function, ...]

    def __call__(self, z: torch.Tensor) -> torch.Tensor:
        return torch.stack([value() for value in shared(self.functions, z)]).sum()


def grouped(sites: Sequence[ObservedSite]) -> list[list[ObservedSite]]:
    """The sites that `merged` takes together, in the order of the first of each group."""
    found: dict[Any, list[ObservedSite]] = {}
    for number, site in enumerate(sites):
        key = (type(site), site.differentiable, site.vectorised, *_alike(site))
        found.setdefault(number if None in key else key, []).append(site)
    return list(found.values())


def merged(sites: Sequence[ObservedSite]) -> ObservedSite:
    """One site for a group of `grouped`: the same ln p(y | z), y one after the other."""
    first = sites[0]
    if len(sites) == 1:
        return first
    own: dict[str, Any] = {"name": f"{first.name}' to '{sites[-1].name}" if len(sites) > 2 else _pair(sites)}
    for field in fields(first):
        if field.name not in ("name", "differentiable", "vectorised"):
            parts = tuple(getattr(site, field.name) for site in sites)
            own[field.name] = _JOIN[field.name](parts) if parts[0] is not None else None
    return type(first)(**own, differentiable=first.differentiable, vectorised=first.vectorised)


def _pair(sites: Sequence[ObservedSite]) -> str:
    return "' and '".join(site.name for site in sites)


def _alike(site: Any) -> tuple[Any, ...]:
    """What sites of one class must share; None in it for a site that is merged with no other."""
    if isinstance(site, GaussianSite):
        return site.R is not None, site.H is not None
    if isinstance(site, FamilySite):
        return *_sort(site), site.H is not None
    return () if isinstance(site, DensitySite) else (None,)  # constraints need no run of the model


def _sort(site: FamilySite) -> tuple[Any, ...]:
    family = site.log_density
    if not isinstance(family, Family) or hasattr(family.pattern, "transforms"):
        return (None,)
    n = len(site.y)
    if any(value.shape[:1] not in ((), (n,)) for value in family.values.values()):
        return (None,)
    shapes = [(name, value.dtype, value.shape[1:]) for name, value in family.values.items()]
    steps = "none" if family.steps is None else family.steps.shape[1:]
    return (_classes(family.pattern), family.free, steps, tuple(shapes), site.y.dtype)


def _classes(fn: Any) -> tuple[type, ...]:
    """The class of a distribution, and of those inside it."""
    inner = [getattr(fn, name, None) for name in ("base_dist", "component_distribution")]
    return (type(fn), *(kind for part in inner if part is not None for kind in _classes(part)))


def _block_diagonal(noise: Sequence[torch.Tensor]) -> torch.Tensor:
    """Variances (n,) where all are, else a covariance (n, n)."""
    if all(R.dim() == 1 for R in noise):
        return torch.cat(tuple(noise))
    return torch.block_diag(*(torch.diag(R) if R.dim() == 1 else R for R in noise))


def _families(families: Sequence[Family]) -> Family:
    first = families[0]
    counts = [_numbers(family) for family in families]
    values = {
        name: torch.cat(
            [
                family.values[name].expand(n) if not family.values[name].dim() else family.values[name]
                for family, n in zip(families, counts, strict=True)
            ]
        )
        for name in first.values
    }
    steps = None if first.steps is None else torch.cat([f.steps for f in families if f.steps is not None])
    return Family(first.pattern, values, first.free, first.link, steps)


def _numbers(family: Family) -> int:
    """How many numbers the family is of; the free parameter is of each."""
    return int(family.values[family.free].shape[0])


_JOIN: dict[str, Callable[[Any], Any]] = {
    "y": torch.cat,
    "H": torch.cat,
    "offset": torch.cat,
    "R": _block_diagonal,
    "moments": JoinedMoments,
    "predictor": Joined,
    "log_density": _families,
    "log_prob": Total,
    "space": lambda spaces: spaces[0],
}
