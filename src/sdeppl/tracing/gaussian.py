"""Reading an observed site as y = A(z) + Gaussian noise."""

from dataclasses import replace
from functools import partial
from operator import itemgetter
from typing import Any

import torch
from torch.distributions import AffineTransform

from .asking import Affine, Reading, Smooth, Values
from .errors import ModelError, depends_on_no_latent
from .observed import GaussianSite
from .probing import SLOW_PROBES
from .reader import Nodes, SiteFunction
from .target import Target
from .unwrap import unwrap

FULL = 4  # draws where whole covariances are compared
_NORMALS = (torch.distributions.MultivariateNormal, torch.distributions.LowRankMultivariateNormal)


def is_gaussian(base: Any) -> bool:
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


def _moments(base: Any, data: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
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
