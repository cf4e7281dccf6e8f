"""Sites of many data sets as one observation, where the data enter through y alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..backend import Backend, place
from ..likelihood import Observation
from ..tracing import ConstraintSite, DensitySite, Family, FamilySite, GaussianSite, ObservedSite, grouped
from .gaussian_part import GaussianPart
from .observation import array_family, observation_of

LOOKED_AT = 8  # latents where functions of two data sets are compared

Rows = Mapping[str, torch.Tensor]


def many_observation(
    readings: Sequence[Sequence[ObservedSite]],
    data: Rows,
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
    numbers = [(one.H, other.H), (one.offset, other.offset)]
    if isinstance(one, GaussianSite):
        numbers.append((one.R, other.R))
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
        rows = rows - (site.offset + site.H @ gaussian.location)[seen]
    return rows
