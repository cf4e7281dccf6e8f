"""Heavy tails: latents whose draws lie so far out that mean and covariance say nothing of them."""

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch.distributions import ComposeTransform, Transform, constraints

from ..distributions.typing import Support
from .latents import LatentSite, LatentSpace

HEAVY = 15.0  # 99.9% over 50% quantile of |z - median|: 4.9 normal, 10 Laplace, 17 for t with 3 degrees
NORMAL_MEDIAN = 0.6745  # of |z| for a standard normal
TAIL = 0.999
FARTHEST = 16  # draws that the tail's index is estimated from
LEAST_INDEX = 0.15  # ⅓ for t with 3 degrees, of which 1 estimate in 100 lies below; a distant mode has ≤ 0.06
FIELD = 16  # numbers whose range says how far others of the same site may lie


class SinhTransform(Transform):
    """u ↦ loc + scale sinh(u): linear near loc, and tails ∝ z^{-k} become e^{-k |u|}."""

    domain = constraints.real
    codomain = constraints.real
    bijective = True
    sign = 1

    def __init__(self, loc: torch.Tensor, scale: torch.Tensor) -> None:
        super().__init__()
        self.loc, self.scale = loc, scale

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, SinhTransform)
            and torch.equal(self.loc, other.loc)
            and torch.equal(self.scale, other.scale)
        )

    __hash__ = Transform.__hash__

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        return self.loc + self.scale * torch.sinh(x)

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        return torch.asinh((y - self.loc) / self.scale)

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.log(self.scale) + torch.log(torch.cosh(x))


class HeavyTailsWarning(UserWarning):
    """A latent has heavy tails, and is drawn in: an affine observation of it has no closed form then."""


def find_tails(
    space: LatentSpace, z: torch.Tensor, more: Iterable[torch.Tensor] = ()
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """{site: (median, scale)} of the sites with a number whose tails are heavy, by draws z (n, dim).

    Both in unconstrained coordinates and of the site's unconstrained shape; the scale is that of a normal
    with the same median distance. Heavy: the 99.9% quantile of |z - median| is above 15 times the 50% one, as
    of a Student t with 3 degrees of freedom or fewer, so that variances are infinite or badly estimated; and
    the farthest draws go on growing apart, as those of a small mode at a distance do not (Hill 1975), also
    among `more` draws, further batches (n, dim) that are only made where z looks heavy.

    What is bounded has no tails: a site between two edges, and numbers of a field that are nearly always
    the same, as the empty pixels of an image, and never farther out than its other numbers.
    """
    median = z.median(dim=0).values
    distance = (z - median).abs()
    middle = torch.quantile(distance, 0.5, dim=0)
    heavy = (torch.quantile(distance, TAIL, dim=0) > HEAVY * middle) & (
        _index(_farthest(distance)) > LEAST_INDEX
    )
    for site in space.sites:
        part = slice(site.start, site.stop)
        if is_bounded(site.support) or not bool((middle[part] > 0).all()):
            heavy[part] = False
        heavy[part] &= ~_within_field(distance[:, part].amax(dim=0), heavy[part])
    if bool(heavy.any()):
        farthest = _farthest(distance)
        for batch in more:
            farthest = _farthest(torch.cat([farthest, (batch - median).abs()]))
        heavy &= _index(farthest) > LEAST_INDEX
    found = {}
    for site in space.sites:
        part, shape = slice(site.start, site.stop), site.unconstrained_shape
        if bool(heavy[part].any()):
            found[site.name] = median[part].reshape(shape), (middle[part] / NORMAL_MEDIAN).reshape(shape)
    return found


def is_bounded(support: Support) -> bool:
    """Whether a support lies between two edges."""
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    edges = (constraints.interval, constraints.half_open_interval)
    whole = (type(constraints.simplex), type(constraints.corr_cholesky))  # others where they were pickled
    return isinstance(support, (*edges, *whole))


def _within_field(reach: torch.Tensor, heavy: torch.Tensor) -> torch.Tensor:
    """Which numbers of a site lie where its others do; none where these are few. reach: largest distances."""
    others = reach[~heavy]
    if len(others) < max(FIELD, len(reach) / 2):
        return torch.zeros_like(heavy)
    return reach <= others.max()


def _farthest(distance: torch.Tensor) -> torch.Tensor:
    return distance.topk(min(FARTHEST + 1, len(distance)), dim=0).values


def _index(farthest: torch.Tensor) -> torch.Tensor:
    """1/k for tails ∝ distance^{-k}, by the farthest of all draws (count, numbers), in order: (numbers,)."""
    return (farthest[:-1] / farthest[-1]).log().mean(dim=0)


def with_tails(space: LatentSpace, tails: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> LatentSpace:
    """The space in which the sites of `tails` are loc + scale sinh(u) of their new coordinates u."""
    return LatentSpace(
        tuple(
            _sinh_transformed(site, *tails[site.name]) if site.name in tails else site for site in space.sites
        )
    )


def _sinh_transformed(site: LatentSite, loc: torch.Tensor, scale: torch.Tensor) -> LatentSite:
    transform = ComposeTransform([SinhTransform(loc, scale), site.transform])
    return replace(site, transform=transform, sinh_transformed=True)
