"""An observed site: with its data while it is read, and what it says about the latents; several as one."""

from abc import ABC
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch

from ..distributions.typing import Bijection, Distribution, Nodes, Site
from ..linalg import LinearOperator, Stack, as_operator
from .errors import ModelError, infinite_density, random_parent
from .latents import LatentSpace
from .observe import data_tensor
from .probing import FAILURES, SLOW_PROBES, Probes, Reading, Slope, Values
from .randomness import batched, seeded
from .running import Runs, SiteFunction, shared, unvalidated
from .supports import log_density
from .unwrap import own_mask, rebuilt, shifted, unwrap

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
    on no latent, else None; of many correlated numbers an operator, and moments then give variances. H
    (n, dim) and offset (n,): A(z) = H z + offset where A is affine, else None; an operator where it has many
    entries.
    """

    moments: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
    R: torch.Tensor | LinearOperator | None
    H: Slope | None
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
        if isinstance(self.R, LinearOperator):
            found: Any = self.R.block(seen).log_normal((self.y - mean)[seen])
            number: torch.Tensor = found
            return number
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
    H: Slope | None
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

    H: Slope
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
        return None if isinstance(site.R, LinearOperator) else site.R is not None, site.H is not None
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


def _stacked(slopes: Sequence[Slope]) -> Slope:
    if all(isinstance(H, torch.Tensor) for H in slopes):
        return torch.cat(tuple(slopes))  # type: ignore[arg-type]
    return Stack([as_operator(H) for H in slopes])


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
    "H": _stacked,
    "offset": torch.cat,
    "R": _block_diagonal,
    "moments": JoinedMoments,
    "predictor": Joined,
    "log_density": _families,
    "log_prob": Total,
    "space": lambda spaces: spaces[0],
}


SEEDS = range(1, 8)
RARE = 0.05  # share of the draws at which a log-density may be NaN, and counts as zero likelihood
Moving = Literal["shifted", "free"]


@dataclass(frozen=True)
class Target:
    """Site `name` with its data, put into the model.

    runs: of the model at the probes, which all sites share; y: the data in the site's shape and float64,
    NaN where not observed or masked; value: the same in the model's dtype, with numbers of the support where
    y is NaN; kept: which of its events were observed, in the site's batch shape; moving: of a site that is
    observed at a value that depends on the latents, whether y is zero, its distribution shifted by that
    value, or it is known by its density alone.
    """

    runs: Runs
    name: str
    y: torch.Tensor
    value: torch.Tensor
    kept: torch.Tensor
    probes: Probes
    moving: Moving | None = None

    @classmethod
    def of(cls, runs: Runs, name: str, y: torch.Tensor, probes: Probes) -> "Target":
        """From the data y. Raises: ModelError for a mask that depends on the latents."""
        mask = _fixed_mask(runs, name)
        return cls(*_filled(runs, name, torch.where(mask, y, torch.nan), runs.reader.data[name], probes))

    @classmethod
    def of_own(cls, runs: Runs, name: str, probes: Probes) -> "Reading[Target]":
        """Of a site that the model observes by itself, at a value that may depend on the latents.

        ln p(value(z) | z) is its density: no Jacobian is added, as Pyro adds none. Of a location family that
        is the density of zero once `loc` is moved by the value.

        Raises: ModelError for a mask, or for missing numbers, that depend on the latents.
        """
        mask = _fixed_mask(runs, name)
        values, _ = yield Values(runs.reader.function(lambda nodes: data_tensor(name, nodes[name]["value"])))
        rows = torch.where(mask, values.to(torch.float64), torch.nan)
        missing = torch.isnan(rows)
        if bool((missing != missing[0]).any()):
            raise ModelError(
                f"site '{name}': which numbers of its value are missing (NaN) depends on the latents; leave "
                "the same out in every run"
            )
        if not bool((torch.where(missing, 0.0, rows) != torch.where(missing, 0.0, rows)[0]).any()):
            return cls(*_filled(runs, name, rows[0], values[0], probes))
        zeros = torch.zeros_like(rows[0]).masked_fill(missing[0], torch.nan)
        moved = cls(*_filled(runs, name, zeros, zeros.to(values.dtype), probes), moving="shifted")
        if moved.is_shift():
            return moved
        return cls(*_filled(runs, name, rows[0], values[0], probes), moving="free")

    @property
    def partly(self) -> bool:
        """Whether some event was observed in part."""
        whole = self.kept.reshape(self.kept.shape + (1,) * (self.y.dim() - self.kept.dim()))
        return bool((~torch.isnan(self.y) & ~whole).any())

    def function(self, read: Callable[[Nodes], Any]) -> SiteFunction:
        """z ↦ what `read` finds in the trace at z."""
        return self.runs.reader.function(read)

    def base(self, nodes: Nodes) -> Distribution:
        """The site's distribution without to_event and mask, over the site's whole batch shape; of a
        moving site that can be shifted, that of what it is observed at less its value."""
        fn, value = self._at(nodes)
        return shifted(fn, value) if self.moving == "shifted" else fn

    def observed(self, nodes: Nodes) -> torch.Tensor:
        """What it is observed at, in the model's dtype, with numbers of the support where y is NaN."""
        return self._at(nodes)[1] if self.moving == "free" else self.value

    def _at(self, nodes: Nodes) -> tuple[Distribution, torch.Tensor]:
        """The model's own distribution, and the value that the site is observed at."""
        node = nodes[self.name]
        inner, shape = unwrap(node["fn"]), node["fn"].shape()
        batch = shape[: len(shape) - inner.event_dim]
        wide = inner if inner.batch_shape == batch else inner.expand(batch)
        if self.moving is None:
            return wide, self.value
        value = data_tensor(self.name, node["value"])
        return wide, torch.where(torch.isnan(self.y), self.value.to(value.dtype), value)

    def is_shift(self) -> bool:
        """Whether the density of zero under the shifted distribution is the site's own."""
        runs = [self.runs.at(row) for row in range(min(SLOW_PROBES, len(self.probes.draws)))]
        own = replace(self, moving="free")
        try:
            with unvalidated():
                pair = [torch.stack([one.log_prob(nodes) for nodes in runs]) for one in (self, own)]
        except (*FAILURES, AttributeError):  # of a distribution that cannot be taken apart
            return False
        return self.probes.agree(pair[0], pair[1])

    def log_prob(self, nodes: Nodes) -> torch.Tensor:
        """ln p(y | z) of the observed events, a number in float64. Raises: ModelError for no log_prob."""
        fn = self.base(nodes)
        try:
            with unvalidated():  # a support may move with the latents
                latent = nodes[self.runs.reader.space.names[0]]["value"]
                terms = batched(lambda: log_density(fn, self.observed(nodes)), latent)
        except NotImplementedError as error:
            raise ModelError(
                f"site '{self.name}': {type(fn).__name__} has no log_prob, which conditioning on it needs"
            ) from error
        return torch.where(self.kept, terms, 0.0).sum().to(torch.float64)

    def require_fixed(self, read: Callable[[Nodes], Any]) -> None:
        """Check that nothing random is left in the site, given latents and data; nodes ↦ numbers."""
        first = read(self.runs.at())
        for seed in SEEDS:
            pairs = zip(first, read(self.runs.at(0, seed)), strict=True)
            if not all(torch.allclose(*pair, rtol=0.0, atol=0.0, equal_nan=True) for pair in pairs):
                raise random_parent(self.name, self.runs.reader.space.names)

    def require_density(self, values: torch.Tensor) -> None:
        """Check ln p(y | z) at the probes, (probes,). NaN at few of them counts as zero likelihood.

        Raises: ModelError, naming the latents, where it is +infinity, or NaN at more than 5% of the probes,
        or where none is finite.
        """
        rows = self.probes.draws[: len(values)]
        infinite, undefined = values == torch.inf, torch.isnan(values)
        if bool((infinite | undefined | torch.isinf(values)).all()) and not bool(undefined.all()):
            raise ModelError(
                f"site '{self.name}': the density of the data is zero, or infinite, at all of {len(values)} "
                "draws from the prior; check the data, or widen the prior"
            )
        if bool(infinite.any()):
            raise infinite_density(self.name, self.runs.reader.space.words(rows[infinite][0]))
        if bool(undefined.double().mean() > RARE):
            where = self.runs.reader.space.words(rows[undefined][0])
            raise ModelError(
                f"site '{self.name}': its log_prob is NaN at {int(undefined.sum())} of {len(values)} draws "
                f"from the prior, such as {where}; check its parameters there, and that every observed site "
                "it depends on was observed completely"
            )


def _fixed_mask(runs: Runs, name: str) -> torch.Tensor:
    """Where the model keeps the site's numbers. Raises: ModelError where that depends on the latents."""
    mask = _mask(runs.at()[name])
    rows = range(1, min(SLOW_PROBES, len(runs.latents)))
    if any(not torch.equal(mask, _mask(runs.at(row)[name])) for row in rows):
        raise ModelError(
            f"site '{name}': its mask depends on the latents; write what it means into the site's "
            "distribution"
        )
    return mask


def _filled(
    runs: Runs, name: str, y: torch.Tensor, value: torch.Tensor, probes: Probes
) -> tuple[Runs, str, torch.Tensor, torch.Tensor, torch.Tensor, Probes]:
    """What a `Target` holds, with numbers of the support in `value` where y is NaN."""
    base = unwrap(runs.at()[name]["fn"])
    missing = torch.isnan(y)
    kept = ~missing.reshape(*y.shape[: y.dim() - base.event_dim], -1).any(dim=-1)
    if bool(missing.any()):
        value = torch.where(missing, _filler(base, y, kept).to(value.dtype), value)
    return runs, name, y, value, kept, probes


def _mask(node: Site) -> torch.Tensor:
    mask = own_mask(node["fn"], node["mask"])
    return torch.tensor(True) if mask is None else mask


def _filler(base: Distribution, y: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """Numbers in the support for what was not observed; they enter no density, but gradients."""
    try:
        with seeded(0), torch.no_grad():
            return base.expand(kept.shape).sample()
    except NotImplementedError:
        return y[kept][0] if bool(kept.any()) else torch.zeros_like(y)
