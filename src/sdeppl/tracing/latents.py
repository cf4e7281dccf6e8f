"""Continuous latents as one unconstrained vector, by bijections to their supports, heavy tails drawn in."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch.distributions import (
    AffineTransform,
    ComposeTransform,
    CumulativeDistributionTransform,
    IndependentTransform,
    Normal,
    Transform,
    biject_to,
    constraints,
)

from ..backend.arguments import sites_in_words
from ..distributions.typing import Bijection, Nodes, Support
from .errors import ModelError
from .supports import Between, Ends, Image, bounds, fixed_support, plain
from .unwrap import unwrap

SHOWN = 3  # numbers of a site, in messages
SAME = 1e-5  # of the way between points, to which supports are alike


class BetweenTransform(Transform):
    """Unconstrained numbers to low ≤ x ≤ high, each by its own kind of bounds.

    low + (high - low) Φ(z) between two, low + e^z above one, high - e^z below one, z where there is none.
    """

    domain = constraints.real
    bijective = True

    def __init__(self, low: torch.Tensor, high: torch.Tensor) -> None:
        super().__init__()
        self.codomain, self.ends = Between(low, high), (low, high)
        below, above = torch.isfinite(low), torch.isfinite(high)
        self.kinds = (below & above, below & ~above, ~below & above)
        self.low, self.high = torch.where(below, low, 0.0), torch.where(above, high, 1.0)
        self.normal = Normal(0.0, 1.0, validate_args=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BetweenTransform) and all(
            torch.equal(*pair) for pair in zip(self.ends, other.ends, strict=True)
        )

    __hash__ = Transform.__hash__

    def _chosen(self, *values: torch.Tensor) -> torch.Tensor:
        found = values[-1]
        for kind, value in zip(self.kinds, values, strict=False):
            found = torch.where(kind, value, found)
        return found

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        inside = self.low + (self.high - self.low) * self.normal.cdf(x)
        return self._chosen(inside, self.low + torch.exp(x), self.high - torch.exp(x), x)

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        one = torch.ones_like(y)  # in place of what the other kinds would make NaN of
        share = self._chosen((y - self.low) / (self.high - self.low), 0.5 * one, 0.5 * one, 0.5 * one)
        above = self._chosen(one, y - self.low, one, one)
        below = self._chosen(one, one, self.high - y, one)
        return self._chosen(self.normal.icdf(share), torch.log(above), torch.log(below), y)

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """ln |dy/dx|, number by number."""
        inside = torch.log(self.high - self.low) + self.normal.log_prob(x)
        return self._chosen(inside, x, x, torch.zeros_like(x))


def bijection(name: str, support: Support) -> Transform:
    """torch's own bijection, but for intervals, which are low + (high - low) Φ(z).

    A uniform latent then is exactly N(0, 1) in z, which the Gaussian part of the denoiser knows without
    training, where a logit would make it logistic. Raises: ModelError, naming the site, for none.
    """
    try:
        return _to(support)
    except NotImplementedError as error:
        raise ModelError(
            f"latent site '{name}': no bijection is known to its support {support}; write it as a function "
            "of latents with ordinary supports"
        ) from error


def _to(support: Support) -> Transform:
    if isinstance(support, constraints.independent):
        return IndependentTransform(_to(support.base_constraint), support.reinterpreted_batch_ndims)
    if isinstance(support, Between):
        return BetweenTransform(support.lower_bound, support.upper_bound)
    if isinstance(support, Image):
        return ComposeTransform([_to(support.base), support.part])
    if not isinstance(support, constraints.interval):
        return biject_to(support)
    low, high = support.lower_bound, support.upper_bound
    standard = Normal(0.0, 1.0, validate_args=False)  # whose check of values vmap cannot take
    return ComposeTransform([CumulativeDistributionTransform(standard), AffineTransform(low, high - low)])


# ---- All continuous latents as one unconstrained vector


@dataclass(frozen=True)
class LatentSite:
    """One latent site: its shape as the model has it, its dtype, its support and the bijection to it.

    transform: unconstrained to support; unconstrained_shape: of the former (a simplex of d numbers
    has d - 1); `start` and `stop`: where its numbers lie in the vector; sinh_transformed: whether its heavy
    tails are drawn in (`with_tails`); axes: names of its last axes and {name: (axes, labels)} along them, of
    a simulator or a data set that has them.
    """

    name: str
    shape: torch.Size
    unconstrained_shape: torch.Size
    dtype: torch.dtype
    device: torch.device
    support: Support
    transform: Bijection
    start: int
    stop: int
    sinh_transformed: bool = False
    axes: tuple[tuple[str, ...], dict[str, Any]] | None = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        drawn_in = ", heavy tails drawn in" if self.sinh_transformed else ""
        return f"LatentSite('{self.name}', {tuple(self.shape)}, {self.support}{drawn_in})"

    @property
    def is_real(self) -> bool:
        """Whether the unconstrained numbers are the site's own."""
        # not the transform's codomain: torch says "real" for every bijection that ends in a shift
        return not self.sinh_transformed and type(plain(self.support)) is type(constraints.real)

    def unconstrain(self, value: torch.Tensor) -> torch.Tensor:
        """(batch, *shape) in the support to (batch, numbers) in float64.

        Values that rounding put closer to an edge than the site's dtype resolves are moved off it by
        so much: on the edge their unconstrained number would be infinite, or as large as float64 holds.
        """
        ends, eps = bounds(self.support), torch.finfo(self.dtype).eps
        value = value.to(torch.float64)
        if ends is not None:
            value = _off_the_edge(value, ends, eps)
        elif type(plain(self.support)) is type(constraints.simplex):
            value = value.clamp_min(8 * eps)
            value = value / value.sum(dim=-1, keepdim=True)
        return self.transform.inv(value).reshape(value.shape[0], -1)


@dataclass(frozen=True)
class LatentSpace:
    """The latents of a model, flattened by their supports' bijections: `dim` numbers."""

    sites: tuple[LatentSite, ...]

    def __repr__(self) -> str:
        return f"LatentSpace({sites_in_words({site.name: tuple(site.shape) for site in self.sites})})"

    @property
    def dim(self) -> int:
        """Numbers in the vector."""
        return self.sites[-1].stop

    @property
    def precise(self) -> bool:
        """Whether the model has all of them in float64."""
        return all(site.dtype == torch.float64 for site in self.sites)

    @property
    def names(self) -> list[str]:
        """Names of the latent sites, in the model's order."""
        return [site.name for site in self.sites]

    @property
    def axes(self) -> dict[str, Any]:
        """{site: (names, labels)} of the sites that have them."""
        return {site.name: site.axes for site in self.sites if site.axes is not None}

    @classmethod
    def from_trace(cls, sites: Nodes) -> "LatentSpace":
        """From the traced sites. Raises: ModelError for a discrete or a NaN latent."""
        found: list[LatentSite] = []
        start = 0
        for name, site in sites.items():
            value, support = site["value"], fixed_support(site["fn"])
            if support.is_discrete or not value.is_floating_point():
                raise ModelError(
                    f"latent site '{name}' is discrete ({type(site['fn']).__name__}); the diffusion "
                    "needs continuous latents: marginalise it, or observe it; if it is data that the model "
                    "computes without torch, name the latents: latents=[...]"
                )
            if torch.isnan(value).any():
                raise ModelError(f"latent site '{name}' drew NaN from the prior; check its parameters")
            transform = bijection(name, support)
            shape = transform.inv(value).shape
            stop = start + math.prod(shape)
            own = name, value.shape, shape, value.dtype, value.device, support, transform, start, stop
            found.append(LatentSite(*own, axes=getattr(unwrap(site["fn"]), "axes", None)))
            start = stop
        return cls(tuple(found))

    def flatten(self, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Site values (batch, *shape), each in its support, to (batch, dim) in float64.

        Raises: ModelError, naming the site, where a value is NaN or not inside its support.
        """
        columns = []
        missing = [name for name in self.names if name not in values]
        if missing:
            raise ModelError(f"there are no values of latent site '{missing[0]}'; give those of {self.names}")
        for site in self.sites:
            column = site.unconstrain(values[site.name])
            if not torch.isfinite(column).all():
                raise ModelError(
                    f"latent site '{site.name}' has draws that are NaN, infinite, or on the edge of its "
                    f"support ({site.support}) or outside; check its prior"
                )
            columns.append(column)
        return torch.cat(columns, dim=-1)

    def unflatten(self, vector: torch.Tensor) -> dict[str, torch.Tensor]:
        """(..., dim) to site values (..., *shape), each in its support and its own dtype."""
        batch = vector.shape[:-1]
        values = {}
        # not slices, of which each fills the whole gradient
        parts = vector.split([site.stop - site.start for site in self.sites], dim=-1)
        for site, part in zip(self.sites, parts, strict=True):
            flat = part.reshape(batch + site.unconstrained_shape)
            values[site.name] = site.transform(flat).to(site.dtype)
        return values

    def words(self, vector: torch.Tensor) -> str:
        """The latents at (dim,) in words: each site with up to three of its numbers."""
        found = []
        for name, value in self.unflatten(vector.detach()).items():
            numbers = ", ".join(f"{float(number):.4g}" for number in value.reshape(-1)[:SHOWN])
            more = ", ..." if value.numel() > SHOWN else ""
            found.append(f"{name} = {numbers}" if value.dim() == 0 else f"{name} = [{numbers}{more}]")
        return ", ".join(found)

    def same_as(self, other: "LatentSpace") -> str | None:
        """None where names, shapes and supports agree with `other`, else what differs."""
        if self.names != other.names:
            return f"latent sites {self.names} against {other.names}"
        for mine, theirs in zip(self.sites, other.sites, strict=True):
            if mine.shape != theirs.shape:
                return f"site '{mine.name}': shape {tuple(mine.shape)} against {tuple(theirs.shape)}"
            if not _same_transform(mine, theirs):
                return f"site '{mine.name}': the support {' against '.join(_ends_of(mine, theirs))}"
        return None


def _off_the_edge(value: torch.Tensor, ends: Ends, eps: float) -> torch.Tensor:
    """Values that rounding put on an end, or just beyond, moved to what is next to it; others as they are."""
    low, high = (torch.as_tensor(end, dtype=torch.float64) for end in ends)
    sizes = torch.stack(torch.broadcast_tensors(low.abs(), high.abs()))
    gap = eps * torch.where(torch.isfinite(sizes), sizes, 0.0).amax(dim=0)
    beyond = 8 * gap  # farther out no rounding leads
    value = torch.where((value < low + gap) & (value >= low - beyond), low + gap, value)
    return torch.where((value > high - gap) & (value <= high + beyond), high - gap, value)


def _same_transform(one: LatentSite, other: LatentSite) -> bool:
    """Whether three points of each number arrive at the same three, to a share of the way between these."""
    if one.unconstrained_shape != other.unconstrained_shape:
        return False
    count = max(math.prod(one.unconstrained_shape), 1)
    points = torch.linspace(-1.0, 1.0, count, dtype=torch.float64).reshape(one.unconstrained_shape)
    mine, theirs = (
        torch.stack([site.transform(points + shift) for shift in (-0.7, 0.0, 0.9)]) for site in (one, other)
    )
    rounding = 4 * torch.finfo(one.dtype).eps
    allowed = SAME * (mine.amax(dim=0) - mine.amin(dim=0)) + rounding * mine.abs()
    return bool(((mine - theirs).abs() <= allowed).all())


def _ends_of(*sites: LatentSite) -> list[str]:
    """Their supports, by the ends of the first number that has others, where they have ends."""
    found = [bounds(site.support) for site in sites]
    if None in found:
        return [str(site.support) for site in sites]
    ends = [
        torch.stack([torch.as_tensor(end, dtype=torch.float64).expand(site.shape) for end in pair])
        for pair, site in zip(found, sites, strict=True)
        if pair is not None
    ]
    rows = [one.reshape(2, -1).T for one in ends]
    k = int((rows[0] != rows[1]).any(dim=1).double().argmax())
    return [f"from {row[k, 0].item()!r} to {row[k, 1].item()!r}" for row in rows]


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
