"""`compare` on draws whose errors are known. Seed 0."""

import math

import numpy as np
import pytest
import torch

import sdeppl as sp

GENERATOR_SEED = 0


def draws(count, shift=0.0, stretch=1.0):
    generator = np.random.default_rng(GENERATOR_SEED)
    z = generator.standard_normal((count, 2, 3))
    z = (z - z.mean(axis=0)) / z.std(axis=0, ddof=1)
    return 5.0 + 2.0 * (shift + stretch * z)


def test_moment_errors_are_in_units_of_the_references_sd():
    exact = {"x": sp.reference.Exact(np.full((2, 3), 5.0), np.full((2, 3), 2.0))}
    found = sp.compare({"x": draws(1_000, shift=0.3, stretch=1.1)}, exact)["x"]
    assert found.mean_error == pytest.approx(0.3, rel=1e-9)
    assert found.sd_error == pytest.approx(0.1, rel=1e-9)
    assert found.mean_noise == pytest.approx(1 / math.sqrt(1_000))
    assert found.sd_noise == pytest.approx(math.sqrt(0.5 / 1_000))
    assert found.distance is None


def test_sliced_distance_of_a_shift_is_its_mean_projection():
    """For a shift d and unit directions u in 6 dimensions E|uᵀd| = |d| Γ(3)/(√π Γ(3.5))."""
    reference = {"x": draws(4_000)}
    moved = {"x": torch.as_tensor(draws(4_000, shift=0.5))}
    found = sp.compare(moved, reference)["x"]
    expected = 0.5 * math.sqrt(6) * math.gamma(3) / (math.sqrt(math.pi) * math.gamma(3.5))
    # 100 directions: the standard error is about a tenth of the spread of |uᵀd|
    assert found.distance == pytest.approx(expected, rel=0.2)
    assert found.distance > 10 * found.distance_floor
    assert found.mean_error == pytest.approx(0.5, rel=1e-9)


def test_two_sets_from_one_distribution_are_at_the_floor():
    generator = np.random.default_rng(3)
    one, other = ({"x": generator.normal(2.0, 3.0, (2_000, 4))} for _ in range(2))
    found = sp.compare(one, other)["x"]
    # mean of 4 squared standard normals over 4; the rms passes 2 once in 1,500 seeds
    assert found.mean_error < 2 * found.mean_noise
    assert found.sd_error < 2 * found.sd_noise
    assert found.mean_noise == pytest.approx(math.sqrt(2 / 2_000))
    assert 0.5 < found.distance / found.distance_floor < 1.8


def test_the_table_shows_every_site():
    found = sp.compare(
        {"a": draws(100), "b": draws(100)}, {"a": draws(100), "b": draws(90)}, classifier=False
    )
    lines = str(found).splitlines()
    assert [line.split()[0] for line in lines] == ["site", "a", "b", "cannot"]
    assert lines[-1].startswith("cannot tell: too few effective draws: a mean of 'b' could be off by 0.5")


@pytest.mark.parametrize(
    ("mine", "theirs", "message"),
    [
        ({"x": draws(10)}, {"z": draws(10)}, "the sites differ"),
        ({"x": draws(10)[:1]}, {"x": draws(10)}, "site 'x': at least 2 draws"),
        ({"x": draws(10)}, {"x": draws(10)[:, :1]}, "site 'x': 6 numbers against 3"),
        ({"x": draws(10) * np.nan}, {"x": draws(10)}, "site 'x': the draws hold NaN"),
        ({"x": draws(10)}, {"x": np.ones((10, 2, 3))}, "does not vary in 6 numbers"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_wrong_use_is_named(mine, theirs, message):
    with pytest.raises(ValueError, match=message):
        sp.compare(mine, theirs)


@pytest.mark.parametrize("size", [1e9, 1e60])
def test_draws_that_have_diverged_get_a_verdict(size):
    """Not an error of a library that was given numbers too large for it."""
    pytest.importorskip("sklearn")
    reference = {"x": draws(400)}
    found = sp.compare({"x": size * draws(400, stretch=3.0)}, reference)
    assert found.verdict.startswith("do not trust: x: mean")
    assert found["x"].tests.accuracy > 0.95
