"""Calibration by simulated data sets: SBC, coverage and TARP, and SBC near one data set's posterior."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..backend import host_numbers, seed_number, whole_number
from ..guide import ScoreGuide, SiteData, names_apart
from ..tracing import ModelError, data_tensor, replicates
from .ranks import RankTest, ranks_of
from .simulations import MOST, Simulations, of_posteriors, simulate_posteriors

SIGNIFICANT = 1e-3
SHOWN = 12  # rows of the table
LOG_LIKELIHOOD = "ln p(y given ·)"
ALL = "all sites"
REPLICATES = 6  # of a guide's random streams


@dataclass(frozen=True)
class Calibration:
    """What `sbc`, `tarp`, `coverage` and `posterior_sbc` return; `print` shows it as a table with a verdict.

    kind: which of them; tests: of each quantity; sets: data sets; draws: of each; untrusted: data sets whose
    own diagnosis says not to trust their draws; how: these were made. p: the smallest p-value times the
    number of quantities, at most 1 (Bonferroni), so that an exact posterior has p < 0.001 in a thousandth of
    all runs at most. `calibration[name]` is one test.
    """

    kind: str
    tests: tuple[RankTest, ...]
    sets: int
    draws: int
    untrusted: int
    how: str

    def __repr__(self) -> str:
        return f"{self.kind}({self.verdict})"

    def __getitem__(self, name: str) -> RankTest:
        for test in self.tests:
            if test.name == name:
                return test
        raise KeyError(f"no quantity '{name}' was tested; there are {[test.name for test in self.tests]}")

    @property
    def p(self) -> float:
        """Of all quantities together."""
        return min(1.0, len(self.tests) * min(test.p for test in self.tests))

    @property
    def worst(self) -> RankTest:
        """The quantity with the smallest p-value."""
        return min(self.tests, key=lambda test: test.p)

    @property
    def deviation(self) -> float:
        """Largest |coverage - level| of any quantity."""
        return max(test.deviation for test in self.tests)

    @property
    def trusted(self) -> bool:
        """Whether nothing speaks against the posterior."""
        return self.p > SIGNIFICANT

    @property
    def verdict(self) -> str:
        """In words."""
        size = f"{self.sets} data sets with {self.draws} draws each"
        if self.trusted:
            text = (
                f"nothing in {size} speaks against the posterior (p = {self.p:.2g}, {len(self.tests)} "
                f"quantities, largest deviation {self.deviation:.3f})"
            )
        else:
            text = (
                f"do not trust the posterior (p = {self.p:.2g} of {len(self.tests)} quantities, in {size}): "
                f"'{self.worst.name}' {self._reason}"
            )
        if self.untrusted:
            text += f"; {self.untrusted} of {self.sets} data sets are not trusted by their own diagnosis"
        return text

    @property
    def _reason(self) -> str:
        test = self.worst
        if self.kind == "TARP":
            return f"has coverage that is off from its level by up to {test.deviation:.3f}"
        if self.kind == "coverage":
            seldom = _mean_gap(test) < 0
            return "holds the truth too seldom: too narrow, or off" if seldom else "is too wide"
        noise = 1 / math.sqrt(len(test.ranks))
        words = []
        if abs(test.shift) > 4 * noise:
            words.append("draws too small" if test.shift > 0 else "draws too large")
        if abs(test.spread) > 3 * noise:
            words.append("draws too narrow" if test.spread > 0 else "draws too wide")
        return " and ".join(words) or "has ranks of a shape that is not uniform"

    def __str__(self) -> str:
        width = max([len(test.name) for test in self.tests[:SHOWN]] + [10])
        lines = [
            f"{self.kind}: {self.how}",
            f"{'quantity':<{width}}  p        band     chi²     POT-C    PRIT-C   PIET-C   deviation  "
            "shift   spread",
        ]
        shown = sorted(self.tests, key=lambda test: test.p)[:SHOWN]
        for test in (test for test in self.tests if test in shown):
            lines.append(
                f"{test.name:<{width}}  {test.p:<8.2g} {test.band_p:<8.2g} {test.chi2_p:<8.2g} "
                f"{test.pot_p:<8.2g} {test.prit_p:<8.2g} {test.piet_p:<8.2g} {test.deviation:9.3f}  "
                f"{test.shift:+.3f} {test.spread:+8.1%}"
            )
        if len(self.tests) > SHOWN:
            lines.append(f"… and {len(self.tests) - SHOWN} more, with larger p")
        return "\n".join([*lines, self.verdict])


def _mean_gap(test: RankTest) -> float:
    """Mean of coverage minus level."""
    levels, shares = test.shares
    return float((shares - levels).mean())


# ---- Simulation-based calibration: truths rank uniformly among draws of their posteriors


def sbc(
    posterior: object,
    sets: int = 1_000,
    draws: int = 99,
    *,
    seed: int = 0,
    kind: str = "SBC",
    **arguments: object,
) -> Calibration:
    """Rank each truth among its posterior's draws; the ranks are uniform where the posterior is right.

    Number by number of all sites, and of ln p(y given ·) where it is known: its rank depends on data and
    latents together, and so sees a posterior that is the prior, which no rank of a number does. Five tests
    of each (`RankTest`), corrected for how many there are.

    posterior: `Simulations`, or what `simulate_posteriors` takes, with its arguments: a guide, or a function
    with prior= and simulate=. Costs one solve of sets × draws rows (times particles/kept where it is
    corrected). draws: 99 or another number one below a multiple of 20 makes even bins.

    Returns: `Calibration`. Raises: as `simulate_posteriors`. Source: Talts et al. 2018, algorithm 1;
    Säilynoja et al. 2022; Modrák et al. 2023 for quantities that depend on the data.
    """
    seed = seed_number(seed)
    found = simulations_of(posterior, sets, draws, seed, arguments)
    generator = np.random.default_rng((seed, 1))
    truths, drawn, names = found.numbers()
    tests = [
        RankTest.of(name, ranks_of(truths[:, k], drawn[:, :, k], generator), found.count, generator)
        for k, name in enumerate(names)
    ]
    if found.log_likelihood is not None:
        ranks = ranks_of(*found.log_likelihood, generator)
        tests.append(RankTest.of(LOG_LIKELIHOOD, ranks, found.count, generator))
    return Calibration(kind, tuple(tests), found.sets, found.count, found.untrusted, found.how)


def simulations_of(
    posterior: Any, sets: int, draws: int, seed: int, arguments: dict[str, Any]
) -> Simulations:
    """As they are, or made. Raises: TypeError for arguments of simulations that have been made."""
    if not isinstance(posterior, Simulations):
        return simulate_posteriors(posterior, sets, draws, seed=seed, **arguments)
    if arguments:
        raise TypeError(f"{sorted(arguments)} are for making simulations, and these are made")
    return posterior


# ---- Expected coverage: how often credible regions of each level hold the truth


def tarp(
    posterior: object,
    sets: int = 2_000,
    draws: int = 99,
    *,
    references: object = None,
    seed: int = 0,
    **arguments: object,
) -> Calibration:
    """Coverage of balls about random points that reach as far as the truth (TARP).

    The share of draws nearer to a reference point than the truth is uniform for the right posterior,
    whatever the point, if it depends on the data at most: its distribution function is the expected
    coverage. Distances are Euclidean, of numbers in units of the truths' standard deviations; of all sites
    together, and of each site where there are several. `deviation` is the largest |coverage - level|.

    references: (sets, numbers) in the order of the sites, or by default uniform in the box of all draws.
    These know nothing of the data, so that draws of the prior pass; give points that do, such as an estimate
    of the latents by the data, to see those too. posterior and other arguments: as for `sbc`.

    Returns: `Calibration`. Raises: as `sbc`; ValueError for references of another shape. Source: Lemos et al.
    2023, algorithm 2; the p-value is of the band of Säilynoja et al. 2022.
    """
    seed = seed_number(seed)
    found = simulations_of(posterior, sets, draws, seed, arguments)
    generator = np.random.default_rng((seed, 2))
    truths, drawn, _ = found.numbers()
    points = _references(references, drawn, generator)
    scale = truths.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    parts: dict[str, slice] = {ALL: slice(None)}
    if len(found.truths) > 1:
        start = 0
        for name, value in found.truths.items():
            parts[name] = slice(start, start + value[0].size)
            start += value[0].size
    tests = []
    for name, part in parts.items():
        here, there = truths[:, part], drawn[:, :, part]
        to_truth = _distance(here - points[:, part], scale[part])
        to_draws = _distance(there - points[:, None, part], scale[part])
        ranks = ranks_of(to_truth, to_draws, generator)
        tests.append(RankTest.of(name, ranks, found.count, generator))
    return Calibration("TARP", tuple(tests), found.sets, found.count, found.untrusted, found.how)


def coverage(
    posterior: object, sets: int = 1_000, draws: int = 99, *, seed: int = 0, **arguments: object
) -> Calibration:
    """How often central intervals hold the truth, number by number, level by level.

    A truth of rank r lies in the central intervals of levels above |2 (r + U)/(draws + 1) - 1|, U uniform,
    which is uniform where they cover as they say. And, where ln p(y given ·) is known, the regions of largest
    likelihood, of highest posterior density relative to the prior: a joint region of all sites. posterior
    and other arguments: as for `sbc`. Returns: `Calibration`. Raises: as `sbc`. Source: Hermans et al. 2022.
    """
    seed = seed_number(seed)
    found = simulations_of(posterior, sets, draws, seed, arguments)
    generator = np.random.default_rng((seed, 3))
    truths, drawn, names = found.numbers()
    tests = []
    for k, name in enumerate(names):
        ranks = ranks_of(truths[:, k], drawn[:, :, k], generator)
        within = (ranks + generator.random(len(ranks))) / (found.count + 1)
        folded = (np.abs(2 * within - 1) * (found.count + 1)).astype(int)
        tests.append(RankTest.of(name, np.minimum(folded, found.count), found.count, generator))
    if found.log_likelihood is not None:
        at_truths, at_draws = found.log_likelihood
        ranks = ranks_of(-at_truths, -at_draws, generator)
        tests.append(RankTest.of("largest likelihood", ranks, found.count, generator))
    return Calibration("coverage", tuple(tests), found.sets, found.count, found.untrusted, found.how)


def _references(references: object, drawn: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    sets, _, numbers = drawn.shape
    if references is None:
        low, high = drawn.min(axis=(0, 1)), drawn.max(axis=(0, 1))
        return low + (high - low) * generator.random((sets, numbers))
    references = host_numbers(references, "references")
    if references.shape != (sets, numbers) or not np.isfinite(references).all():
        raise ValueError(f"references must be finite and ({sets}, {numbers}); got {references.shape}")
    return np.asarray(references, dtype=np.float64)


def _distance(difference: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return np.sqrt(((difference / scale) ** 2).sum(axis=-1))


# ---- Simulation-based calibration where one data set's posterior is: for that data set, not for the prior


@names_apart
def posterior_sbc(
    guide: ScoreGuide,
    data: Mapping[str, object] | None = None,
    /,
    *,
    sets: int = 500,
    draws: int = 99,
    seed: int = 0,
    progress: bool | None = None,
    settings: Mapping[str, Any] | None = None,
    **observed: object,
) -> Calibration:
    """Whether the guide is right near the posterior given these data, where prior draws seldom are.

    θ from the posterior given y; y' from the model given θ; the posterior given y and y' together must rank θ
    uniformly, as `sbc` tests, if both posteriors are right. It sees errors that differ between the two: one
    that the same factor makes in both may cancel. y' is observed where y is: all of a site.

    data: by site name, in a mapping or by keyword; settings: backend, likelihood, steps, correction, c, as
    for `condition` and `sample`.

    Returns: `Calibration`. Raises: as `sbc` and `condition`; ModelError for data with gaps. Source: Säilynoja
    et al. 2025 (arXiv 2502.03279), section 3.
    """
    sets, draws = whole_number("sets", sets, 1, MOST), whole_number("draws", draws, 1, MOST)
    seed = seed_number(seed)
    values = {**(data or {}), **observed}
    chosen = dict(settings or {})
    c = chosen.pop("c", None)
    found = guide.condition(SiteData(values), **chosen).sample(sets, seed=seed, c=c, progress=progress)
    truths = {name: data_tensor(name, value).detach().cpu() for name, value in found.items()}
    latents = {site.name: truths[site.name].to(site.dtype) for site in guide.space.sites}
    stream = guide.seed, REPLICATES, seed
    copies = replicates(guide.model, latents, list(values), stream, guide.args, guide.kwargs)
    _require_whole(values)
    posteriors = guide.condition_replicates(copies, values, **chosen)
    simulations = of_posteriors(posteriors, truths, copies, draws, seed + 1, c, progress)
    return sbc(simulations, seed=seed, kind="posterior SBC")


def _require_whole(values: Mapping[str, object]) -> None:
    gaps = [name for name, value in values.items() if bool(torch.isnan(data_tensor(name, value)).any())]
    if gaps:
        raise ModelError(
            f"posterior_sbc needs complete data, and there are gaps (NaN) in {str(gaps)[1:-1]}; leave the "
            "site out, or write a model of what was observed"
        )
