"""The picture of densities over time, in one and two dimensions."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

import sdeppl as sp
from sdeppl.backend import place
from sdeppl.plots import plot_density
from sdeppl.plots.density import level_holding

TIMES = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]


def one_dimension(backend="numpy"):
    grid = sp.FokkerPlanckGrid(sp.LinearSDE(1.0, 0.8), -3.0, 3.0, 60, backend)
    start = place(norm(0.5, 0.3).pdf(np.linspace(-2.95, 2.95, 60)), grid.backend)
    return grid, grid.solve(start, TIMES)


@pytest.fixture
def figure():
    made = plt.figure(layout="constrained")
    yield made
    plt.close(made)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_one_dimension_shows_the_image_the_densities_and_the_histograms(figure, backend):
    grid, densities = one_dimension(backend)
    paths = np.full((7, 10, 1), 0.25)
    paths[:, 5:] = -1.0
    image, *sides = plot_density(figure, grid, densities, TIMES, place(paths, grid.backend))
    assert [axes.get_title() for axes in sides] == ["t = 0.2", "t = 0.4", "t = 0.6"]
    (mesh,) = image.collections
    np.testing.assert_allclose(np.ravel(mesh.get_array()), np.ravel(np.asarray(densities).T))
    for axes, k in zip(sides, (2, 4, 6), strict=True):
        (line,) = axes.get_lines()
        np.testing.assert_allclose(line.get_xdata(), densities[k])
        assert line.get_ydata()[0] == pytest.approx(-2.95)
        (steps,) = axes.patches  # half of the paths in each of two bins of width 0.1
        values, edges, _ = steps.get_data()
        assert np.sum(values * np.diff(edges)) == pytest.approx(1.0)
        assert sorted(values)[-2:] == pytest.approx([5.0, 5.0])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["paths", "Fokker–Planck"]
    # four paths and one dotted line for each panel
    assert len(image.get_lines()) == 4 + 3
    figure.canvas.draw()


def test_two_dimensions_show_contours_over_the_paths(figure):
    sde = sp.LinearSDE(1.0, 0.8)
    grid = sp.FokkerPlanckGrid(sde, -3.0, 3.0, (40, 50), "numpy")
    densities = grid.solve(multivariate_normal([0.3, -0.4], 0.1).pdf(grid.centres), TIMES)
    paths = np.random.default_rng(0).standard_normal((7, 3000, 2))
    panels = plot_density(figure, grid, densities, TIMES, paths, shown=[1, 6])
    assert [axes.get_title() for axes in panels] == ["t = 0.1", "t = 0.6"]
    for axes, k in zip(panels, (1, 6), strict=True):
        (dots,) = axes.get_lines()
        np.testing.assert_array_equal(dots.get_xdata(), paths[k, :2000, 0])
        levels = axes.collections[0].levels
        assert list(levels) == sorted(level_holding(densities[k], s) for s in (0.5, 0.8, 0.95))
        # the widest contour is nearly the circle that holds 95 % of the law
        points = np.concatenate([path.vertices for path in axes.collections[0].get_paths()[:1]])
        alpha, sigma = sde.alpha(TIMES[k]), sde.sigma(TIMES[k])
        radius = np.sqrt(-2 * np.log(0.05) * (alpha**2 * 0.1 + sigma**2))
        distances = np.hypot(*(points - alpha * np.array([0.3, -0.4])).T)
        np.testing.assert_allclose(distances, radius, rtol=0.06)
    figure.canvas.draw()


def test_the_level_that_holds_a_share():
    """Of a Gaussian in the plane, the height p_max (1 - share)."""
    axis = np.linspace(-6, 6, 401)
    density = multivariate_normal([0, 0], np.eye(2)).pdf(np.stack(np.meshgrid(axis, axis), axis=-1))
    for share in (0.5, 0.8, 0.95):
        assert level_holding(density, share) == pytest.approx(density.max() * (1 - share), rel=2e-3)


def test_what_does_not_fit_is_refused(figure):
    grid, densities = one_dimension()
    with pytest.raises(ValueError, match=r"expected densities \(times, \*cells\) = \(7, 60\); got \(6, 60\)"):
        plot_density(figure, grid, densities[1:], TIMES)
    with pytest.raises(ValueError, match=r"with 7 times and dim 1; got \(6, 10, 1\)"):
        plot_density(figure, grid, densities, TIMES, np.ones((6, 10, 1)))
