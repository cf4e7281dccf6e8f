"""`solve`: streaming, grids, noise, and what it says of states that are not finite."""

import math

import numpy as np
import pytest
from checks import array, assert_array, covariance_matrix, host

import sdeppl as sp

GRID = [1.0, 0.6, 0.25, 0.1, 0.0]
SOLVERS = [sp.EulerMaruyama(), sp.ExponentialEuler(), sp.ExponentialHeun()]


class Explosive(sp.sde.SDE):
    """dx = x³ dt: infinite in finite time for large x, harmless for small."""

    def drift(self, x, t):
        return x * x * x

    def diffusion(self, x, t):
        return 0.0

    def deterministic(self, s, t):
        return True


def reverse_on(backend, c=1.0):
    sde = sp.VPSDE()
    prior = sp.GaussianDenoiser(sde, array([1.0, -2.0], backend), array(covariance_matrix(2, 3), backend))
    return sp.ReverseSDE(sde, prior, c)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("mode", ["host", "native"])
def test_a_solve_is_its_steps_one_after_the_other(solver, mode, backend):
    """Step k takes the normals of number k; 'last' keeps the last of 'all'."""
    sde, noise = reverse_on(backend), sp.Noise(5, mode)
    x = array(np.random.default_rng(0).standard_normal((4, 2)), backend)
    path = sp.solve(sde, x, GRID, solver=solver, noise=noise)
    assert path.times == GRID
    stream, expected = noise.stream(backend), [host(x)]
    for k in range(4):
        x, _ = solver.step(sde, x, GRID[k], GRID[k + 1], stream.normal(k + 1, (4, 2)))
        expected.append(host(x))
    assert_array(path.states, np.stack(expected), backend, tolerance=1e-6)
    last = sp.solve(sde, array(expected[0], backend), GRID, solver=solver, noise=noise, keep="last")
    assert last.times == [0.0]
    assert_array(last.states, host(path.states)[-1:], backend, tolerance=0.0)
    assert (
        last.stats
        == path.stats
        == {
            "steps": 4,
            "evaluations": 4 * solver.evaluations,
            "solver": type(solver).__name__,
        }
    )


def test_an_opened_stream_goes_on_where_it_is(backend):
    stream = sp.Noise(5, "native").stream(backend)
    x = stream.normal(0, (3, 2))
    path = sp.solve(sp.LinearSDE(0.0, 1.0), x, [0.0, 1.0], noise=stream)
    again = sp.Noise(5, "native").stream(backend)
    first, second = host(again.normal(0, (3, 2))), host(again.normal(1, (3, 2)))
    assert_array(path.states[-1, ...], first + second, backend, tolerance=1e-6)


@pytest.mark.parametrize("shape", [(3,), (5, 3), (2, 4, 3)])
def test_any_batch_shape_is_kept(shape, backend):
    x = array(np.random.default_rng(1).standard_normal(shape), backend)
    path = sp.solve(sp.LinearSDE(1.0, 0.5), x, [0.0, 0.5, 2.0], solver=sp.ExponentialEuler())
    assert tuple(path.states.shape) == (3, *shape)
    z = np.random.Generator(np.random.Philox(key=np.array([0, 1], dtype=np.uint64))).standard_normal(shape)
    expected = math.exp(-0.5) * host(x) + 0.5 * math.sqrt((1 - math.exp(-1.0)) / 2) * z
    assert_array(path.states[1, ...], expected, backend, tolerance=1e-6)


def test_first_rows_do_not_depend_on_the_batch_size(backend):
    x = np.random.default_rng(2).standard_normal((50, 2))
    few, many = (
        host(sp.solve(reverse_on(backend), array(x[:n], backend), GRID, keep="last").states[0, ...])
        for n in (3, 50)
    )
    np.testing.assert_allclose(few, many[:3], rtol=1e-5 if "32" in str(backend.dtype) else 1e-12)


def test_no_noise_is_drawn_for_the_flow(backend):
    """c = 0: the seed makes no difference."""
    x = array([[0.3, 0.4]], backend)
    one, two = (sp.solve(reverse_on(backend, 0.0), x, GRID, noise=sp.Noise(seed)).states for seed in (1, 2))
    assert_array(one, host(two), backend, tolerance=0.0)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([0.0, 0.5, 0.4, 1.0], r"times\[1\]=0.5 is followed by times\[2\]=0.4"),
        ([1.0, 0.5, 0.5, 0.0], r"times\[1\]=0.5 is followed by times\[2\]=0.5"),
        ([0.5, 0.5], r"times\[0\]=0.5 is followed by times\[1\]=0.5"),
        ([1.0], "times must be at least two finite numbers"),
        ([], "times must be at least two finite numbers"),
        ([0.0, math.nan], "times must be at least two finite numbers"),
        ([0.0, math.inf], "times must be at least two finite numbers"),
    ],
)
def test_a_grid_that_is_not_monotone_is_refused(times, message):
    with pytest.raises(ValueError, match=message):
        sp.solve(sp.LinearSDE(1.0, 1.0), np.ones((2, 1)), times)


def test_a_grid_that_runs_the_wrong_way_is_refused():
    """Euler–Maruyama would go on without a word, with the sign of the noise's drift wrong."""
    numpy = sp.resolve("numpy")
    with pytest.raises(
        ValueError, match=r"LinearSDE runs up in time; got times from 1 down to 0; .* ReverseSDE"
    ):
        sp.solve(sp.LinearSDE(1.0, 1.0), np.ones((2, 1)), [1.0, 0.0])
    with pytest.raises(
        ValueError, match=r"ReverseSDE runs down in time; got times from 0\.1 up to 1; .* forward SDE"
    ):
        sp.solve(reverse_on(numpy), np.ones((2, 2)), [0.1, 1.0])


def test_the_flow_runs_both_ways():
    """c = 0 is an ordinary differential equation: up and down again is where it started."""
    x = np.array([[0.3, -0.4], [2.0, 1.0]])
    flow, up = reverse_on(sp.resolve("numpy"), 0.0), sp.uniform_grid(0.2, 0.9, 4_000)
    there = sp.solve(flow, x, up, keep="last").states[0]
    back = sp.solve(flow, there, up[::-1], keep="last").states[0]
    assert np.abs(there - x).max() > 0.3
    np.testing.assert_allclose(back, x, atol=5e-3)


def test_an_unknown_keep_is_refused():
    with pytest.raises(ValueError, match="keep must be 'all' or 'last'; got 'some'"):
        sp.solve(sp.LinearSDE(1.0, 1.0), np.ones((2, 1)), [0.0, 1.0], keep="some")


def test_whole_numbers_as_a_start_are_refused():
    with pytest.raises(TypeError, match="a real floating dtype; got numpy on cpu in int64"):
        sp.solve(sp.LinearSDE(1.0, 1.0), np.ones((2, 1), dtype=np.int64), [0.0, 1.0])


@pytest.mark.parametrize("steps", [7, 100, 101])
def test_a_state_that_is_not_finite_is_named_with_step_time_and_count(steps, backend):
    """x = 1000 explodes within a few steps, x = 0.1 never; the report is of the first bad step."""
    start = np.array([[0.1], [1000.0], [0.0], [1000.0]])
    x, h, first_bad = start, 1.0 / steps, None
    with np.errstate(over="ignore", invalid="ignore"):
        for k in range(steps):
            x = (x + x * x * x * h).astype(np.float32 if "32" in str(backend.dtype) else np.float64)
            if first_bad is None and not np.isfinite(x).all():
                first_bad = k
        with pytest.raises(sp.NonFiniteState) as caught:
            sp.solve(Explosive(), array(start, backend), sp.uniform_grid(0.0, 1.0, steps), keep="last")
    grid = sp.uniform_grid(0.0, 1.0, steps)
    message = str(caught.value)
    assert message.startswith(
        f"NaN or infinity at step {first_bad + 1} of {steps}, from t={grid[first_bad]:.6g} to "
        f"t={grid[first_bad + 1]:.6g} (by step "
    )
    assert "in 2 of 4 paths)" in message


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_start_that_is_not_finite_is_refused(bad, backend):
    x = array([[0.0, 1.0], [bad, 1.0], [bad, bad]], backend)
    with pytest.raises(sp.NonFiniteState, match="x_init has NaN or infinity in 2 of 3 paths"):
        sp.solve(sp.LinearSDE(1.0, 1.0), x, [0.0, 1.0])


def test_progress_is_shown_when_asked(capsys):
    sp.solve(sp.LinearSDE(1.0, 1.0), np.ones((2, 1)), [0.0, 0.5, 1.0], progress=True)
    assert "solving: 100%" in capsys.readouterr().err
    sp.solve(sp.LinearSDE(1.0, 1.0), np.ones((2, 1)), [0.0, 0.5, 1.0])
    assert capsys.readouterr().err == ""
