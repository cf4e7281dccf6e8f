"""Heavy tails: latents whose draws lie so far out that mean and covariance say nothing of them."""

from dataclasses import replace

import torch
from torch.distributions import ComposeTransform, Transform, constraints

from .latents import LatentSite, LatentSpace

HEAVY = 15.0  # 99.9% over 50% quantile of |z - median|: 4.9 normal, 10 Laplace, 17 for t with 3 degrees
NORMAL_MEDIAN = 0.6745  # of |z| for a standard normal
TAIL = 0.999
FARTHEST = 16  # draws that the tail's index is estimated from
LEAST_INDEX = 0.15  # ⅓ for t with 3 degrees, of which 1 estimate in 100 lies below; a distant mode has ≤ 0.06


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


def find_tails(space: LatentSpace, z: torch.Tensor) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """{site: (median, scale)} of the sites with a number whose tails are heavy, by draws z (n, dim).

    Both in unconstrained coordinates and of the site's unconstrained shape; the scale is that of a normal
    with the same median distance. Heavy: the 99.9% quantile of |z - median| is above 15 times the 50% one, as
    of a Student t with 3 degrees of freedom or fewer, so that variances are infinite or badly estimated; and
    the farthest draws go on growing apart, as those of a small mode at a distance do not (Hill 1975).
    """
    found = {}
    for site in space.sites:
        columns = z[:, site.start : site.stop]
        median = columns.median(dim=0).values
        distance = (columns - median).abs()
        middle = torch.quantile(distance, 0.5, dim=0)
        far = torch.quantile(distance, TAIL, dim=0)
        heavy = (far > HEAVY * middle) & (_tail_index(distance) > LEAST_INDEX)
        if bool(heavy.any()) and bool((middle > 0).all()):
            shape = site.unconstrained_shape
            found[site.name] = (median.reshape(shape), (middle / NORMAL_MEDIAN).reshape(shape))
    return found


def _tail_index(distance: torch.Tensor) -> torch.Tensor:
    """1/k for tails ∝ distance^{-k}, by the farthest of the draws (n, numbers): (numbers,)."""
    farthest = distance.topk(min(FARTHEST + 1, len(distance)), dim=0).values
    return (farthest[:-1] / farthest[-1]).log().mean(dim=0)


def with_tails(space: LatentSpace, tails: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> LatentSpace:
    """The space in which the sites of `tails` are loc + scale sinh(u) of their new coordinates u."""
    return LatentSpace(
        tuple(_tamed(site, *tails[site.name]) if site.name in tails else site for site in space.sites)
    )


def _tamed(site: LatentSite, loc: torch.Tensor, scale: torch.Tensor) -> LatentSite:
    transform = ComposeTransform([SinhTransform(loc, scale), site.transform])
    return replace(site, transform=transform, tamed=True)
