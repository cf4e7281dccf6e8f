"""One side of a comparison at one site: its draws, or what is known of it, and how much they count."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backend import host_numbers


@dataclass(frozen=True)
class SampleSummary:
    """values (n, numbers), or None where moments alone are known; shape: of the site; mean, sd (numbers,);
    size, tail_size (numbers,): effective draws for the middle and for the tails; known: whether mean and sd
    are exact. Numbers are NumPy's, in float64."""

    shape: tuple[int, ...]
    values: np.ndarray | None
    mean: np.ndarray
    sd: np.ndarray
    size: np.ndarray
    tail_size: np.ndarray
    known: bool = False

    @property
    def independent(self) -> int:
        """How many rows count as independent: by the number that mixes worst."""
        least = min(float(np.nanmin(self.size)), float(np.nanmin(self.tail_size)))
        return 0 if self.values is None else int(max(min(least, len(self.values)), 2))

    def rows(self, largest: int) -> np.ndarray:
        """At most `largest` rows, evenly through all of them, no more than are independent."""
        assert self.values is not None
        count = min(self.independent, largest)
        return self.values[np.linspace(0, len(self.values), count, endpoint=False).astype(int)]

    def only(self, kept: np.ndarray) -> "SampleSummary":
        """Of the numbers (numbers,) that are kept."""
        values = None if self.values is None else self.values[:, kept]
        mean, sd, size, tails = (p[kept] for p in (self.mean, self.sd, self.size, self.tail_size))
        return SampleSummary((int(kept.sum()),), values, mean, sd, size, tails, self.known)


def sample_summaries(source: Any) -> dict[str, SampleSummary]:
    """By site name; a source is what `compare` takes. Raises: TypeError; ValueError, naming the site."""
    draws = getattr(source, "draws", source)
    if not isinstance(draws, Mapping) or not draws:
        raise TypeError(
            f"compare takes draws by site name, a run or a reference; got {type(source).__name__}"
        )
    ess, tails = (getattr(source, name, {}) for name in ("ess", "tail_ess"))
    moments = getattr(source, "moments", None) or {}
    share = getattr(getattr(source, "diagnosis", None), "ess", 1.0)
    found = {}
    for name, value in draws.items():
        if hasattr(value, "sd"):
            found[name] = _moments(name, value)
            continue
        side = _drawn(name, value, ess.get(name), tails.get(name), share)
        found[name] = _with_moments(side, _moments(name, moments[name])) if name in moments else side
    return found


def joined(sides: list[SampleSummary]) -> SampleSummary | None:
    """All sites as one, or None where some have no draws."""
    drawn = [side.values for side in sides if side.values is not None]
    if len(drawn) < len(sides) or len({len(values) for values in drawn}) > 1:
        return None
    names = ("mean", "sd", "size", "tail_size")
    mean, sd, size, tails = (np.concatenate([getattr(side, name) for side in sides]) for name in names)
    values = np.concatenate(drawn, axis=1)
    return SampleSummary((values.shape[1],), values, mean, sd, size, tails)


def _drawn(name: str, value: Any, ess: Any, tail_ess: Any, share: float) -> SampleSummary:
    host = host_numbers(value, f"site '{name}': the draws").astype(float)
    if host.ndim < 1 or host.shape[0] < 2:
        raise ValueError(f"site '{name}': at least 2 draws are needed; got shape {host.shape}")
    if not np.isfinite(host).all():
        raise ValueError(f"site '{name}': the draws hold NaN or infinity")
    values = host.reshape(host.shape[0], -1)
    if ess is None:
        size = tails = np.full(values.shape[1], max(_distinct(values) * share, 2.0))
    else:
        size = _effective(ess, values)
        tails = size if tail_ess is None else _effective(tail_ess, values)
    sd = values.std(axis=0, ddof=1)
    sd = np.where(np.ptp(values, axis=0) > 0, sd, 0.0)  # not what rounding of the mean leaves
    return SampleSummary(host.shape[1:], values, values.mean(axis=0), sd, size, tails)


def _effective(ess: Any, values: np.ndarray) -> np.ndarray:
    """(numbers,), at least 2; NaN, of numbers that never vary, counts as all draws."""
    sizes = host_numbers(ess).astype(float).reshape(-1)
    return np.maximum(np.where(np.isnan(sizes), len(values), sizes), 2.0)


def _distinct(values: np.ndarray) -> float:
    """Kish's effective number of rows where some stand for several: n² / Σ count²."""
    _, counts = np.unique(values, axis=0, return_counts=True)
    return len(values) ** 2 / float(np.sum(counts.astype(float) ** 2))


def _moments(name: str, exact: Any) -> SampleSummary:
    mean, sd = (
        host_numbers(v, f"site '{name}': exact mean and sd").astype(float) for v in (exact.mean, exact.sd)
    )
    if mean.shape != sd.shape or not (np.isfinite(mean).all() and np.isfinite(sd).all()):
        raise ValueError(
            f"site '{name}': exact mean and sd must be finite and of one shape; got {mean.shape}, {sd.shape}"
        )
    endless = np.full(mean.size, math.inf)
    return SampleSummary(mean.shape, None, mean.reshape(-1), sd.reshape(-1), endless, endless, True)


def _with_moments(side: SampleSummary, exact: SampleSummary) -> SampleSummary:
    return SampleSummary(side.shape, side.values, exact.mean, exact.sd, side.size, side.tail_size, True)
