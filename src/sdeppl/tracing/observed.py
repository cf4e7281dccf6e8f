"""What an observed site says about the latents; several of one kind as one."""

from abc import ABC
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch

from ..distributions.typing import Bijection, Distribution
from .latents import LatentSpace
from .randomness import batched
from .running import shared, unvalidated
from .supports import log_density
from .unwrap import rebuilt

Function = Callable[[torch.Tensor], Any]


@dataclass(frozen=True)
class ObservedSite(ABC):
    """One observed site, p(y | z), z (dim,) the unconstrained latents; float64 tensors.

    y (n,): its data, NaN where not observed. differentiable: whether p(y | z) has a gradient in z that
    says something; vectorised: whether its functions of z are fit for `torch.func.vmap`.
    """

    name: str
    y: torch.Tensor
    differentiable: bool
    vectorised: bool

    @property
    def seen(self) -> torch.Tensor:
        """Indices of what was observed in y."""
        return torch.nonzero(~torch.isnan(self.y))[:, 0]


@dataclass(frozen=True)
class GaussianSite(ObservedSite):
    """y = A(z) + N(0, R).

    moments: z ↦ A(z) (n,) and R(z), variances (n,) or covariance (n, n). R: the same where it depends
    on no latent, else None. H (n, dim) and offset (n,): A(z) = H z + offset where A is affine, else None.
    """

    moments: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
    R: torch.Tensor | None
    H: torch.Tensor | None
    offset: torch.Tensor | None

    def mean(self, z: torch.Tensor) -> torch.Tensor:
        """A(z), (n,)."""
        return self.moments(z)[0]

    def log_prob(self, z: torch.Tensor) -> torch.Tensor:
        """ln p(y | z), a number."""
        return self.log_density(self.moments(z))

    def log_density(self, moments: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """ln N(y; moments), a number."""
        mean, R = moments
        seen = self.seen
        residual, R = (self.y - mean)[seen], R[seen]
        if R.dim() == 1:
            return torch.distributions.Normal(0.0, R.sqrt(), validate_args=False).log_prob(residual).sum()
        normal = torch.distributions.MultivariateNormal(
            torch.zeros_like(residual), R[:, seen], validate_args=False
        )
        return normal.log_prob(residual)


@dataclass(frozen=True)
class Family:
    """ln p(y_i | η_i) of univariate y_i, called with η (..., n) and y (n,): (..., n).

    pattern: the distribution of the numbers at some latents; values: its parameters, (n,) or (n, K) for
    the components of a mixture; free: the path of the one that η stands for, by its `link` to the
    constraint; steps: what the components' own predictors lie above η, (n, K), or None for no mixture.
    """

    pattern: Distribution
    values: Mapping[str, torch.Tensor]
    free: str
    link: Bijection
    steps: torch.Tensor | None

    def __call__(self, eta: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if self.steps is not None:
            eta = eta.unsqueeze(-1) + self.steps
        values = {**self.values, self.free: self.link(eta)}
        with unvalidated():  # a rebuilt distribution has others inside that check their parameters
            return batched(lambda: log_density(rebuilt(self.pattern, values), y), eta)


@dataclass(frozen=True)
class FamilySite(ObservedSite):
    """Independent y_i ~ p(y_i | η_i), with one predictor η_i(z) for each.

    η_i is the only parameter that depends on the latents, in unconstrained numbers: the logarithm of a
    rate or a scale, a logit, a location as it is. predictor: z ↦ η (n,); log_density: η (..., n) and
    y (n,) ↦ ln p(y_i | η_i) (..., n). H (n, dim) and offset (n,): η(z) = H z + offset where η is
    affine, else None. What was not observed is left out of n.
    """

    predictor: Callable[[torch.Tensor], torch.Tensor]
    log_density: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    H: torch.Tensor | None
    offset: torch.Tensor | None

    def log_prob(self, z: torch.Tensor) -> torch.Tensor:
        """ln p(y | z), a number."""
        return self.log_density(self.predictor(z), self.y).sum()


@dataclass(frozen=True)
class DensitySite(ObservedSite):
    """Any p(y | z) that is known by its density alone; log_prob: z ↦ ln p(y | z), a number.

    space: what z are, for messages.
    """

    log_prob: Callable[[torch.Tensor], torch.Tensor]
    space: LatentSpace | None = None


@dataclass(frozen=True)
class ConstraintSite(ObservedSite):
    """y = H z + offset without noise: a Delta of an affine function. H (n, dim), offset (n,)."""

    H: torch.Tensor
    offset: torch.Tensor


# ---- Several observed sites of one kind as one, so that one run of the model serves all


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
    joint = "' to '" if len(sites) > 2 else "' and '"
    own: dict[str, Any] = {"name": f"{first.name}{joint}{sites[-1].name}"}
    for field in fields(first):
        if field.name not in ("name", "differentiable", "vectorised"):
            parts = tuple(getattr(site, field.name) for site in sites)
            own[field.name] = _JOIN[field.name](parts) if parts[0] is not None else None
    return type(first)(**own, differentiable=first.differentiable, vectorised=first.vectorised)


def _alike(site: ObservedSite) -> tuple[Any, ...]:
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


def _classes(fn: Distribution) -> tuple[type, ...]:
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
