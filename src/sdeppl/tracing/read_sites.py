"""Reading observed sites: what p(y | z) is as a function of the unconstrained latents z."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial
from operator import itemgetter
from typing import Any

import pyro.distributions as dist
import torch
from torch.distributions import AffineTransform, biject_to

from ..distributions.typing import Args, Distribution, Kwargs, Model, Site
from ..linalg import Diagonal, LowRankUpdate
from .checks import check_masks, check_parents, check_prior, check_site, check_support, own_observations
from .errors import ModelError, NoLatent, cannot_leave_out, depends_on_no_latent, weighted_delta
from .latents import LatentSpace
from .observed import ConstraintSite, DensitySite, Family, FamilySite, GaussianSite, ObservedSite, Target
from .probing import FAILURES, LARGEST, SLOW_PROBES, Affine, Probes, Reading, Smooth, Values, read_together
from .running import Nodes, Runs, SiteFunction, SiteReader
from .unwrap import Parameter, parameters, unwrap

FULL = 4  # draws where whole covariances are compared
LARGEST_COVARIANCE, LARGEST_MATRIX = 2_048, 8_192  # numbers whose noise has a matrix, by choice and at all
_NORMALS = (torch.distributions.MultivariateNormal, torch.distributions.LowRankMultivariateNormal)


def read_family(target: Target) -> Reading[FamilySite | None]:
    """The site, or None where not exactly one parameter depends on the latents, number by number.

    Raises: ModelError where something random is left in the site.
    """
    target.require_fixed(lambda nodes: (target.log_prob(nodes),))
    try:
        found = yield from _family(target)
    except ModelError:
        raise
    except FAILURES:  # of a distribution that cannot be taken apart
        return None
    if found is None:
        return None
    family, etas, vectorised = found

    predictor = target.function(partial(_predictor, target, family))
    smooth, vectorised = yield Smooth(predictor, etas, vectorised)
    H, offset = ((yield Affine(predictor, etas)) if smooth else None) or (None, None)
    y = target.y.reshape(-1)[target.kept.reshape(-1)]
    return FamilySite(target.name, y, smooth, vectorised, predictor, family, H, offset)


def _predictor(target: Target, family: Family, nodes: Nodes) -> torch.Tensor:
    """η, (n,)."""
    eta: torch.Tensor = family.link.inv(_flat(target, parameters(target.base(nodes))[family.free]))
    return eta if family.steps is None else eta[:, 0]


def _family(target: Target) -> Reading[tuple[Family, torch.Tensor, bool] | None]:
    """The family, its predictors at the draws (draws, n), and whether vmap can run them."""
    pattern = target.base(target.runs.at())
    names, constraints = zip(*((k, v.constraint) for k, v in parameters(pattern).items()), strict=True)

    def flat(nodes: Nodes) -> tuple[torch.Tensor, ...]:
        return tuple(_flat(target, parameter) for parameter in parameters(target.base(nodes)).values())

    values, vectorised = yield Values(target.function(flat))
    varying = [k for k, value in enumerate(values) if not bool((value == value[0]).all())]
    if len(varying) != 1:
        return None
    free = varying[0]
    link = biject_to(constraints[free])
    etas, steps = link.inv(values[free]), None
    if etas.dim() == 3 and names[free].startswith("component_distribution."):
        above = etas - etas[:, :, :1]
        steps, etas = above[0], etas[:, :, 0]
        limit = target.probes.tolerance * (1 + etas.abs().unsqueeze(-1) + steps.abs())
        if bool(((above - steps).abs() > limit).any()):  # the components move apart
            return None
    if etas.dim() != 2 or not bool(torch.isfinite(etas).all()):
        return None
    fixed = {name: value[0] for name, value in zip(names, values, strict=True)}
    family = Family(pattern, fixed, names[free], link, steps)
    y = target.y.reshape(-1)[target.kept.reshape(-1)]
    found = family(etas[:SLOW_PROBES], y).sum(dim=-1)
    its_own, _ = yield Values(target.function(target.log_prob), SLOW_PROBES)
    same = target.probes.agree(found, its_own)
    if same:
        every = LARGEST // max(etas.shape[1], 1) >= len(etas)
        target.require_density(family(etas, y).sum(dim=-1) if every else found)
    return (family, etas, vectorised) if same else None


def _flat(target: Target, parameter: Parameter) -> torch.Tensor:
    """(*shape, ...) to (n, ...) for the numbers that were observed; float64 where real."""
    value, shape = parameter.value, target.kept.shape
    value = value.to(torch.float64) if value.is_floating_point() else value
    if value.shape[: len(shape)] != shape:
        return value  # one for all
    return value.reshape(-1, *value.shape[len(shape) :])[target.kept.reshape(-1)]


# ---- Reading an observed site as y = A(z) + Gaussian noise


def is_gaussian(base: Distribution) -> bool:
    """Whether it is a normal, a multivariate normal, or a bijection, number by number, of a normal."""
    if isinstance(base, torch.distributions.TransformedDistribution):
        plain = all(part.bijective and part.domain.event_dim == 0 for part in base.transforms)
        return plain and isinstance(unwrap(base.base_dist), torch.distributions.Normal)
    return isinstance(base, (torch.distributions.Normal, *_NORMALS))


def read_gaussian(target: Target) -> Reading[GaussianSite | None]:
    """The site, or None where its density is another one than that of its moments.

    ln N(T⁻¹(y); m, v) + ln |dT⁻¹/dy| of a bijection T of a normal is ln N(T' T⁻¹(y); T' m, T'² v) with
    T' the slope of T at T⁻¹(y): a normal again, constants included.

    Raises: ModelError for a covariance that is not positive definite, for moments that are not finite,
    or where nothing depends on the latents.
    """

    if _is_low_rank(target.base(target.runs.at()), target.y):
        return (yield from _low_rank(target))
    _require_covariance(target)
    y, first, R = _moments(target.base(target.runs.at()), target.y)
    if not (torch.isfinite(first).all() and torch.isfinite(R).all()):
        raise ModelError(
            f"site '{target.name}': its mean or covariance is not finite at a draw from the prior; if it "
            "depends on another observed site, that one must be observed completely"
        )
    target.require_fixed(lambda nodes: _moments(target.base(nodes), target.y))
    moments = target.function(partial(_moments_at, target))
    (means, variances), vectorised = yield Values(moments.then(_diagonal))
    full = [_moments_at(target, target.runs.at(row))[1] for row in range(min(FULL, len(means)))]
    constant = _constant(variances, full, target.probes.tolerance)
    site = GaussianSite(target.name, y, True, vectorised, moments, R if constant else None, None, None)
    _require_positive(target.name, site.seen, variances, full[:1] if constant else full)
    if not (yield from _is_its_density(target, site, moments)):
        return None
    if constant and bool((means == means[0]).all()):
        raise depends_on_no_latent(target.name)
    return (yield from _with_derivatives(site, moments, means))


def _is_low_rank(base: Distribution, data: torch.Tensor) -> bool:
    """Whether it is one normal of so many numbers that its covariance is held as low rank plus diagonal."""
    kept = isinstance(base, torch.distributions.LowRankMultivariateNormal) and data.dim() == 1
    return kept and data.numel() > LARGEST_COVARIANCE


def _require_covariance(target: Target) -> None:
    """Raises: ModelError for correlated noise of more numbers than a matrix is made of."""
    base, n = target.base(target.runs.at()), target.y.numel()
    if isinstance(base, _NORMALS) and n > LARGEST_MATRIX:
        raise ModelError(
            f"site '{target.name}': {type(base).__name__} of {n:,} numbers in all would take a covariance of "
            f"as many rows, and {LARGEST_MATRIX:,} are the most; give one LowRankMultivariateNormal(loc, "
            "cov_factor, cov_diag) without further dimensions, which is held as it is, or independent noise"
        )


def _low_rank(target: Target) -> Reading[GaussianSite]:
    """A LowRankMultivariateNormal of many numbers, whose mean alone depends on the latents: its covariance as
    an operator. Raises: ModelError where more does, or its numbers are not finite."""
    name, y = target.name, target.y.reshape(-1)
    target.require_fixed(lambda nodes: _low_rank_at(target, nodes))
    _, factor, variances = _low_rank_at(target, target.runs.at())
    for row in range(1, FULL):
        others = _low_rank_at(target, target.runs.at(row))[1:]
        if not all(torch.allclose(*pair) for pair in zip(others, (factor, variances), strict=True)):
            raise ModelError(
                f"site '{name}': the covariance of LowRankMultivariateNormal depends on the latents; of more "
                f"than {LARGEST_COVARIANCE:,} numbers only the mean may"
            )
    if not (torch.isfinite(factor).all() and bool((variances > 0).all()) and torch.isfinite(variances).all()):
        raise ModelError(f"site '{name}': cov_factor and cov_diag must be finite, and cov_diag positive")
    mean = target.function(partial(_low_rank_mean, target))
    means, vectorised = yield Values(mean)
    if bool((means == means[0]).all()):
        raise depends_on_no_latent(name)
    R = LowRankUpdate(Diagonal(variances), factor)
    moments = target.function(partial(_low_rank_moments, target))
    smooth, vectorised = yield Smooth(mean, means, vectorised)
    H, offset = ((yield Affine(mean, means)) if smooth else None) or (None, None)
    return GaussianSite(name, y, smooth, vectorised, moments, R, H, offset)


def _low_rank_at(target: Target, nodes: Nodes) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean (n,), factor (n, q) and variances (n,) besides."""
    base: Any = target.base(nodes)
    parts = [part.to(torch.float64) for part in (base.loc, base.cov_factor, base.cov_diag)]
    return parts[0].expand(target.y.shape), parts[1], parts[2]


def _low_rank_mean(target: Target, nodes: Nodes) -> torch.Tensor:
    return _low_rank_at(target, nodes)[0]


def _low_rank_moments(target: Target, nodes: Nodes) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and the variances of the numbers alone."""
    mean, factor, variances = _low_rank_at(target, nodes)
    return mean, variances + factor.square().sum(dim=-1)


def _with_derivatives(
    site: GaussianSite, moments: SiteFunction, means: torch.Tensor
) -> Reading[GaussianSite]:
    """The site, with what its derivatives tell: whether there are any, and whether its mean is affine."""
    if site.R is None:
        log_prob = moments.then(site.log_density)
        values, vectorised = yield Values(log_prob)
        smooth, vectorised = yield Smooth(log_prob, values, vectorised)
        return replace(site, differentiable=smooth, vectorised=vectorised)
    mean = moments.then(itemgetter(0))
    smooth, vectorised = yield Smooth(mean, means, site.vectorised)
    found = (yield Affine(mean, means)) if smooth else None
    H, offset = found or (None, None)
    return replace(site, differentiable=smooth, vectorised=vectorised, H=H, offset=offset)


def _is_its_density(target: Target, site: GaussianSite, moments: SiteFunction) -> Reading[bool]:
    """Whether the moments give the density that the distribution itself gives, where that can be asked."""
    if target.partly or not len(site.seen):
        return True
    mine, _ = yield Values(moments.then(site.log_density), SLOW_PROBES)
    its_own, _ = yield Values(target.function(target.log_prob), SLOW_PROBES)
    return target.probes.agree(mine, its_own)


def _constant(variances: torch.Tensor, full: list[torch.Tensor], tolerance: float) -> bool:
    pairs = [(variances, variances[:1].expand_as(variances)), *((noise, full[0]) for noise in full[1:])]
    return all(torch.allclose(one, other, rtol=tolerance, atol=0.0) for one, other in pairs)


def _require_positive(
    name: str, seen: torch.Tensor, variances: torch.Tensor, full: list[torch.Tensor]
) -> None:
    """Check the covariance of what was observed. Raises: ModelError, naming the site."""
    singular = not bool((variances[:, seen] > 0).all())
    for R in full:
        if R.dim() == 2 and len(seen) and not singular:
            eigenvalues = torch.linalg.eigvalsh(R[seen][:, seen])
            rounding = len(seen) * torch.finfo(torch.float64).eps
            singular = not bool(eigenvalues[0] > rounding * eigenvalues[-1])
    if singular:
        raise ModelError(
            f"site '{name}': its covariance is singular or not positive, or holds NaN, at a draw from the "
            "prior; give every number a noise of its own, or write a hard constraint as "
            "pyro.sample(..., dist.Delta(...))"
        )


def _diagonal(moments: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    mean, noise = moments
    return mean, noise if noise.dim() == 1 else noise.diagonal()


def _moments_at(target: Target, nodes: Nodes) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean, and variances or covariance."""
    return _moments(target.base(nodes), target.y)[1:]


def _moments(base: Distribution, data: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Flat y, mean, and variances or covariance, of the numbers that are normal; float64.

    The variance of a negative scale is negative, not a square that hides it.
    """
    if isinstance(base, _NORMALS):
        size, y = base.event_shape[0], data.reshape(-1)
        blocks = base.covariance_matrix.expand((*data.shape, size)).reshape(-1, size, size)
        mean = base.loc.expand(data.shape).reshape(-1)
        return y, mean.to(torch.float64), torch.block_diag(*blocks).to(torch.float64)
    inner, transforms = base, list[Any]()
    y, slope = data, torch.ones((), dtype=torch.float64)
    if isinstance(base, torch.distributions.TransformedDistribution):
        inner, transforms = unwrap(base.base_dist), list(base.transforms)
    mean, scale = inner.loc, inner.scale
    while transforms and isinstance(transforms[0], AffineTransform):  # a normal still, of other moments
        first = transforms.pop(0)
        mean, scale = first.loc + first.scale * mean, abs(first.scale) * scale
    for part in reversed(transforms):
        before = part.inv(y)
        slope = slope * part.log_abs_det_jacobian(before, y).to(torch.float64).exp()
        y = before
    slope = torch.where(torch.isnan(data), 1.0, slope)
    mean, variance = slope * mean, slope**2 * scale * abs(scale)
    flat = [part.to(torch.float64).expand(data.shape).reshape(-1) for part in (slope * y, mean, variance)]
    return flat[0], flat[1], flat[2]


# ---- Reading an observed site by its density alone, and a Delta as a hard constraint


def read_density(target: Target) -> Reading[DensitySite]:
    """The site as z ↦ ln p(y | z).

    Raises: ModelError for a multivariate event that was observed in part; a density that is NaN, or
    zero at every draw, or depends on no latent, or on something random.
    """
    name, y = target.name, target.y.reshape(-1)
    if not bool(target.kept.any()) and not target.partly:
        return DensitySite(name, y, True, True, _nothing)
    if target.partly:
        raise cannot_leave_out(name, target.base(target.runs.at()))
    target.require_fixed(lambda nodes: (target.log_prob(nodes),))
    log_prob = target.function(target.log_prob)
    values, vectorised = yield Values(log_prob)
    target.require_density(values)
    if bool((values == values[0]).all()):
        raise depends_on_no_latent(name)
    smooth, vectorised = yield Smooth(log_prob, values, vectorised)
    return DensitySite(name, y, smooth, vectorised, log_prob, target.runs.reader.space)


def _nothing(z: torch.Tensor) -> torch.Tensor:
    return 0.0 * z.sum()


def read_constraint(target: Target) -> Reading[ConstraintSite]:
    """A Delta of an affine function of the latents as y = H z + offset.

    Raises: ModelError for one that is not affine, or has a log_density, or depends on no latent, or on
    something random.
    """
    name = target.name
    if bool((target.base(target.runs.at()).log_density != 0).any()):
        raise weighted_delta(name)
    target.require_fixed(lambda nodes: (target.base(nodes).v,))
    function = target.function(partial(_constrained, target))
    values, vectorised = yield Values(function)
    if bool((values == values[0]).all()):
        raise depends_on_no_latent(name)
    smooth, vectorised = yield Smooth(function, values, vectorised)
    found = (yield Affine(function, values)) if smooth else None
    if found is None:
        raise ModelError(
            f"site '{name}' is a Delta of something that is not affine in the unconstrained latents, and "
            "only affine constraints can be hard; give it a little noise, as Normal(..., 0.01), instead"
        )
    return ConstraintSite(name, target.y.reshape(-1), smooth, vectorised, *found)


def _constrained(target: Target, nodes: Nodes) -> torch.Tensor:
    v: torch.Tensor = target.base(nodes).v
    return v.expand(target.y.shape).reshape(-1).to(torch.float64)


# ---- All sites


@torch.no_grad()
def read_sites(
    model: Model,
    space: LatentSpace,
    data: Mapping[str, torch.Tensor],
    draws: torch.Tensor,
    args: Args = (),
    kwargs: Kwargs | None = None,
) -> list[ObservedSite]:
    """The observed sites of `data`, each as the most special kind that it is.

    `GaussianSite`: (multivariate) normals, and bijections of normals number by number; `FamilySite`:
    other univariate distributions of which one parameter depends on the latents; `ConstraintSite`: a
    Delta; `DensitySite`: all else that has log_prob. draws: (at least 4, dim) unconstrained latents from
    the prior, where the site is looked at: a function counts as affine if its Jacobian at the first leads
    to all the others, to 1e-5 of its size in float32 and 1e-9 in float64, a parameter as constant if it is
    at all of them. A bend that no draw reaches is not seen, so give a few hundred. Data that depend on no
    latent are left out if another observed site, or a latent, depends on them. What the model observes by
    itself is read besides, at a value that may depend on the latents, as that of residuals does.

    Raises: ModelError, naming the site: unknown, a latent, wrong shape, data outside the support,
    scaled, singular, without log_prob, depending on no latent or on a site that is neither latent nor
    given, a Delta that is not affine, an event of several numbers that was observed in part; pyro.factor.
    """
    kwargs = dict(kwargs or {})
    reader = SiteReader(model, space, args, kwargs)
    nodes = reader.nodes(draws[0])
    check_prior(nodes, space)
    own = own_observations(nodes, reader.nodes(draws[1]), (*space.names, *data))
    for name, value in (*data.items(), *own.items()):
        check_site(name, value, nodes, space)
    needed = check_parents(model, args, kwargs, nodes, [*data, *own], space)
    reader = replace(reader, data={name: _like(nodes[name], value) for name, value in data.items()})
    check_masks(reader, draws, [*data, *own])
    precise = {site.dtype for site in space.sites} == {torch.float64}
    probes = Probes(draws, 1e-9 if precise else 1e-5)
    runs = Runs(reader, draws)
    targets = [Target.of(runs, name, value.to(torch.float64), probes) for name, value in data.items()]
    targets += read_together([Target.of_own(runs, name, probes) for name in own], probes)
    sites = read_together([_read_or_leave_out(target, needed) for target in targets], probes)
    runs.kept.clear()  # which the sites' functions would hold
    return [site for site in sites if site is not None]


def _read_or_leave_out(target: Target, needed: Collection[str]) -> Reading[ObservedSite | None]:
    """None for a site that depends on no latent, which another site needs the value of, or whose value moves
    with its distribution, so that its density stays."""
    try:
        return (yield from _read(target))
    except NoLatent:
        if target.name in needed or target.moving is not None:
            return None
        raise


def _read(target: Target) -> Reading[ObservedSite]:
    check_support(target)
    if target.moving == "free":
        return (yield from read_density(target))
    base = target.base(target.runs.at())
    if isinstance(base, dist.Delta):
        return (yield from read_constraint(target))
    site: ObservedSite | None = None
    if is_gaussian(base):
        site = yield from read_gaussian(target)
    elif base.event_dim == 0 and bool(target.kept.any()):
        site = yield from read_family(target)
    return site or (yield from read_density(target))


def _like(node: Site, value: torch.Tensor) -> torch.Tensor:
    """The data in the dtype of what the model draws there, since another site may use them."""
    drawn = node["value"]
    if not isinstance(drawn, torch.Tensor):
        return value
    whole = bool((value == value.round()).all())  # not where something is missing
    return value.to(drawn.dtype) if drawn.is_floating_point() or whole else value
