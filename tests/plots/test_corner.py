"""The corner plot: what its contours hold, and which numbers it shows. Seed 0."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.path import Path

from sdeppl.plots import plot_corner

COVARIANCE = np.array([[4.0, 1.2], [1.2, 0.5]])


def normal_draws(count, seed):
    generator = np.random.default_rng(seed)
    return generator.multivariate_normal([3.0, -1.0], COVARIANCE, count)


def inside(axes, which, points):
    """The share of points inside each contour of one set, from the outermost on."""
    lines = [c for c in axes.collections if c.get_linewidths()[0] == 1.3]
    return [Path(path.vertices).contains_points(points).mean() for path in lines[which].get_paths()]


def test_contours_hold_the_shares_that_are_stated_of_both_sets_of_draws():
    mine, theirs = normal_draws(50_000, 0), normal_draws(50_000, 1) + np.array([1.0, 0.0])
    figure = plt.figure()
    grid = plot_corner(figure, {"z": mine}, {"z": theirs})
    # shares of 50,000 draws are known to 0.002; 1% lie outside the axes, and cells are as wide as 0.01
    np.testing.assert_allclose(inside(grid[1, 0], 0, mine), [0.9, 0.5], atol=0.015)
    np.testing.assert_allclose(inside(grid[1, 0], 1, theirs), [0.9, 0.5], atol=0.015)
    assert inside(grid[1, 0], 1, mine)[1] < 0.45  # the reference's contour is not about our draws
    plt.close(figure)


def test_histograms_are_densities_on_the_diagonal():
    figure = plt.figure()
    grid = plot_corner(figure, {"a": normal_draws(20_000, 0)[:, 0], "b": normal_draws(20_000, 0)[:, 1]})
    for k, sd in enumerate(np.sqrt(np.diag(COVARIANCE))):
        heights, edges, _ = grid[k, k].patches[0].get_data()
        mean, peak = (3.0, -1.0)[k], 1 / (sd * np.sqrt(2 * np.pi))
        exact = peak * np.exp(-0.5 * ((0.5 * (edges[1:] + edges[:-1]) - mean) / sd) ** 2)
        # a cell at the top holds 1,000 of 20,000 draws: 3% each, 40 cells
        np.testing.assert_allclose(heights, exact, atol=0.12 * peak)
    plt.close(figure)


def test_numbers_are_chosen_and_labelled():
    sites = {"mu": np.arange(9.0), "theta": np.arange(36.0).reshape(9, 2, 2)}
    figure = plt.figure()
    grid = plot_corner(figure, sites, numbers=["theta[1,0]", "mu"], labels={"mu": "μ"})
    assert grid[0, 1] is None
    assert [grid[1, k].get_xlabel() for k in (0, 1)] == ["theta[1,0]", "μ"]
    assert grid[1, 0].get_ylabel() == "μ"
    plt.close(figure)


def test_what_it_cannot_show_is_named():
    figure = plt.figure()
    with pytest.raises(KeyError, match=r"'theta\[2\]' is not among the draws"):
        plot_corner(figure, {"theta": np.zeros((9, 2))}, numbers=["theta[2]"])
    with pytest.raises(KeyError, match="'mu' is not among the reference"):
        plot_corner(figure, {"mu": np.zeros(9)}, {"nu": np.zeros(9)})
    with pytest.raises(ValueError, match="11 numbers do not fit"):
        plot_corner(figure, {"z": np.zeros((9, 11))})
    plt.close(figure)
