"""Tests of whether two sets of draws come from one distribution, which see more than moments."""

from dataclasses import dataclass

import numpy as np

from .c2st import c2st, has_scikit_learn, null_deviation
from .energy import PERMUTATIONS, energy_test
from .sample_summary import SampleSummary
from .wasserstein import sliced_wasserstein_with_floor

LARGEST_SLICED, LARGEST_TESTED = 4_000, 1_000
LEAST_CLASSIFIED = 50


@dataclass(frozen=True)
class TwoSamples:
    """distance, floor: sliced Wasserstein-1 in standard deviations, and that of two sets of the reference;
    energy: energy distance, and its p-value; accuracy: C2ST, ½ for equal distributions, with its standard
    deviation there, or None where it was not taken; rows: of each side in energy distance and C2ST."""

    distance: float
    floor: float
    energy: float
    energy_p: float
    accuracy: float | None
    accuracy_noise: float | None
    rows: int


def two_samples(
    mine: SampleSummary, reference: SampleSummary, classifier: bool, generator: np.random.Generator
) -> TwoSamples:
    """In units of the reference's standard deviations, on rows that count as independent."""
    one, other = (side.rows(LARGEST_SLICED) / reference.sd for side in (mine, reference))
    distance, floor = sliced_wasserstein_with_floor(one, other, generator)
    one, other = (side.rows(LARGEST_TESTED) / reference.sd for side in (mine, reference))
    energy, p = energy_test(one, other, generator)
    rows = min(len(one), len(other))
    accuracy = noise = None
    if classifier and has_scikit_learn() and rows >= LEAST_CLASSIFIED:
        first, second = (part[generator.permutation(len(part))[:rows]] for part in (other, one))
        accuracy, noise = c2st(first, second, quick=True), null_deviation(rows)
    return TwoSamples(distance, floor, energy, p, accuracy, noise, rows)


def reasons(found: TwoSamples, least_z: float) -> list[str]:
    """What speaks against equal distributions; least_z: of C2ST's accuracy."""
    said = []
    if found.energy_p <= 1 / (PERMUTATIONS + 1) + 1e-12:
        said.append(f"energy distance {found.energy:.3f} (p = {found.energy_p:.3f}, the least there is)")
    if found.accuracy is not None and found.accuracy_noise is not None:
        z = (found.accuracy - 0.5) / found.accuracy_noise
        if z > least_z:
            said.append(f"a classifier tells the draws apart, C2ST {found.accuracy:.3f} ({z:.1f} σ above ½)")
    return said


def left_out() -> str | None:
    """What a missing library leaves out, in words."""
    if has_scikit_learn():
        return None
    return "C2ST was left out: it needs scikit-learn, pip install 'sdeppl[diagnostics]'"
