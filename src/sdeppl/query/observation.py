"""From traced sites to one observation of the standardised vector."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from ..backend import Array, Backend, place, resolve
from ..backend.sharing import SHARED, warn
from ..distributions.typing import Distribution
from ..likelihood import (
    DensityObservation,
    GaussianPosterior,
    IndependentObservation,
    JointObservation,
    LinearConstraint,
    LinearGaussian,
    NonlinearGaussian,
    Observation,
    families,
    joint_observation,
)
from ..linalg import DENSE, LinearOperator, placed
from ..sde import VPSDE
from ..tracing import (
    ConstraintSite,
    DensitySite,
    Family,
    FamilySite,
    GaussianSite,
    ModelError,
    ObservedSite,
    SlowDrawsWarning,
    grouped,
    merged,
    over_rows,
)
from ..tracing.errors import infinite_density
from .bridge import Bridge
from .gaussian_part import GaussianPart

_HERE = ("torch", "pyro", "sdeppl")  # whose classes are what their names say
ROUNDS = 4
REACH = 6.0
LARGEST = 20_000_000  # numbers in one array of matrices


def observation_of(sites: Sequence[ObservedSite], gaussian: GaussianPart, backend: Backend) -> Observation:
    """All sites as one observation of x, z = location + scale · x; sites without data are left out.

    Sites of one kind are merged (`tracing.grouped`), so that a run of the model serves all of them; y has
    their order.

    Pure array code for affine Gaussian sites and constraints, and for affine families that the array
    layers know: then sampling calls neither torch nor Pyro for the likelihood. Else the model is run.

    Raises: ModelError, naming the site, for what the observation does not take. Warns: SlowDrawsWarning.
    """
    parts = []
    for group in grouped([site for site in sites if len(site.seen)]):
        site = merged(group)
        if not site.vectorised and getattr(site, "H", None) is None:
            warn(
                f"site '{site.name}': the model cannot be run for many latents at once, so its likelihood is "
                "evaluated for one after the other; replace NumPy, .item() and branches on values by torch",
                SlowDrawsWarning,
                stacklevel=4,
            )
        try:
            parts.append(_part(site, Bridge(gaussian, backend, site.vectorised)))
        except ValueError as error:
            raise ModelError(f"site '{_at_fault(group, gaussian, backend)}': {error}") from error
    if not parts:
        nothing = torch.zeros((0, gaussian.location.shape[0]), dtype=torch.float64)
        return LinearGaussian(*(place(part, backend) for part in (nothing, nothing[:, 0], nothing[:, 0])))
    try:
        return joint_observation(parts)
    except ValueError as error:
        raise ModelError(f"sites {[site.name for site in sites]} together: {error}") from error


def _at_fault(group: Sequence[ObservedSite], gaussian: GaussianPart, backend: Backend) -> str:
    """The name of the first that cannot be observed by itself, or of all."""
    for site in group:
        try:
            _part(site, Bridge(gaussian, backend, site.vectorised))
        except ValueError:
            return site.name
    return merged(group).name


def _part(site: ObservedSite, bridge: Bridge) -> Observation:
    if isinstance(site, GaussianSite):
        return _gaussian(site, bridge)
    if isinstance(site, ConstraintSite):
        return LinearConstraint(*_standardised(site.H, site.y - site.offset, bridge))
    if isinstance(site, FamilySite):
        return _family(site, bridge)
    assert isinstance(site, DensitySite)
    gradient = bridge.gradient(site.log_prob) if site.differentiable else None
    location = place(bridge.gaussian.location, bridge.backend)
    return DensityObservation(SiteDensity(bridge, site), location.shape[0], location, gradient)


def _gaussian(site: GaussianSite, bridge: Bridge) -> Observation:
    dim, backend = bridge.gaussian.location.shape[0], bridge.backend
    R: Any = None
    if site.R is not None:
        R = placed(site.R, backend) if isinstance(site.R, LinearOperator) else place(site.R, backend)
    if site.H is not None and site.offset is not None:
        return LinearGaussian(*_standardised(site.H, site.y - site.offset, bridge), R)
    function = site.moments if site.R is None else partial(_alone, site.mean)
    value = bridge.values(site.moments if site.R is None else site.mean)
    with_jacobian = bridge.with_jacobian(function) if site.differentiable else None
    bend = bridge.bend(function)
    return NonlinearGaussian(with_jacobian, dim, place(site.y, backend), R, value=value, bend=bend)


def _family(site: FamilySite, bridge: Bridge) -> Observation:
    known = array_family(site, bridge.backend)
    log_density, data = known or (bridge.elementwise(site.log_density), site.y)
    y = place(data, bridge.backend)
    if site.H is not None and site.offset is not None:
        H, minus_offset = _standardised(site.H, -site.offset, bridge)
        return IndependentObservation(log_density, y, H=H, offset=-minus_offset)

    predictor = partial(_alone, site.predictor)
    return IndependentObservation(
        log_density,
        y,
        function=bridge.with_jacobian(predictor) if site.differentiable else None,
        bend=bridge.bend(predictor),
        value=bridge.values(site.predictor),
        dim=bridge.gaussian.location.shape[0],
    )


def _alone(function: Callable[[torch.Tensor], torch.Tensor], z: torch.Tensor) -> tuple[torch.Tensor]:
    return (function(z),)


def _standardised(
    H: torch.Tensor | LinearOperator, y: torch.Tensor, bridge: Bridge
) -> tuple[Array | LinearOperator, Array]:
    """H and y of y = H x, from those of y = H z."""
    return bridge.operator(H), place(y - _applied(H, bridge.gaussian.location), bridge.backend)


def _applied(H: torch.Tensor | LinearOperator, z: torch.Tensor) -> torch.Tensor:
    """H z of one z (dim,)."""
    found: Any = H @ z if isinstance(H, torch.Tensor) else H.matvec(z[None, :])[0, :]
    moved: torch.Tensor = found
    return moved


# ---- Families of distributions, as tracing reads them, as those that are array code


def array_family(site: FamilySite, backend: Backend) -> tuple[Any, torch.Tensor] | None:
    """The site's family on the backend's arrays, and its data as that takes them; None for no such code.

    With it sampling calls torch for the predictors alone, and not at all where they are affine.
    """
    family = site.log_density
    if not isinstance(family, Family) or type(family.pattern).__module__.split(".")[0] not in _HERE:
        return None
    name, y = _name(family.pattern), site.y
    values = {path.rsplit(".", 1)[-1]: value for path, value in family.values.items()}
    match name, family.free:
        case "Poisson", "rate":
            return families.Poisson(), y
        case "Bernoulli", "logits":
            return families.Bernoulli(), y
        case (("Binomial" | "NegativeBinomial"), "logits"):
            kind: Any = families.Binomial if name == "Binomial" else families.NegativeBinomial
            return kind(place(values["total_count"], backend)), y
        case "StudentT", "loc":
            return families.StudentT(place(values["df"], backend), place(values["scale"], backend)), y
        case "Laplace", "loc":
            return families.Laplace(place(values["scale"], backend)), y
        case "Censored of Normal", "base_dist.loc":
            bounds = [place(values[name], backend) for name in ("scale", "low", "high")]
            return families.Censored(*bounds), y
        case "Interval of Normal", "base_dist.loc" if bool((y == 1).all()):
            bounds = [place(values[name], backend) for name in ("low", "high", "scale")]
            return families.Interval(*bounds), _between(values["low"], values["high"])
        case "OrderedLogistic", "predictor" if _common(values["cutpoints"]):
            return families.Ordinal(tuple(values["cutpoints"][0].tolist())), y
        case "MixtureSameFamily of Normal", "component_distribution.loc":
            parts = [torch.softmax(values["logits"], dim=-1), family.steps, values["scale"]]
            if all(part is not None and _common(part) for part in parts):
                return families.NormalMixture(*(tuple(part[0].tolist()) for part in parts)), y  # type: ignore[index]
    return None


def _name(fn: Distribution) -> str:
    """The name of the class, with that of the distribution inside it."""
    for attribute in ("base_dist", "component_distribution"):
        inner = getattr(fn, attribute, None)
        if inner is not None:
            return f"{type(fn).__name__} of {_name(inner)}"
    return type(fn).__name__


def _common(rows: torch.Tensor) -> bool:
    """Whether all rows are the same."""
    return bool((rows == rows[0]).all())


def _between(low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Some number in each interval: which one does not enter."""
    left = torch.where(torch.isinf(low), high - 2.0, low)
    return 0.5 * (left + torch.where(torch.isinf(high), left + 2.0, high))


# ---- The density of one site, with an eye on where it is no number


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

    def __call__(self, x: Array) -> Array:
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


# ---- Points near the posterior, before it is known


def posterior_probes(
    sites: Sequence[ObservedSite], gaussian: GaussianPart, draws: torch.Tensor, seed: int
) -> torch.Tensor | None:
    """Draws (n, dim) near the posterior, in z: where else the model must be what it seemed to be.

    Matheron's rule: prior draws x move to x + C Hᵀ S⁻¹ (y - H x - noise), as if all were Gaussian; where
    a site is not, or not affine, that is repeated about the point arrived at, with y and R of the
    Gaussian that the site's density looks like from there, and points more than six prior standard
    deviations out are dropped. Sites known by their density alone, or without Jacobian, are passed over.
    None where no other was observed.
    """
    usable = [
        site for site in sites if site.differentiable and len(site.seen) and not isinstance(site, DensitySite)
    ]
    if not usable:
        return None
    with SHARED, warnings.catch_warnings():
        warnings.simplefilter("ignore", SlowDrawsWarning)  # said once, when the posterior is compiled
        observation = observation_of(usable, gaussian, resolve("torch"))
    if not observation.is_linear and gaussian.location.shape[0] > DENSE:
        return None  # without matrices of all numbers there is no telling where
    if not observation.is_linear:
        draws = draws[: max(4, LARGEST // max(observation.count, gaussian.location.shape[0]) ** 2)]
    start = gaussian.standardise(draws)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn((start.shape[0], observation.count), generator=generator, dtype=start.dtype)
    moved = start
    for _ in range(1 if observation.is_linear else ROUNDS):
        moved = _moved(observation, gaussian, start, noise, moved)
        kept = torch.isfinite(moved).all(dim=1)
        if not observation.is_linear:
            kept = kept & (moved.abs() <= REACH).all(dim=1)
        start, noise, moved = start[kept], noise[kept], moved[kept]
        if not len(moved):
            return None
    return gaussian.location + gaussian.scale * moved


def _moved(
    observation: Observation,
    gaussian: GaussianPart,
    start: torch.Tensor,
    noise: torch.Tensor,
    about: torch.Tensor,
) -> torch.Tensor:
    """Where the draws `start` move to, given the observation linearised about other points; NaN where it
    cannot be."""
    linear = observation.linearise(about)
    if observation.is_linear and not gaussian.by_eigenvectors:
        prior = gaussian.denoiser(VPSDE(), observation.backend)
        found: Any = GaussianPosterior(prior, observation).moved(start, noise)
        arrived: torch.Tensor = found
        return arrived
    H, basis = linear.jacobian, gaussian.basis * gaussian.eigenvalues
    cross: Any = basis @ (gaussian.basis.T @ H.T.dense())
    projected: Any = H.matmat(cross)
    site = observation.site_approximation(linear, projected.diagonal(dim1=-2, dim2=-1))
    S: Any = site.noise.added_to(projected)
    residual: Any = site.y - linear.predicted + H.matvec(about - start) - site.noise.root.matvec(noise)
    step, singular = torch.linalg.solve_ex(S, residual[..., None])
    return torch.where(singular[..., None] == 0, start + (cross @ step)[..., 0], torch.nan)


# ---- Many data sets

LOOKED_AT = 8  # latents where functions of two data sets are compared


def many_observation(
    readings: Sequence[Sequence[ObservedSite]],
    data: Mapping[str, torch.Tensor],
    latents: torch.Tensor,
    gaussian: GaussianPart,
    backend: Backend,
) -> tuple[Observation, Any] | None:
    """The observation of the first data set, and y (data sets, count) of all; None where that is not all.

    readings: the sites as `read_sites` read them with a few of the data sets, the first among them; data:
    {site: (data sets, *shape)}, NaN where not observed; latents (several, dim). It is not all where the
    readings differ in more than y (a site whose distribution depends on other data, a bijection of a normal,
    whose slope does), where a site is known by its density alone, or where not all data sets are
    observed in the same numbers.
    """
    first, *others = readings
    if any(not _same(first, other, latents[:LOOKED_AT]) for other in others):
        return None
    seen = [site for group in grouped([site for site in first if len(site.seen)]) for site in group]
    columns = [_columns(site, data[site.name], gaussian, backend) for site in seen]
    if not columns or any(column is None for column in columns):
        return None
    y = torch.cat([column for column in columns if column is not None], dim=-1)
    if not bool(torch.isfinite(y).all()):
        return None
    return observation_of(first, gaussian, backend), place(y, backend)


def _same(one: Sequence[ObservedSite], other: Sequence[ObservedSite], latents: torch.Tensor) -> bool:
    """Whether two readings are the same but for y."""
    if [(type(s), s.name, len(s.y)) for s in one] != [(type(s), s.name, len(s.y)) for s in other]:
        return False
    return all(_same_site(*pair, latents) for pair in zip(one, other, strict=True))


def _same_site(one: Any, other: Any, latents: torch.Tensor) -> bool:
    if isinstance(one, DensitySite) or not torch.equal(torch.isnan(one.y), torch.isnan(other.y)):
        return False
    numbers = [(_entries(one.H), _entries(other.H)), (one.offset, other.offset)]
    if isinstance(one, GaussianSite):
        numbers.append((_entries(one.R), _entries(other.R)))
        numbers += [pair for z in latents for pair in zip(one.moments(z), other.moments(z), strict=True)]
    if isinstance(one, FamilySite):
        numbers += [(one.predictor(z), other.predictor(z)) for z in latents]
        mine, theirs = one.log_density, other.log_density
        if not isinstance(mine, Family) or not isinstance(theirs, Family) or mine.free != theirs.free:
            return False
        if mine.values.keys() != theirs.values.keys():
            return False
        numbers += [(mine.values[name], theirs.values[name]) for name in mine.values if name != mine.free]
        numbers.append((mine.steps, theirs.steps))
    return all(_equal(*pair) for pair in numbers)


def _entries(H: torch.Tensor | LinearOperator | None) -> torch.Tensor | None:
    """By which operators are compared: all entries, the only ones of each row, or products with two random
    vectors."""
    if H is None or isinstance(H, torch.Tensor):
        return H
    found: Any = H.single_entries
    if found is not None:
        return torch.stack([part.to(torch.float64) for part in found])
    generator = torch.Generator().manual_seed(0)
    found = H.matvec(torch.randn((2, H.shape[1]), generator=generator, dtype=torch.float64))
    products: torch.Tensor = found
    return products


def _equal(one: torch.Tensor | None, other: torch.Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-9, atol=1e-12, equal_nan=True)


def _columns(
    site: ObservedSite, data: torch.Tensor, gaussian: GaussianPart, backend: Backend
) -> torch.Tensor | None:
    """What was observed, (data sets, numbers), in the units of the site's observation; None where the first
    row is not the site's own y."""
    rows = data.reshape(data.shape[0], -1).to(torch.float64)
    own, seen = site.y[site.seen], torch.nonzero(~torch.isnan(site.y))[:, 0]
    if isinstance(site, FamilySite):  # which holds what was observed alone
        seen = torch.nonzero(~torch.isnan(rows[0]))[:, 0]
        known = array_family(site, backend)
        if known is not None and known[1] is not site.y:
            return None
    rows = rows[:, seen]
    if rows.shape[1] != len(own) or not torch.equal(rows[0], own.to(torch.float64)):
        return None
    if isinstance(site, (GaussianSite, ConstraintSite)) and site.H is not None and site.offset is not None:
        rows = rows - (site.offset + _applied(site.H, gaussian.location))[seen]
    return rows
