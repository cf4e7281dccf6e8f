"""Draws against a reference: errors of moments and quantiles, tests of the whole, and a verdict in words."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from ..backend import real_parameter, seed_number
from ..backend.arguments import kind
from .field_summary import WIDE, FieldSummary, field_summary
from .sample_summary import NumberErrors, SampleSummary, joined, largest_z, number_errors, sample_summaries
from .two_samples import TwoSamples, left_out, reasons, two_samples, two_wide_samples

SIGNIFICANCE = 1e-3
UNRESOLVED = 0.5  # standard deviations: a comparison that misses an error of a mean that large says nothing
ALL = "all sites"


@dataclass(frozen=True)
class SiteComparison:
    """One site's errors, over its numbers, in units of the reference's standard deviations.

    mean_error: rms of mean differences; sd_error: rms of relative differences of standard deviations;
    mean_noise, sd_noise: what Monte Carlo error alone is expected to give (for normal draws);
    quantile_error, quantile_noise: rms over quantiles from 5% to 95%; tests: sliced Wasserstein, energy
    distance and C2ST. The last three are None where the reference has no draws. numbers: the errors one by
    one, with their labels; reasons: what speaks against the draws. told: of a site of many numbers, the
    errors of what stands for them (`FieldSummary`), with `told_labels`: those of quantiles and the tests but
    the sliced distance are of these alone.
    """

    site: str
    mean_error: float
    mean_noise: float
    sd_error: float
    sd_noise: float
    quantile_error: float | None
    quantile_noise: float | None
    tests: TwoSamples | None
    labels: Sequence[str]
    numbers: NumberErrors
    reasons: tuple[str, ...]
    told: NumberErrors | None = None
    told_labels: Sequence[str] = ()

    def __repr__(self) -> str:
        mean = f"mean {self.mean_error:.4f} sd off (noise {self.mean_noise:.4f})"
        sd = f"sd {self.sd_error:.2%} ({self.sd_noise:.2%})"
        return (
            f"SiteComparison('{self.site}': {mean}, {sd}; {'; '.join(self.reasons) or 'nothing against it'})"
        )

    @property
    def distance(self) -> float | None:
        """Sliced Wasserstein-1."""
        return None if self.tests is None else self.tests.distance

    @property
    def distance_floor(self) -> float | None:
        """Of two such sets of the reference."""
        return None if self.tests is None else self.tests.floor

    @property
    def resolution(self) -> float:
        """The error of a mean, in standard deviations, that would have been found in any number."""
        return largest_z(len(self.numbers.mean), SIGNIFICANCE) * float(self.numbers.mean_noise.max())


@dataclass(frozen=True)
class Comparison:
    """What `compare` returns; `print` shows it as a table with a verdict.

    sites: one by one; joint: all sites as one vector, where there are several, with draws; notes: what was
    left out, and of the reference itself; doubts: why the reference is not to be trusted itself.
    """

    sites: tuple[SiteComparison, ...]
    joint: SiteComparison | None
    tolerance: float
    notes: tuple[str, ...]
    doubts: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Comparison({[row.site for row in self.sites[:6]]}; {self.verdict})"

    def __getitem__(self, site: str) -> SiteComparison:
        for comparison in self.sites:
            if comparison.site == site:
                return comparison
        raise KeyError(f"no site '{site}' was compared; there are {[s.site for s in self.sites]}")

    @property
    def reasons(self) -> list[str]:
        """Why not to trust the draws, with the site's name; empty where nothing speaks against them.

        Sites together count where each by itself is right; else they only repeat what is wrong.
        """
        wrong = any(row.reasons for row in self.sites)
        rows = self.sites if wrong or self.joint is None else (self.joint,)
        return [f"{row.site}: {reason}" for row in rows for reason in row.reasons]

    @property
    def trusted(self) -> bool:
        """Whether nothing speaks against the draws, and enough draws could have."""
        return self.verdict.startswith("trusted")

    @property
    def verdict(self) -> str:
        """In words: 'trusted', 'do not trust' and the reasons, or 'cannot tell' and why."""
        if self.doubts:
            return "cannot tell: the reference is not to be trusted itself: " + "; ".join(self.doubts)
        if self.reasons:
            return "do not trust: " + "; ".join(self.reasons)
        worst = max(self.sites, key=lambda s: s.resolution)
        if worst.resolution > UNRESOLVED:
            return (
                f"cannot tell: too few effective draws: a mean of '{worst.site}' could be off by "
                f"{worst.resolution:.2f} sd without being found"
            )
        return (
            f"trusted: no error beyond {self.tolerance:.0%} of a standard deviation is significant; a mean "
            f"off by {max(worst.resolution, self.tolerance):.2f} sd would have been found"
        )

    def __str__(self) -> str:
        lines = ["site          mean error (noise)   sd error (noise)   quantiles (noise)   "]
        lines[0] += "sliced W1 (floor)   energy (p)      C2ST (null)"
        lines += [_line(s) for s in (*self.sites, *([self.joint] if self.joint else ()))]
        return "\n".join([*lines, *self.notes, self.verdict])


def _line(s: SiteComparison) -> str:
    quantiles = distance = energy = accuracy = "-"
    if s.quantile_error is not None:
        quantiles = f"{s.quantile_error:.4f} sd ({s.quantile_noise:.4f})"
    if s.tests is not None:
        distance = f"{s.tests.distance:.4f} ({s.tests.floor:.4f})"
        energy = f"{s.tests.energy:.3f} ({s.tests.energy_p:.3f})"
        if s.tests.accuracy is not None:
            accuracy = f"{s.tests.accuracy:.3f} (½ ± {s.tests.accuracy_noise:.3f})"
    return (
        f"{s.site:<12}  {s.mean_error:.4f} sd ({s.mean_noise:.4f})   {s.sd_error:7.2%} ({s.sd_noise:.2%})"
        f"    {quantiles:<20} {distance:<19} {energy:<15} {accuracy}"
    )


# ---- Draws against a reference: errors of moments and quantiles, and tests of the whole


def compare(
    draws: object, reference: object, seed: int = 0, *, tolerance: float = 0.05, classifier: bool = True
) -> Comparison:
    """Compare draws with a reference, site by site, and all sites together.

    draws: {site: (n, *shape)}, or what `posterior.run` returns, or another reference. reference: what
    `reference.hmc`, `nuts` or `exact` returns (effective sample sizes and exact moments count), a mapping of
    draws, or of `reference.Exact` moments. Arrays of any backend. tolerance: errors of means and
    quantiles in standard deviations, and relative ones of standard deviations, up to which a significant
    error is let pass. classifier: whether to take C2ST, about a second a site; it needs scikit-learn.

    An error speaks against the draws where it is beyond the tolerance and significant: probability below
    .001 for each kind of error and site, over all its numbers. Energy distance and C2ST take 1,000 rows of
    each side, and find what is no trifle. A number that is the same constant on both sides is left out.

    A site of 2,048 numbers and more: means and standard deviations of all of them; the rest on 64 of them, 32
    random projections of all and the power by octaves of wavenumber, for draws on both sides. Time
    O(draws × numbers × 132), memory a few times that of 4 million numbers besides the draws.

    Raises: TypeError for what is no draws by name; ValueError, naming the site, for other sites, shapes or
    supports, fewer than 2 draws, NaN, or a reference without spread.
    """
    tolerance = real_parameter("tolerance", tolerance)
    if not 0 <= tolerance < 1:
        raise ValueError(f"tolerance is a share of a standard deviation, from 0 to 1; got {tolerance}")
    mine, theirs = sample_summaries(draws), sample_summaries(reference)
    if set(mine) != set(theirs):
        raise ValueError(f"the sites differ: {sorted(mine)} against {sorted(theirs)}")
    for name, side in mine.items():
        if side.values is None:
            raise ValueError(f"site '{name}': exact moments belong on the reference's side; give draws here")
    _check_supports(mine, getattr(reference, "supports", {}), draws)
    kind("classifier", classifier, bool, "True or False")
    generator = np.random.default_rng(seed_number(seed))
    test = partial(two_samples, classifier=classifier, generator=generator)
    notes, found, pairs = [], [], []
    for name in mine:
        kept = _varying(name, mine[name], theirs[name])
        if not kept.all():
            notes.append(f"{name}: {int((~kept).sum())} numbers are one constant on both sides, left out")
        labels: Sequence[str] = _Labels(mine[name].shape, np.flatnonzero(~kept))
        if len(kept) >= WIDE and theirs[name].values is not None:
            told = field_summary(mine[name], theirs[name], kept, generator)
            pairs.append((told.mine, told.theirs))
            sides = mine[name].only(kept), theirs[name].only(kept)
            wide = partial(two_wide_samples, *sides, classifier=classifier, generator=generator)
            found.append(_compare_wide(name, *sides, labels, told, tolerance, wide))
        else:
            pairs.append((mine[name].only(kept), theirs[name].only(kept)))
            found.append(_compare_site(name, *pairs[-1], tuple(labels), tolerance, test))
    one, other = (joined([pair[k] for pair in pairs]) for k in (0, 1))
    joint = None
    if len(found) > 1 and one is not None and other is not None:
        joint = _compare_site(ALL, one, other, [], math.inf, test)
    missing = left_out() if classifier and any(side.values is not None for side in theirs.values()) else None
    notes += [missing] if missing else []
    doubts = tuple(getattr(reference, "reasons", ()))
    return Comparison(tuple(found), joint, tolerance, tuple(notes), doubts)


def _check_supports(mine: dict[str, SampleSummary], supports: Any, draws: object) -> None:
    others = getattr(draws, "supports", {})
    for name, support in supports.items():
        if name in others and str(others[name]) != str(support):
            raise ValueError(f"site '{name}': supports differ: {others[name]} against {support}")
        side = mine[name]
        if side.values is None or len(side.shape) < support.event_dim:
            continue
        values = torch.as_tensor(side.values.reshape(-1, *side.shape))
        near = 1e-6 * (1 + values.abs())  # rounding may put a draw on the edge
        inside = support.check(values) | support.check(values + near) | support.check(values - near)
        outside = ~inside.reshape(len(values), -1).all(dim=1)
        if bool(outside.any()):
            raise ValueError(
                f"site '{name}': {int(outside.sum())} of {len(values)} draws lie outside the reference's "
                f"support {support}; give both in the site's own units"
            )


def _varying(name: str, mine: SampleSummary, theirs: SampleSummary) -> np.ndarray:
    """(numbers,): all but those that are one constant on both sides. Raises: ValueError."""
    if mine.mean.shape != theirs.mean.shape:
        raise ValueError(f"site '{name}': {len(mine.mean)} numbers against {len(theirs.mean)}")
    flat = theirs.sd <= 0
    same = flat & (mine.sd <= 0) & (mine.mean == theirs.mean)
    if (flat & ~same).any() or same.all():
        raise ValueError(f"site '{name}': the reference does not vary in {int(flat.sum())} numbers")
    return ~same


class _Labels(Sequence[str]):
    """'[i, j]' of each number of a site but those left out."""

    def __init__(self, shape: tuple[int, ...], left_out: np.ndarray) -> None:
        self.shape, self.left_out = shape, left_out

    def __len__(self) -> int:
        return math.prod(self.shape) - len(self.left_out)

    def __getitem__(self, k: Any) -> Any:
        if not 0 <= k < len(self):
            raise IndexError(k)
        # of the numbers left out, those before it: each moves it on by one
        number = k + int(np.searchsorted(self.left_out - np.arange(len(self.left_out)), k, side="right"))
        return str([int(i) for i in np.unravel_index(number, self.shape)]) if self.shape else ""


def _compare_site(
    name: str,
    mine: SampleSummary,
    theirs: SampleSummary,
    labels: Sequence[str],
    tolerance: float,
    test: Callable[[SampleSummary, SampleSummary], TwoSamples],
) -> SiteComparison:
    """tolerance: infinite where its numbers have been compared already."""
    errors = number_errors(mine, theirs)
    tests = None if theirs.values is None else test(mine, theirs)
    said = [] if math.isinf(tolerance) else _of_numbers(errors, labels, tolerance)
    said += [] if tests is None else reasons(tests, largest_z(1, 2 * SIGNIFICANCE))
    n, size = float(np.median(mine.size)), math.inf if theirs.known else float(np.median(theirs.size))
    return SiteComparison(
        site=name,
        mean_error=_rms(errors.mean),
        mean_noise=math.sqrt(1 / n + 1 / size),
        sd_error=_rms(errors.sd),
        sd_noise=math.sqrt(0.5 / n + 0.5 / size),
        quantile_error=None if errors.quantile is None else _rms(errors.quantile),
        quantile_noise=None if errors.quantile_noise is None else _rms(errors.quantile_noise),
        tests=tests,
        labels=labels,
        numbers=errors,
        reasons=tuple(said),
    )


def _compare_wide(
    name: str,
    mine: SampleSummary,
    theirs: SampleSummary,
    labels: Sequence[str],
    told: FieldSummary,
    tolerance: float,
    test: Callable[[SampleSummary, SampleSummary], TwoSamples],
) -> SiteComparison:
    """Of a site of many numbers with draws on both sides."""
    size = min(float(np.nanmin(side.size)) for side in (mine, theirs))
    few = _compare_site(name, told.mine, told.theirs, told.labels, tolerance, test)
    errors = number_errors(mine, theirs, quantiles=False)
    return replace(
        few,
        mean_error=_rms(errors.mean),
        sd_error=_rms(errors.sd),
        labels=labels,
        numbers=errors,
        reasons=(*_of_numbers(errors, labels, tolerance, size), *few.reasons),
        told=few.numbers,
        told_labels=told.labels,
    )


def _of_numbers(
    errors: NumberErrors, labels: Sequence[str], tolerance: float, size: float = math.inf
) -> list[str]:
    """What is beyond the tolerance and significant, the most significant of each kind. size: of the smaller
    side, where numbers are so many that what its standard errors are off by counts: those of a standard
    deviation are found to be off as of half the degrees of freedom."""
    said = []
    kinds = [("mean", "{:+.3f} ± {:.3f} sd", errors.mean, errors.mean_noise, errors.mean_z)]
    kinds.append(("sd", "{:+.1%} ± {:.1%}", errors.sd, errors.sd_noise, errors.sd_z))
    if errors.quantile is not None and errors.quantile_noise is not None and errors.quantile_z is not None:
        kinds.append(("quantile", kinds[0][1], errors.quantile, errors.quantile_noise, errors.quantile_z))
    for name, text, error, noise, z in kinds:
        freedom = (size - 1) / (2 if name == "sd" else 1)
        bad = (np.abs(error) > tolerance) & (np.abs(z) > largest_z(z.size, SIGNIFICANCE, freedom))
        if bad.any():
            at = np.unravel_index(np.argmax(np.where(bad, np.abs(z), 0)), z.shape)
            level = f"{errors.levels[at[0]]:.0%} " if name == "quantile" else ""
            others = int(bad.sum()) - 1
            more = f" (and {others} more)" if others else ""
            said.append(
                f"{level}{name}{labels[int(at[-1])]} off by {text.format(error[at], noise[at])}{more}"
            )
    return said


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))
