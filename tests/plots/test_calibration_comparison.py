"""The picture of a comparison: what it draws is what was found."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest

import sdeppl as sp
from sdeppl.plots import plot_comparison


@pytest.fixture
def figure():
    made = plt.figure(figsize=(10, 6), layout="constrained")
    yield made
    plt.close(made)


def pair(shift=0.0):
    rng = np.random.default_rng(0)
    one, other = ({"a": rng.normal(3, 2, 500), "path": rng.standard_normal((500, 50))} for _ in range(2))
    one["a"] = one["a"] + shift
    return sp.compare(one, other, classifier=False)


def test_a_row_for_each_site_with_its_errors(figure):
    found = pair(shift=1.2)
    axes = plot_comparison(figure, found)
    assert len(axes) == 6 and axes[0].get_ylabel() == "a" and axes[3].get_ylabel() == "path"
    bar = axes[0].containers[0]
    np.testing.assert_allclose(bar.lines[0].get_ydata(), found["a"].numbers.mean)
    (segment,) = bar.lines[2][0].get_segments()
    np.testing.assert_allclose(np.diff(segment[:, 1]), 2 * found["a"].numbers.mean_noise)
    many = axes[4].get_lines()[-1]
    np.testing.assert_allclose(many.get_ydata(), 100 * found["path"].numbers.sd)
    levels = [line.get_ydata() for line in axes[2].get_lines() if len(line.get_ydata()) == 11]
    np.testing.assert_allclose(levels[0], found["a"].numbers.quantile[:, 0])
    assert figure.get_suptitle().startswith("do not trust: a: mean off by +0.")
    assert f"p = {found['a'].tests.energy_p:.3f}" in axes[2].get_title()


def test_moments_alone_and_many_sites(figure):
    rng = np.random.default_rng(1)
    draws = {f"x{k}": rng.standard_normal(2_000) + 0.2 * (k == 3) for k in range(6)}
    found = sp.compare(draws, {name: sp.reference.Exact(0.0, 1.0) for name in draws})
    axes = plot_comparison(figure, found)
    assert len(axes) == 12 and "x3" in [a.get_ylabel() for a in axes]
    assert axes[2].texts[0].get_text() == "the reference has no draws"
