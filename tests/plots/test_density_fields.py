"""Rows of images: which scale each has, and what is not observed."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest

from sdeppl.plots import plot_fields


def test_levels_share_one_scale_and_spreads_another_that_starts_at_zero():
    levels = np.arange(24.0).reshape(2, 3, 4) - 5.0
    seen = levels.copy()
    seen[:, 1] = np.nan
    sd = np.full((2, 3, 4), 0.2)
    sd[1, 0, 0] = 0.7
    figure = plt.figure()
    axes = plot_fields(figure, {"observed": seen, "mean": levels + 1.0, "sd": sd}, spreads=["sd"])
    assert axes.shape == (3, 2)
    images = [[panel.images[0] for panel in row] for row in axes]
    for row in (0, 1):
        assert all(image.get_clim() == (-5.0, 19.0) for image in images[row])
    assert all(image.get_clim() == (0.0, 0.7) for image in images[2])
    np.testing.assert_array_equal(images[1][1].get_array(), levels[1] + 1.0)
    np.testing.assert_array_equal(np.ma.getmaskarray(images[0][1].get_array()), np.isnan(seen[1]))
    assert [row[0].get_ylabel() for row in axes] == ["observed", "mean", "sd"]
    plt.close(figure)


def test_a_coarse_row_and_limits_of_ones_own():
    figure = plt.figure()
    rows = {"coarse": np.zeros((3, 2, 2)), "mean": np.ones((3, 4, 4))}
    axes = plot_fields(figure, rows, limits=(-1.0, 2.0))
    assert axes[0, 2].images[0].get_array().shape == (2, 2)
    assert axes[1, 0].images[0].get_clim() == (-1.0, 2.0)
    plt.close(figure)


def test_what_it_cannot_show_is_refused():
    figure = plt.figure()
    with pytest.raises(ValueError, match=r"\(n, height, width\) with one n; got .*'mean': \(4, 4\)"):
        plot_fields(figure, {"mean": np.zeros((4, 4))})
    with pytest.raises(ValueError, match="with one n"):
        plot_fields(figure, {"mean": np.zeros((2, 4, 4)), "sd": np.zeros((3, 4, 4))})
    with pytest.raises(ValueError, match=r"spreads names \['std'\]; the rows are \['mean'\]"):
        plot_fields(figure, {"mean": np.zeros((2, 4, 4))}, spreads=["std"])
    plt.close(figure)
