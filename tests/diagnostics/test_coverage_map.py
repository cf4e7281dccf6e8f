"""Maps of coverage: shares that are known, what chance does to them, intervals that are wrong in places."""

import numpy as np
import pytest

import sdeppl as sp

SHAPE = (6, 7)


def pairs(sets, draws, seed, width=1.0):
    """Truths and draws of N(m, (3 width)²), each data set with its own m at each number."""
    rng = np.random.default_rng(seed)
    m = 5 * rng.standard_normal((sets, 1, *SHAPE))
    truths = m[:, 0] + 3 * rng.standard_normal((sets, *SHAPE))
    return truths, m + 3 * width * rng.standard_normal((sets, draws, *SHAPE))


@pytest.mark.parametrize(("draws", "wanted", "level"), [(99, 0.9, 0.9), (19, 0.9, 0.9), (50, 0.5, 25 / 51)])
def test_the_share_is_the_level_that_so_many_draws_have(draws, wanted, level):
    """The mean over 42 independent numbers of 400 data sets to 5 standard errors: seed 1."""
    found = sp.coverage_map(pairs(400, draws, 1), level=wanted)
    assert found.level == pytest.approx(level) and found.trusted
    assert found.mean == pytest.approx(level, abs=5 * np.sqrt(level * (1 - level) / 400 / 42))
    assert found.share.shape == SHAPE and found.noise == pytest.approx(np.sqrt(level * (1 - level) / 400))


def test_right_intervals_are_mistrusted_seldom():
    """p < .05 in 5% of 100 maps at most, and 5 standard errors; seeds 0 to 99."""
    found = [sp.coverage_map(pairs(60, 39, seed)).p for seed in range(100)]
    assert np.count_nonzero(np.array(found) < 0.05) <= 5 + 5 * np.sqrt(4.75) and min(found) > 1e-5


def test_narrow_intervals_in_a_corner_are_found_there():
    truths, draws = pairs(300, 99, 2)
    draws[:, :, :2, :2] = draws[:, :, :2, :2].mean(axis=1, keepdims=True) * 0.5 + draws[:, :, :2, :2] * 0.5
    found = sp.coverage_map((truths, draws))
    assert not found.trusted and found.worst[0] < 2 and found.worst[1] < 2
    assert "do not trust" in str(found) and "too narrow" in str(found)


def test_a_small_error_everywhere_is_found_by_the_mean():
    """Intervals 8% too narrow: 2.6% too few, which no single number shows."""
    found = sp.coverage_map(pairs(1_000, 99, 3, width=0.92))
    assert not found.trusted and abs(found.mean - 0.9) < 0.04


def test_one_data_set_against_a_reference():
    """The mass of the interval of 99 draws is itself random, Beta(90, 10): shares spread as both together."""
    rng = np.random.default_rng(4)
    found = sp.coverage_map(rng.standard_normal((99, 50, 40)), rng.standard_normal((400, 50, 40)))
    expected = np.sqrt(0.09 / 400 + 90 * 10 / 100**2 / 101)
    assert found.noise == pytest.approx(expected) and found.share.std() == pytest.approx(expected, rel=0.08)
    assert np.isnan(found.mean_noise) and found.trusted
    off = sp.coverage_map(rng.standard_normal((999, 5, 5)) + 1.0, rng.standard_normal((900, 5, 5)))
    assert not off.trusted


def test_simulations_of_a_posterior_are_taken_as_they_are():
    truths, draws = pairs(60, 39, 5)
    simulations = sp.Simulations({"field": truths}, {"field": draws}, None, {}, 0, "by hand")
    np.testing.assert_array_equal(sp.coverage_map(simulations).share, sp.coverage_map((truths, draws)).share)


def test_what_does_not_fit_is_refused():
    truths, draws = pairs(20, 30, 6)
    with pytest.raises(ValueError, match=r"truths of shape \(19, 6, 7\) and draws of shape \(20, 30, 6, 7\)"):
        sp.coverage_map((truths[:19], draws))
    with pytest.raises(ValueError, match="10 draws and 10 truths are the least; got 5 and 20"):
        sp.coverage_map((truths, draws[:, :5]))
    with pytest.raises(TypeError, match="takes Simulations, "):
        sp.coverage_map(draws)
    with pytest.raises(ValueError, match="level is a share"):
        sp.coverage_map((truths, draws), level=90)
