"""BrownianPath: its law, and that it is one path however it is read.

Monte Carlo thresholds: at most 70 statistics a test, each standard normal, bounded by 5.4: false alarms below
1e-5 a test.
"""

import itertools
import math

import numpy as np
import pytest
from checks import assert_array, dtype_name, host

import sdeppl as sp
from sdeppl.backend import keyed_normal
from sdeppl.solvers import brownian
from sdeppl.solvers.brownian import Piece, join

NUMPY = sp.resolve("numpy")
BOUND = 5.4
IRREGULAR = [0.0, 0.137, 1 / 3, 0.52, 0.9, 1.0]  # of the interval; 0.137 and 0.52 are no nodes
PATHS = {
    "cells=1": sp.BrownianPath(5, area=True),
    "cells=3": sp.BrownianPath(6, cells=3, area=True),
    "cells=1000, elsewhere": sp.BrownianPath(7, start=-2.0, stop=1.5, cells=1000, area=True),
    "wide leaves": sp.BrownianPath(8, cells=3, tolerance=0.2, area=True),
    "without area": sp.BrownianPath(9, cells=7),
}
EACH_PATH = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)


def scaled_times(path, times):
    return [path.start + (path.stop - path.start) * t for t in times]


def pieces(path, times, shape, backend=NUMPY):
    stream = path.stream(backend)
    return [stream.between(s, t, shape) for s, t in itertools.pairwise(times)]


def total(parts):
    whole = parts[0]
    for part in parts[1:]:
        whole = join(whole, part)
    return whole


def assert_same(found, expected, tolerance=1e-14):
    assert found.length == pytest.approx(expected.length, rel=1e-12)
    np.testing.assert_allclose(host(found.W), host(expected.W), atol=tolerance)
    assert (found.H is None) == (expected.H is None)
    if expected.H is not None:
        np.testing.assert_allclose(host(found.H), host(expected.H), atol=tolerance)


# ---- The law ------------------------------------------------------------------------------------


@EACH_PATH
def test_increments_and_areas_have_their_law(path):
    """Over five intervals with unequal, partly non-node ends: means 0, variances, no correlation."""
    n, times = 60_000, scaled_times(path, IRREGULAR)
    found = pieces(path, times, (n,))
    rows = [piece.W / np.sqrt(t - s) for piece, (s, t) in zip(found, itertools.pairwise(times), strict=True)]
    if path.area:
        rows += [piece.H * np.sqrt(12 / piece.length) for piece in found]
    x = np.stack(rows)
    assert np.max(np.abs(np.mean(x, axis=1))) * math.sqrt(n) < BOUND
    excess = x @ x.T / n - np.eye(len(x))
    assert np.max(np.abs(excess - np.diag(np.diag(excess)))) * math.sqrt(n) < BOUND
    assert np.max(np.abs(np.diag(excess))) * math.sqrt(n / 2) < BOUND


def test_u_and_z_are_the_mean_height_of_the_path():
    """Mean over [s, t] of W_r - W_s is √h (z/2 + u/√12), forward and backward, against 2¹¹ fine increments.

    The trapezoidal rule misses the areas of the fine steps, of standard deviation h/(√12 2¹¹).
    """
    path, fine = sp.BrownianPath(2, area=True), 2**11
    stream = path.stream(NUMPY)
    for s, t in ((0.25, 0.75), (0.75, 0.25)):
        z, u = stream.draws(1, s, t, ("wiener", "area"), ((40,), (40,)))
        grid = sp.uniform_grid(s, t, fine)
        steps = np.stack([stream.increment(a, b, (40,)) for a, b in itertools.pairwise(grid)])
        heights = np.concatenate([np.zeros((1, 40)), np.cumsum(steps, axis=0)])
        mean = np.mean(0.5 * (heights[1:] + heights[:-1]), axis=0)
        np.testing.assert_allclose(heights[-1], math.sqrt(0.5) * z, atol=1e-13)
        np.testing.assert_allclose(
            mean, math.sqrt(0.5) * (z / 2 + u / math.sqrt(12)), atol=5 * 0.5 / fine / math.sqrt(12)
        )


def test_other_seeds_and_noise_are_other_draws():
    """No correlation of both halves of the path between seeds, nor with the start that Noise draws."""
    n = 100_000
    rows = [
        sp.BrownianPath(seed).increment(0.0, end, (n,), NUMPY) for seed in (0, 1, 2**63) for end in (0.5, 1.0)
    ]
    rows = [rows[0], rows[1] - rows[0], rows[2], rows[3] - rows[2], rows[4], rows[5] - rows[4]]
    x = np.stack([*(row * math.sqrt(2) for row in rows), sp.Noise(0).stream(NUMPY).normal(0, (n,))])
    excess = np.abs(x @ x.T / n - np.eye(len(x))) * math.sqrt(n)
    assert np.max(excess / np.where(np.eye(len(x)), math.sqrt(2), 1.0)) < BOUND


def test_every_name_has_its_own_normals():
    names = [(0, 0), (1, 0), (0, 1), (2**64 - 1, 0), (1, 128)]
    found = [keyed_normal(NUMPY, (4,), seed, name, i) for seed in (0, 1) for name in names for i in (0, 1)]
    assert len({tuple(row) for row in found}) == len(found) == 20


# ---- One path -----------------------------------------------------------------------------------


@EACH_PATH
def test_refinement_does_not_change_the_path(path):
    """The sum over any grid, uniform or not, is the coarse piece, to rounding; areas by their rule."""
    grids = [[0.0, 1.0], IRREGULAR, [0.0, 1 / 3, 2 / 3, 1.0]]
    if path.tolerance < 0.1:
        random_times = np.sort(np.random.default_rng(1).uniform(size=20))
        grids += [[0.0, *random_times, 1.0], *(sp.uniform_grid(0.0, 1.0, n) for n in (2, 7, 30))]
    wholes = [total(pieces(path, scaled_times(path, grid), (3, 2))) for grid in grids]
    for whole in wholes[1:]:
        assert_same(whole, wholes[0], 1e-13)


@EACH_PATH
def test_the_order_of_queries_changes_nothing(path):
    """Not a bit: against a newly opened path for each query, one after another, backwards and shuffled."""
    times = scaled_times(
        path, [k / 12 for k in range(13)] if path.tolerance > 0.1 else sp.uniform_grid(0, 1, 40)
    )
    queries = [*itertools.pairwise(times), *((times[a], times[b]) for a, b in ((0, 12), (1, 5), (4, 9)))]
    alone = {q: path.stream(NUMPY).between(*q, (2, 3)) for q in queries}
    shuffled = [queries[i] for i in np.random.default_rng(0).permutation(len(queries))]
    for order in (queries, queries[::-1], shuffled):
        stream = path.stream(NUMPY)
        for query in order:
            assert_same(stream.between(*query, (2, 3)), alone[query], 0.0)


@EACH_PATH
def test_the_first_rows_are_the_same_whatever_the_batch_size(path):
    times = scaled_times(path, IRREGULAR)
    few, many = pieces(path, times, (3, 2)), pieces(path, times, (1000, 2))
    for a, b in zip(few, many, strict=True):
        assert_same(a, Piece(b.length, b.W[:3], b.H[:3] if path.area else None), 0.0)


@EACH_PATH
def test_every_backend_and_dtype_has_the_same_path(path, backend):
    tolerance = 1e-14 if dtype_name(backend) == "float64" else 5e-7
    times = scaled_times(path, IRREGULAR)
    kinds = ("wiener", "area") if path.area else ("wiener",)
    here, there = path.stream(backend), path.stream(NUMPY)
    for s, t in [*itertools.pairwise(times), (times[4], times[1])]:
        shapes = ((50, 2),) * len(kinds)
        for a, b in zip(here.draws(1, s, t, kinds, shapes), there.draws(1, s, t, kinds, shapes), strict=True):
            assert_array(a, b, backend, tolerance)
    assert_array(
        path.increment(times[4], times[1], (50, 2), backend),
        there.increment(times[4], times[1], (50, 2)),
        backend,
        tolerance,
    )


def test_powers_of_two_of_cells_and_the_tolerance_leave_the_path_as_it_is():
    times = [0.0, 0.2, 0.36, 1.0]  # multiples of 1/25
    expected = pieces(sp.BrownianPath(1, cells=25, area=True), times, (4,))
    for cells, tolerance in ((50, 1e-3), (400, None), (25 * 2**12, 0.5)):
        found = pieces(sp.BrownianPath(1, cells=cells, tolerance=tolerance, area=True), times, (4,))
        for a, b in zip(found, expected, strict=True):
            assert_same(a, b, 1e-14)
    other = pieces(sp.BrownianPath(1, cells=75, area=True), times, (4,))
    assert np.max(np.abs(other[0].W - expected[0].W)) > 0.01


def test_increments_are_signed():
    path = sp.BrownianPath(3, start=-1.0, stop=2.0)
    up, down = path.increment(-0.3, 1.1, (6,), NUMPY), path.increment(1.1, -0.3, (6,), NUMPY)
    np.testing.assert_array_equal(up, -down)
    np.testing.assert_allclose(
        up, path.increment(-1.0, 1.1, (6,), NUMPY) - path.increment(-1.0, -0.3, (6,), NUMPY), atol=1e-14
    )


def test_a_result_may_be_overwritten():
    stream = sp.BrownianPath(3).stream(NUMPY)
    first = stream.increment(0.0, 1.0, (6,))
    kept = first.copy()
    first *= 0
    stream.draws(1, 0.0, 1.0, ("wiener",), ((6,),))[0][:] = 7.0
    np.testing.assert_array_equal(stream.increment(0.0, 1.0, (6,)), kept)


def test_consecutive_steps_draw_one_normal_each_and_keep_few(monkeypatch):
    drawn = []
    monkeypatch.setattr(brownian, "keyed_normal", lambda *a: drawn.append(a[3:]) or keyed_normal(*a))
    for grid in (sp.uniform_grid(0.0, 1.0, 1000), sp.uniform_grid(1.0, 0.0, 1000)):
        stream, kept = sp.BrownianPath(0, cells=1000).stream(NUMPY), []
        drawn.clear()
        for s, t in itertools.pairwise(grid):
            stream.increment(s, t, (2,))
            kept.append(len(stream._parts))
        assert len(drawn) == len(set(drawn)) == 1000
        assert max(kept) <= 4 * math.ceil(math.log2(1000))


def test_irregular_steps_draw_each_node_once(monkeypatch):
    """Both ways, between times that are no nodes; a leaf's own bridge is drawn once for each query."""
    drawn = []
    monkeypatch.setattr(brownian, "keyed_normal", lambda *a: drawn.append(a[3]) or keyed_normal(*a))
    times = np.sort(np.random.default_rng(0).uniform(size=50))
    for grid in (times, times[::-1]):
        stream = sp.BrownianPath(0, tolerance=1e-4).stream(NUMPY)
        drawn.clear()
        for s, t in itertools.pairwise(grid):
            stream.increment(s, t, (2,))
        nodes = [name for name in drawn if name[1] < brownian.INSIDE_A_LEAF]
        assert len(nodes) == len(set(nodes))
        assert len(drawn) - len(nodes) == 2 * 49


def test_one_stream_gives_each_shape_its_own_processes():
    stream = sp.BrownianPath(3).stream(NUMPY)
    for shape in ((4, 2), (3,), (4, 2)):
        assert stream.increment(0.0, 0.5, shape).shape == shape
