"""Draws against a reference: moment errors and sliced Wasserstein distance, with their noise."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backend import to_host
from .wasserstein import sliced_wasserstein_with_floor


@dataclass(frozen=True)
class SiteComparison:
    """One site's errors, over its numbers, in units of the reference's standard deviations.

    mean_error: rms of mean differences; sd_error: rms of relative differences of standard
    deviations; mean_noise, sd_noise: what Monte Carlo error alone is expected to give (for normal
    draws); distance, distance_floor: sliced Wasserstein-1 and its mean under exchange of the two
    sets of draws, or None where the reference has no draws.
    """

    site: str
    mean_error: float
    mean_noise: float
    sd_error: float
    sd_noise: float
    distance: float | None
    distance_floor: float | None


@dataclass(frozen=True)
class Comparison:
    """What `compare` returns; `print` shows it as a table."""

    sites: tuple[SiteComparison, ...]

    def __getitem__(self, site: str) -> SiteComparison:
        for comparison in self.sites:
            if comparison.site == site:
                return comparison
        raise KeyError(f"no site '{site}' was compared; there are {[s.site for s in self.sites]}")

    def __str__(self) -> str:
        lines = ["site          mean error (noise)   sd error (noise)    sliced W1 (floor)"]
        for s in self.sites:
            distance = "-" if s.distance is None else f"{s.distance:.4f} ({s.distance_floor:.4f})"
            lines.append(
                f"{s.site:<12}  {s.mean_error:.4f} sd ({s.mean_noise:.4f})   "
                f"{s.sd_error:7.2%} ({s.sd_noise:.2%})    {distance}"
            )
        return "\n".join(lines)


def compare(draws: Mapping[str, Any], reference: Any, seed: int = 0) -> Comparison:
    """Compare draws {site: (n, *shape)} with a reference, site by site.

    reference: what `reference.nuts` returns (its effective sample size counts), a mapping of draws,
    or of `reference.Exact` moments. Arrays of any backend.

    Raises: ValueError, naming the site, for other sites or shapes, fewer than 2 draws, NaN, or a
    reference without spread.
    """
    sizes = getattr(reference, "ess", {})
    theirs = getattr(reference, "draws", reference)
    if set(draws) != set(theirs):
        raise ValueError(f"the sites differ: {sorted(draws)} against {sorted(theirs)}")
    generator = np.random.default_rng(seed)
    found = []
    for name, values in draws.items():
        size = sizes.get(name)
        mine = _draws(name, values)
        found.append(_compare_site(name, mine, theirs[name], size, generator))
    return Comparison(tuple(found))


def _compare_site(
    name: str, mine: np.ndarray, theirs: Any, ess: Any, generator: np.random.Generator
) -> SiteComparison:
    if hasattr(theirs, "sd"):
        mean, sd = (np.asarray(to_host_if_array(v), float).reshape(-1) for v in (theirs.mean, theirs.sd))
        other, size = None, math.inf
    else:
        other = _draws(name, theirs)
        mean, sd = other.mean(axis=0), other.std(axis=0, ddof=1)
        size = other.shape[0] if ess is None else max(float(np.median(to_host_if_array(ess))), 2.0)
    if mean.shape != mine.shape[1:]:
        raise ValueError(f"site '{name}': {mine.shape[1]} numbers against {mean.shape[0]}")
    if not (sd > 0).all():
        raise ValueError(f"site '{name}': the reference does not vary in {int((sd <= 0).sum())} numbers")
    n = mine.shape[0]
    distance = floor = None
    if other is not None:
        independent = other[:: max(math.ceil(other.shape[0] / size), 1)]
        distance, floor = sliced_wasserstein_with_floor(mine / sd, independent / sd, generator)
    return SiteComparison(
        site=name,
        mean_error=_rms((mine.mean(axis=0) - mean) / sd),
        mean_noise=math.sqrt(1 / n + 1 / size),
        sd_error=_rms(mine.std(axis=0, ddof=1) / sd - 1),
        sd_noise=math.sqrt(0.5 / n + 0.5 / size),
        distance=distance,
        distance_floor=floor,
    )


def _draws(name: str, values: Any) -> np.ndarray:
    host = np.asarray(to_host_if_array(values), dtype=float)
    if host.ndim < 1 or host.shape[0] < 2:
        raise ValueError(f"site '{name}': at least 2 draws are needed; got shape {host.shape}")
    if not np.isfinite(host).all():
        raise ValueError(f"site '{name}': the draws hold NaN or infinity")
    return host.reshape(host.shape[0], -1)


def to_host_if_array(value: Any) -> Any:
    """A NumPy array for an array of any backend; anything else as it is."""
    try:
        return to_host(value)
    except TypeError:
        return value


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))
