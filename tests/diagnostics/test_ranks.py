"""Uniformity of ranks: p-values that are exact, a band that holds what it says, and ArviZ beside it."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from sdeppl.diagnostics.ranks import RankTest, band_p_value, levels_of, ranks_of, simultaneous_band


def test_the_band_s_p_value_is_exact():
    """All 4⁶ samples of six ranks from 0 to 3: P of a p-value up to any p is p itself."""
    levels, total = levels_of(3), 6
    np.testing.assert_allclose(levels, [0.25, 0.5, 0.75])
    of_counts = {}
    for ranks in itertools.product(range(4), repeat=total):
        counts = tuple(int(sum(r < k for r in ranks)) for k in (1, 2, 3))
        of_counts[counts] = of_counts.get(counts, 0) + 1
    found = {c: band_p_value(np.array(c), levels, total) for c in of_counts}
    for p in set(found.values()):
        share = sum(n for c, n in of_counts.items() if found[c] <= p + 1e-12) / 4**total
        assert share == pytest.approx(p, abs=1e-12)


def test_far_out_the_p_value_is_the_union_bound():
    levels = levels_of(99)
    counts = scipy.stats.binom.ppf(0.5, 1000, levels).astype(int)
    counts[10] = 80  # 200 expected
    tail = 2 * scipy.stats.binom.cdf(80, 1000, levels[10])
    assert band_p_value(counts, levels, 1000) == pytest.approx(len(levels) * tail, rel=1e-9)


def test_the_band_is_arviz_s_within_a_count_and_holds_95_percent():
    """Of 4,000 uniform samples between 94% and 96.5% stay inside: 1 in 1,000 fresh seeds fails."""
    ecdf_utils = pytest.importorskip("arviz.stats.ecdf_utils", reason="ArviZ 1 has no such band")
    levels = levels_of(99)
    lower, upper = simultaneous_band(99, 400)
    theirs = ecdf_utils.ecdf_confidence_band(400, levels, levels, 0.95, method="optimized")
    assert np.abs(400 * (lower - theirs[0])).max() < 1.5
    assert np.abs(400 * (upper - theirs[1])).max() < 1.5
    uniform = np.random.default_rng(1).integers(0, 100, (4_000, 400))
    counts = np.stack([(uniform < level * 100).sum(axis=1) for level in np.round(levels, 9)], axis=1)
    inside = ((counts >= 400 * lower - 1e-9) & (counts <= 400 * upper + 1e-9)).all(axis=1).mean()
    assert 0.94 < inside < 0.965


def test_p_values_of_uniform_ranks_have_their_size():
    """Of 1,500 samples, P < 5% in 5% ± 2.2% (of order to 10%), < 1% in < 3%, < 0.1% in < 0.7%."""
    generator = np.random.default_rng(2)
    found = [RankTest.of("r", generator.integers(0, 50, 200), 49, generator) for _ in range(1_500)]
    sizes = {"band_p": 0.072, "chi2_p": 0.072, "pot_p": 0.1, "prit_p": 0.072, "piet_p": 0.072, "p": 0.06}
    for name, most in sizes.items():
        values = np.array([getattr(test, name) for test in found])
        assert (values < 0.05).mean() < most
        assert (values < 0.01).mean() < 0.03 and (values < 0.001).mean() < 0.007
        assert name == "p" or (values < 0.05).mean() > 0.028


@pytest.mark.parametrize(
    ("change", "sign", "what"),
    [(lambda u: u**1.3, -1, "shift"), (lambda u: scipy.stats.beta.ppf(u, 0.7, 0.7), 1, "spread")],
)
def test_ranks_that_are_not_uniform_are_seen(change, sign, what):
    generator = np.random.default_rng(3)
    ranks = np.minimum((change(generator.random(1_000)) * 100).astype(int), 99)
    test = RankTest.of("r", ranks, 99, generator)
    assert max(test.band_p, test.chi2_p, test.pot_p, test.prit_p) < 1e-3 and test.p < 1e-5
    assert sign * getattr(test, what) > 0.05


def test_chi_squared_and_deviation_by_hand():
    ranks = np.repeat([0, 1, 2, 3, 4], [30, 10, 20, 20, 20])
    test = RankTest.of("r", ranks, 4, np.random.default_rng(0))
    expected = scipy.stats.chisquare([30, 10, 20, 20, 20])
    assert test.chi2_p == pytest.approx(expected.pvalue)
    assert test.deviation == pytest.approx(0.1)  # 30 of 100 below 1/5
    assert test.shift == pytest.approx((ranks.mean() - 2) / math.sqrt(2))
    assert test.spread == pytest.approx(ranks.std() / math.sqrt(2) - 1)
    levels, shares = test.shares
    np.testing.assert_allclose(levels, [0.2, 0.4, 0.6, 0.8])
    np.testing.assert_allclose(shares, [0.3, 0.4, 0.6, 0.8])


def test_ties_are_broken_at_random():
    """A truth equal to all of 9 draws ranks anywhere: χ² of 2,000, 1 in 10⁴ fresh seeds fails."""
    ranks = ranks_of(np.zeros(2_000), np.zeros((2_000, 9)), np.random.default_rng(4))
    assert scipy.stats.chisquare(np.bincount(ranks, minlength=10)).pvalue > 1e-4
    fixed = ranks_of(
        np.array([1.0, -1.0]), np.array([[0.0, 2.0, 3.0], [0.0, 2.0, 3.0]]), np.random.default_rng(0)
    )
    np.testing.assert_array_equal(fixed, [1, 0])
