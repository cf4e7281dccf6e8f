"""ArviZ's tests of uniformity against ArviZ's own, and what each of them sees."""

import math

import numpy as np
import pytest

from sdeppl.diagnostics.ranks import RankTest, piet_c, pot_c, prit_c

EVEN = (np.arange(1, 201) * 0.6180339887498949) % 1
ENDS = np.concatenate([EVEN[:197], [1e-6, 1 - 1e-7, 1e-9]])


@pytest.mark.parametrize(
    ("u", "expected"),
    [  # of arviz_stats 1.3.3, array_stats.uniformity_test(u, method=...), which needs Python 3.12
        (EVEN, (0.5, 0.5, 0.6101477963101262)),
        (EVEN**1.3, (0.008280968421212676, 0.008280968421212676, 0.19456370744122764)),
    ],
)
def test_the_p_values_are_arviz_s(u, expected):
    found = [test(u) for test in (pot_c, prit_c, piet_c)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_arviz_itself_where_it_is_new_enough():
    array_stats = pytest.importorskip("arviz_stats.base", reason="arviz_stats").array_stats
    if not hasattr(array_stats, "uniformity_test"):
        pytest.skip("arviz_stats before 1.0 has no uniformity_test")
    u = np.random.default_rng(0).beta(0.8, 1.0, 300)
    for test in (pot_c, prit_c, piet_c):
        assert test(u) == pytest.approx(
            float(array_stats.uniformity_test(u, method=test.__name__)[0]), rel=1e-9
        )


def test_single_numbers_near_an_end_by_hand():
    """Two p-values, .02 and .5: ½ - arctan(mean of tan(.48 π) and tan 0) / π."""
    expected = 0.5 - math.atan(0.5 * math.tan(0.48 * math.pi)) / math.pi
    assert piet_c(np.array([0.01, 0.25])) == pytest.approx(expected, rel=1e-12)
    assert piet_c(np.array([0.99, 0.75])) == pytest.approx(expected, rel=1e-12)
    assert piet_c(ENDS) == pytest.approx(200 * 2e-9, rel=0.02)  # the smallest p, for each number


def test_a_small_p_value_keeps_its_digits():
    """Half of the range is empty: far below what 1 - P(...) in float64 can say."""
    assert 0 < pot_c(0.25 + 0.5 * EVEN) < 1e-20 and 0 < prit_c(0.25 + 0.5 * EVEN) < 1e-20


def test_sets_that_are_far_off_are_seen_one_by_one():
    """Of 1,000 ranks among 9,999 draws four are at an end, which no band and no bin of 50 sees."""
    generator = np.random.default_rng(5)
    ranks = generator.integers(0, 10_000, 1_000)
    fair = RankTest.of("r", ranks, 9_999, generator)
    ranks[:4] = [0, 9_999, 0, 9_999]
    found = RankTest.of("r", ranks, 9_999, generator)
    assert fair.p > 0.01 and found.piet_p < 0.02 and min(found.band_p, found.chi2_p) > 0.05
