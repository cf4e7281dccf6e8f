"""Pictures of a field's posterior: panels, scales, names; and maps of coverage."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest

import sdeppl as sp
from sdeppl.plots import plot_coverage_map, plot_field

RNG = np.random.default_rng(0)
DRAWS = 3.0 + 2.0 * RNG.standard_normal((40, 6, 9))
TRUTH = 3.0 + 2.0 * RNG.standard_normal((6, 9))


@pytest.fixture
def figure():
    made = plt.figure(layout="constrained")
    yield made
    made.draw_without_rendering()
    plt.close(made)


def titles(row):
    return [panel.get_title() for panel in row]


def test_two_axes_are_images_that_share_a_scale(figure):
    seen = np.where(np.arange(9) < 4, TRUTH, np.nan)
    axes = plot_field(figure, DRAWS, truth=TRUTH, observed=seen, shown=1)
    assert axes.shape == (1, 5)
    assert titles(axes[0]) == ["truth", "observed", "mean", "draw 1", "standard deviation"]
    meshes = [panel.collections[0] for panel in axes[0]]
    scales = {mesh.get_clim() for k, mesh in enumerate(meshes) if k != 4}
    assert len(scales) == 1 and meshes[4].get_clim() == (0.0, pytest.approx(DRAWS.std(axis=0, ddof=1).max()))
    np.testing.assert_allclose(np.asarray(meshes[2].get_array()), DRAWS.mean(axis=0))
    np.testing.assert_array_equal(np.ma.getmaskarray(meshes[1].get_array()), np.isnan(seen))
    assert axes[0, 0].yaxis.get_inverted()  # rows count downward, as an image's do


def test_few_observations_are_dots_of_the_truth(figure):
    mask = np.zeros((6, 9), dtype=bool)
    mask[2, 3] = mask[5, 8] = True
    dots = plot_field(figure, DRAWS, truth=TRUTH, observed=mask)[0, 1].collections[0]
    np.testing.assert_array_equal(dots.get_offsets(), [[3, 2], [8, 5]])
    np.testing.assert_array_equal(dots.get_array(), TRUTH[mask])


def test_names_and_coordinates_of_a_data_array(figure):
    xr = pytest.importorskip("xarray")
    lat = np.linspace(-50.0, 50.0, 6)
    draws = xr.DataArray(DRAWS, dims=("draw", "lat", "lon"), coords={"lat": lat})
    axes = plot_field(figure, draws, sp.Grid(periodic=(False, True)))
    assert axes[0, 0].get_ylabel() == "lat" and axes[0, 0].get_xlabel() == "lon (periodic)"
    assert axes[0, 0].get_ylim() == (-60.0, 60.0)  # edges of cells about the latitudes, upward


def test_one_axis_is_lines_with_a_band(figure):
    axes = plot_field(figure, DRAWS[:, 0], sp.Grid(periodic=True), truth=TRUTH[0], observed=TRUTH[0] > 3)
    panel = axes[0, 0]
    assert axes.shape == (1, 1) and panel.get_xlabel() == "(periodic)"
    band = panel.collections[0].get_paths()[0].vertices
    low, high = np.quantile(DRAWS[:, 0, 4], [0.05, 0.95])
    np.testing.assert_allclose(sorted(band[band[:, 0] == 4, 1]), [low, high])
    assert len(panel.lines) == 5  # two draws, mean, truth, observed


def test_channels_are_rows_and_three_axes_a_slice(figure):
    two = plot_field(figure.add_subfigure(figure.add_gridspec(2, 1)[0]), DRAWS[:, None] * [[[1.0]], [[5.0]]],
                     sp.Grid(channels=1))  # fmt: skip
    assert two.shape == (2, 4)
    solid = RNG.standard_normal((10, 4, 6, 9))
    three = plot_field(figure.add_subfigure(figure.add_gridspec(2, 1)[1]), solid, shown=1)
    assert titles(three[0])[0] == "mean at the first axis = 2"
    mean = np.asarray(three[0, 0].collections[0].get_array())
    np.testing.assert_allclose(mean, solid.mean(axis=0)[2])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"draws": DRAWS[0, 0]}, r"\(n, \*shape\) with 2 or more; got shape \(9,\)"),
        ({"draws": DRAWS, "truth": TRUTH[0]}, r"truth must have the site's shape \(6, 9\); got \(9,\)"),
        ({"draws": DRAWS, "observed": TRUTH > 0}, "the truth that was observed there is not given"),
        ({"draws": DRAWS, "layout": sp.Grid(channels=1, periodic=(True, True))}, "has 1 axes"),
    ],
)
def test_what_it_cannot_show_is_refused(figure, arguments, words):
    with pytest.raises(ValueError, match=words):
        plot_field(figure, **arguments)


def test_a_map_of_coverage(figure):
    truths, draws = RNG.standard_normal((50, 6, 9)), RNG.standard_normal((50, 39, 6, 9))
    found = sp.coverage_map((truths, draws))
    image, bars = plot_coverage_map(figure, found)
    np.testing.assert_array_equal(image.images[0].get_array(), found.share)
    low, high = image.images[0].get_clim()
    assert low + high == pytest.approx(2 * found.level) and bars.get_xlabel() == "share"
