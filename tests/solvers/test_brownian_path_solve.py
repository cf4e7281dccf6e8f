"""A solve reads its noise off a BrownianPath, forwards and backwards; what a path refuses."""

import math

import numpy as np
import pytest
from checks import array, assert_array, dtype_name

import sdeppl as sp

NUMPY = sp.resolve("numpy")


def test_solve_reads_the_path(backend):
    """Brownian motion from a start of 0.5 is 0.5 + b W(t) on every grid, to rounding."""
    path, sde = sp.BrownianPath(4, cells=30), sp.LinearSDE(a=0.0, b=1.4)
    x = array(np.full((5, 2), 0.5), backend)
    tolerance = 1e-13 if dtype_name(backend) == "float64" else 3e-6
    expected = 0.5 + 1.4 * path.increment(0.0, 0.8, (5, 2), NUMPY)
    for times in (sp.uniform_grid(0.0, 0.8, 24), [0.0, 0.123, 0.8]):
        found = sp.solve(sde, x, times, noise=path, keep="last").states[-1, ...]
        assert_array(found, expected, backend, tolerance)


def test_a_reverse_solve_reads_the_path_backwards():
    """With score 0 and a = 0 the state is b (W(t) - W(1))."""
    path, sde = sp.BrownianPath(4, cells=8), sp.LinearSDE(a=0.0, b=1.4)
    reverse = sp.ReverseSDE(sde, lambda x, t: 0 * x)
    found = sp.solve(reverse, np.zeros((5, 2)), sp.uniform_grid(1.0, 0.25, 6), noise=path)
    expected = [
        1.4 * path.increment(1.0, t, (5, 2), NUMPY) if t < 1 else np.zeros((5, 2)) for t in found.times
    ]
    np.testing.assert_allclose(found.states, expected, atol=1e-14)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed must be a whole number from 0"),
        ({"seed": True}, "seed must be a whole number from 0"),
        ({"start": 1.0}, "start must be below stop"),
        ({"stop": math.inf}, "both finite"),
        ({"cells": 0}, "whole number, at least 1"),
        ({"tolerance": 0.0}, "positive time"),
        ({"tolerance": 1e-15}, "too small for the rounding of times"),
        ({"start": 1e9, "stop": 1e9 + 1}, "too small for the rounding of times"),
    ],
)
def test_bad_paths_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        sp.BrownianPath(**{"seed": 0, **arguments})


def test_bad_queries_are_refused():
    path = sp.BrownianPath(0, tolerance=0.1)  # leaves of 1/16
    stream = path.stream(NUMPY)
    with pytest.raises(ValueError, match=r"covers times from 0 to 1; got 1\.2"):
        stream.increment(0.5, 1.2, (1,))
    with pytest.raises(ValueError, match=r"got t=0\.5 twice"):
        stream.draws(1, 0.5, 0.5, ("wiener",), ((1,),))
    assert stream.increment(0.5, 0.5, (1,)) == 0.0
    with pytest.raises(ValueError, match=r"both inside one leaf of this BrownianPath, of width 0\.0625"):
        stream.increment(0.13, 0.14, (1,))
    stream.increment(0.125, 0.13, (1,))  # from a node into a leaf is exact
    with pytest.raises(ValueError, match=r"area=True"):
        stream.draws(1, 0.0, 1.0, ("wiener", "area"), ((1,), (1,)))
    with pytest.raises(ValueError, match="this solver also draws levy, extra"):
        stream.draws(1, 0.0, 1.0, ("wiener", "levy", "extra"), ((1,),) * 3)
    with pytest.raises(TypeError, match="real floating dtype"):
        sp.solve(sp.LinearSDE(0.0, 1.0), np.zeros((2, 2), dtype=np.int64), [0.0, 1.0], noise=path)
