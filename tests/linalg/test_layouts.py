"""What a layout says of a site's shape, and what it refuses."""

import pytest

from sdeppl import Grid
from sdeppl.linalg import FieldShape


@pytest.mark.parametrize(
    ("grid", "shape", "field"),
    [
        (Grid(), (5,), FieldShape(1, (5,), (False,))),
        (Grid(periodic=True), (4, 6), FieldShape(1, (4, 6), (True, True))),
        (Grid(channels=1, periodic=[True, False]), (3, 4, 6), FieldShape(3, (4, 6), (True, False))),
    ],
    ids=["line", "torus", "channels"],
)
def test_a_shape_is_read_as_channels_and_axes(grid, shape, field):
    assert grid.of(shape) == field
    assert field.size == shape[0] * (shape[1] if len(shape) > 1 else 1) * (shape[2] if len(shape) > 2 else 1)


@pytest.mark.parametrize(
    ("grid", "shape", "words"),
    [
        (Grid(), (), "expected \\(n_1"),
        (Grid(channels=1), (7,), "expected \\(channels, n_1"),
        (Grid(), (2, 3, 4, 5), "one to three axes"),
        (Grid(periodic=(True, False)), (4, 4, 4), "has 3 axes"),
    ],
    ids=["number", "no axes", "four axes", "periodic"],
)
def test_a_shape_that_does_not_fit_is_refused(grid, shape, words):
    with pytest.raises(ValueError, match=words):
        grid.of(shape)


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"channels": 3}, ValueError, "not how many channels there are"),
        ({"periodic": "yes"}, TypeError, "periodic must be True or False"),
        ({"boundary": "zero"}, ValueError, "boundary must be one of"),
        ({"covariance": "sparse"}, ValueError, "covariance must be one of"),
        ({"rank": 0}, ValueError, "Grid: rank"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_settings_out_of_range_are_refused_by_name(settings, error, words):
    with pytest.raises(error, match=words):
        Grid(**settings)
