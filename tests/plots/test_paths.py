"""Bands and the picture of a trajectory's posterior. Seed 0."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest

from sdeppl.plots import Band, plot_paths


def test_a_band_of_normal_draws_is_the_normal_band():
    generator = np.random.default_rng(0)
    mean, sd = np.array([3.0, -1.0]), np.array([2.0, 0.5])
    found = Band.of_draws(mean + sd * generator.standard_normal((200_000, 2)), level=0.9)
    exact = Band.of_normal(mean, sd, level=0.9)
    np.testing.assert_allclose(exact.high - mean, 1.6448536 * sd, rtol=1e-6)
    # a 5% quantile of 200,000 normal draws has a standard error of 0.005 sd; 4 of them
    for edge in ("mean", "low", "high"):
        assert np.abs((getattr(found, edge) - getattr(exact, edge)) / sd).max() < 0.02


def test_the_picture_shows_each_band_the_data_and_the_draws():
    times = np.arange(5.0)
    band = Band(times, times - 1, times + 1)
    figure, axes = plt.subplots()
    plot_paths(axes, times, {"ours": band, "exact": band}, times, np.ones((3, 5)), gaps=[(1.0, 2.0)])
    labels = axes.get_legend_handles_labels()[1]
    assert labels == ["ours", "exact", "observed"]
    # 3 draws, two edges of the second band, two means, the data
    assert len(axes.get_lines()) == 3 + 2 + 2 + 1
    np.testing.assert_array_equal(axes.get_lines()[-1].get_ydata(), times)
    plt.close(figure)


def test_more_bands_than_colours_are_refused():
    band = Band(np.ones(2), np.ones(2), np.ones(2))
    figure, axes = plt.subplots()
    with pytest.raises(ValueError, match="at most 4 bands; got 5"):
        plot_paths(axes, [0, 1], {str(k): band for k in range(5)}, [0, 1])
    plt.close(figure)
