"""The picture and the animation of trajectories with their densities. Seed 0."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

import sdeppl as sp
from sdeppl.backend import place
from sdeppl.plots import animate_trajectories, plot_trajectories
from sdeppl.plots.density import level_holding

SDE = sp.LinearSDE(a=1.0, b=0.8)
TIMES = [1.0, 0.7, 0.4, 0.1]  # falling, as of a reverse SDE


def prior(dim, backend):
    array = lambda numbers: place(np.array(numbers), backend)  # noqa: E731
    means, covariances = np.full((1, dim), 0.5), 0.3 * np.eye(dim)[None]
    return sp.GaussianMixtureDenoiser(SDE, array([1.0]), array(means), array(covariances))


def spread(t):
    return np.sqrt(SDE.alpha(t) ** 2 * 0.3 + SDE.sigma(t) ** 2)


@pytest.fixture
def figure():
    made = plt.figure(layout="constrained")
    yield made
    plt.close(made)


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_trajectories_run_left_to_right_as_solved_between_histograms_and_densities(figure, library):
    backend = sp.resolve(library)
    states = np.random.default_rng(0).standard_normal((4, 50, 1))
    left, middle, right = plot_trajectories(
        figure, TIMES, place(states, backend), prior(1, backend).log_density, shown=3, span=(-5.0, 4.0)
    )
    assert middle.get_xlim() == (1.0, 0.1)
    assert middle.get_ylim() == (-5.0, 4.0)
    assert len(middle.get_lines()) == 3
    for k, line in enumerate(middle.get_lines()):
        np.testing.assert_array_equal(line.get_ydata(), states[:, k, 0])
    (mesh,) = middle.collections
    image = np.reshape(np.ravel(mesh.get_array()), (200, 4))
    np.testing.assert_allclose(image.max(axis=0), 1.0)
    for axes, k in ((left, 0), (right, -1)):
        (line,) = axes.get_lines()
        exact = norm(0.5 * SDE.alpha(TIMES[k]), spread(TIMES[k])).pdf(line.get_ydata())
        np.testing.assert_allclose(line.get_xdata(), exact, rtol=1e-10)
        (steps,) = axes.patches
        values, edges, _ = steps.get_data()
        np.testing.assert_allclose(values * 50 * np.diff(edges), np.histogram(states[k, :, 0], edges)[0])
    assert [axes.get_title() for axes in (left, right)] == ["t = 1", "t = 0.1"]
    figure.canvas.draw()


def test_without_a_density_there_are_paths_and_histograms_only(figure):
    states = np.random.default_rng(0).standard_normal((4, 50, 1))
    left, middle, right = plot_trajectories(figure, TIMES, states)
    assert not left.get_lines() and not right.get_lines() and not middle.collections
    assert len(middle.get_lines()) == 12
    low, high = middle.get_ylim()
    assert low < states[[0, -1]].min() and states[[0, -1]].max() < high


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_each_frame_of_the_animation_shows_the_states_of_its_time(figure, tmp_path, library):
    """Contours in the plane are circles of the radius that holds 50 and 95 % of the law."""
    backend = sp.resolve(library)
    states = np.random.default_rng(0).standard_normal((4, 300, 2))
    made = animate_trajectories(
        figure, TIMES, place(states, backend), prior(2, backend).log_density, frames=3, shown=200
    )
    assert list(made.new_frame_seq()) == [0, 2, 3]
    (axes,) = made._func(2)
    assert axes.get_title(loc="left") == "t = 0.40"
    (dots,) = axes.get_lines()
    np.testing.assert_array_equal(dots.get_xdata(), states[2, :200, 0])
    half, most = sorted(axes.collections[0].levels)[::-1]
    peak = multivariate_normal([0, 0], spread(0.4) ** 2 * np.eye(2)).pdf([0, 0])
    assert half == pytest.approx(0.5 * peak, rel=0.03)  # p_max (1 - share) in the plane
    assert most == pytest.approx(0.05 * peak, rel=0.1)
    spans = axes.get_xlim(), axes.get_ylim()
    (axes,) = made._func(3)
    assert (axes.get_xlim(), axes.get_ylim()) == spans
    made.save(tmp_path / "moving.gif", writer="pillow")
    assert (tmp_path / "moving.gif").read_bytes().startswith(b"GIF8")


def test_an_animation_on_a_line_shows_histogram_and_density(figure, tmp_path):
    states = np.random.default_rng(0).standard_normal((4, 300, 1))
    made = animate_trajectories(figure, TIMES, states, prior(1, sp.resolve("numpy")).log_density, frames=2)
    (axes,) = made._func(3)
    (line,) = axes.get_lines()
    exact = norm(0.5 * SDE.alpha(0.1), spread(0.1)).pdf(line.get_xdata())
    np.testing.assert_allclose(line.get_ydata(), exact, rtol=1e-10)
    values, edges, _ = axes.patches[0].get_data()
    np.testing.assert_allclose(values * 300 * np.diff(edges), np.histogram(states[3, :, 0], edges)[0])
    made.save(tmp_path / "moving.gif", writer="pillow")


def test_what_does_not_fit_is_refused(figure):
    with pytest.raises(ValueError, match=r"states \(times, n, 1\) with 4 times; got \(4, 9, 2\)"):
        plot_trajectories(figure, TIMES, np.ones((4, 9, 2)))
    with pytest.raises(ValueError, match=r"states \(times, n, 1 or 2\) with 4 times; got \(3, 9, 2\)"):
        animate_trajectories(figure, TIMES, np.ones((3, 9, 2)))
    with pytest.raises(ValueError, match="frames must be a whole number from 2 to 100000; got 1"):
        animate_trajectories(figure, TIMES, np.ones((4, 9, 2)), frames=1)


def test_levels_of_the_contours_are_those_of_the_density_picture():
    assert level_holding(np.array([[4.0, 3.0], [2.0, 1.0]]), 0.65) == 3.0
