"""Pictures of calibration: what is drawn is what the tests found."""

import matplotlib
import numpy as np
import pytest

import sdeppl as sp

matplotlib.use("Agg")


@pytest.fixture
def figure():
    import matplotlib.pyplot as plt

    made = plt.figure()
    yield made
    plt.close(made)


def results(numbers):
    generator = np.random.default_rng(0)
    truths = generator.standard_normal((300, numbers))
    draws = 0.7 * generator.standard_normal((300, 19, numbers))
    return sp.Simulations({"x": truths}, {"x": draws})


def test_a_column_for_each_quantity_with_its_band(figure):
    result = sp.sbc(results(2))
    axes = sp.plots.plot_sbc(figure, result)
    assert [a.get_title() for a in axes[:2]] == [f"x[{k}], p = {result[f'x[{k}]'].p:.2g}" for k in (0, 1)]
    levels, shares = result["x[1]"].shares
    line = axes[1].get_lines()[1]
    np.testing.assert_allclose(line.get_xdata()[1:-1], levels)
    np.testing.assert_allclose(line.get_ydata()[1:-1], shares - levels)
    counts = axes[3].patches[0].get_data().values
    assert counts.sum() == 300
    np.testing.assert_array_equal(counts, np.bincount(result["x[1]"].ranks, minlength=20))
    assert "do not trust" in figure.get_suptitle()


def test_of_many_quantities_the_worst_are_shown(figure):
    result = sp.sbc(results(7))
    axes = sp.plots.plot_sbc(figure, result)
    assert len(axes) == 8
    worst = sorted(result.tests, key=lambda test: test.p)[:4]
    assert {a.get_title().split(",")[0] for a in axes[:4]} == {test.name for test in worst}


@pytest.mark.parametrize("test", [sp.tarp, sp.coverage])
def test_coverage_by_level(test, figure):
    result = test(results(2))
    left, right = sp.plots.plot_coverage(figure, result)
    curve = result.worst
    levels, shares = curve.shares
    assert any(
        np.allclose(line.get_ydata(), shares)
        for line in left.get_lines()
        if len(line.get_ydata()) == len(levels)
    )
    assert right.get_legend() is not None
    low, high = curve.band
    assert np.all(low <= high) and np.all((low <= levels) & (levels <= high))
