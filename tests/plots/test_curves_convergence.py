"""The picture of errors against steps: its orders are those of the errors."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest

from sdeppl.plots import plot_convergence

SIZES = np.array([4, 8, 16, 32, 64, 128])


@pytest.fixture
def axes():
    figure, made = plt.subplots()
    yield made
    plt.close(figure)


def test_the_orders_are_those_of_the_errors_and_stand_in_the_legend(axes):
    """Powers of the size; the second has a higher term that rules the coarse sizes only."""
    curves = {"half": (SIZES, 0.3 * SIZES**-0.5), "second": (SIZES, SIZES**-2.0 + 20.0 * SIZES**-5.0)}
    orders = plot_convergence(axes, curves, fitted=2)
    assert orders["half"] == pytest.approx(0.5)
    assert orders["second"] == pytest.approx(2.0, abs=1e-3)
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["half: order 0.50", "second: order 2.00"]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["4", "8", "16", "32", "64", "128"]
    assert axes.get_xscale() == axes.get_yscale() == "log"
    for line, (sizes, errors) in zip(axes.get_lines(), curves.values(), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), sizes)
        np.testing.assert_array_equal(line.get_ydata(), errors)


def test_what_cannot_be_drawn_is_refused(axes):
    with pytest.raises(ValueError, match="'a' needs as many errors as sizes"):
        plot_convergence(axes, {"a": ([1, 2, 4], [1.0, 0.5])})
    with pytest.raises(ValueError, match="sizes and errors of 'a' must be positive"):
        plot_convergence(axes, {"a": ([1, 2], [1.0, 0.0])})
    with pytest.raises(ValueError, match="shows 1 to 6 curves; got 7"):
        plot_convergence(axes, {str(k): ([1, 2], [1.0, 0.5]) for k in range(7)})
