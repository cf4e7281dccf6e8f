"""The training curve: running mean, the Gaussian part's loss, and the loss on fresh draws."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest

import sdeppl as sp
from sdeppl.plots import plot_training


@pytest.fixture
def axes():
    figure, made = plt.subplots()
    yield made
    plt.close(figure)


def test_the_curve_shows_the_losses_their_running_mean_and_the_gain(axes):
    losses = [1.2, 1.0, 0.8, 0.6, 0.4]
    plot_training(axes, losses, sp.Gain(mean=0.5, standard_error=0.01), window=3)
    each, mean, gaussian, fresh = axes.get_lines()
    np.testing.assert_array_equal(each.get_ydata(), losses)
    # of what there is at first, then of three
    np.testing.assert_allclose(mean.get_ydata(), [1.2, 1.1, 1.0, 0.8, 0.6])
    np.testing.assert_array_equal(mean.get_xdata(), [1, 2, 3, 4, 5])
    assert set(gaussian.get_ydata()) == {1.0}
    assert set(fresh.get_ydata()) == {0.5}
    (band,) = axes.patches
    assert (band.get_y(), band.get_height()) == pytest.approx((0.47, 0.06))


def test_without_a_gain_there_is_no_band(axes):
    plot_training(axes, [1.0])
    assert len(axes.get_lines()) == 3 and not axes.patches


def test_no_losses_are_refused(axes):
    with pytest.raises(ValueError, match=r"losses must be a list of finite numbers, one a step; got \[\]"):
        plot_training(axes, [])
