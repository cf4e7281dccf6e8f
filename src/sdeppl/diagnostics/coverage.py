"""Expected coverage: how often credible regions of each level hold the truth."""

from typing import Any

import numpy as np

from ..backend import host_numbers, seed_number
from .calibration import Calibration
from .ranks import RankTest, ranks_of
from .sbc import simulations_of

ALL = "all sites"


def tarp(
    posterior: Any,
    sets: int = 2_000,
    draws: int = 99,
    *,
    references: Any = None,
    seed: int = 0,
    **arguments: Any,
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
    posterior: Any, sets: int = 1_000, draws: int = 99, *, seed: int = 0, **arguments: Any
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


def _references(references: Any, drawn: np.ndarray, generator: np.random.Generator) -> np.ndarray:
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
