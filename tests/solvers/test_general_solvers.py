"""What every solver of general SDEs keeps: falling time, any batch shape, dtype and device, noise modes."""

import math

import numpy as np
import pytest
from checks import array, assert_array, host
from order_rows import SOLVERS

import sdeppl as sp

X = np.random.default_rng(0).standard_normal((2, 3, 2))
EACH = pytest.mark.parametrize(
    ("solver", "noise"),
    [
        (sp.MilsteinLevy(3) if solver is sp.MilsteinLevy else solver(), noise)
        for solver in SOLVERS
        for noise in solver.strong_order
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
ROTATION = np.array([[0.3, -0.5], [0.5, 0.3]])


def fields(noise, backend):
    """f, g and wiener_dim: nothing linear, time in both; the general noise is commutative."""
    xp, base = backend.xp, array([0.8, -0.5], backend)
    turn = array(ROTATION, backend)

    def diffusion(x, t):
        if noise == "additive":
            return 0.6 + t
        if noise == "general":
            return (1 + t) * xp.stack([x @ turn, x], axis=-1)
        return (1 + t) * xp.sin(x) + base

    return lambda x, t: xp.cos(x) - t * x, diffusion, 2 if noise == "general" else None


class Falling(sp.ItoSDE):
    falling = True


class FallingStratonovich(sp.StratonovichSDE):
    falling = True


def draws(solver, sde, backend):
    shapes = solver.draw_shapes(sde, X.shape)
    z = [np.random.default_rng(i).standard_normal(shape) for i, shape in enumerate(shapes)]
    return tuple(array(part, backend) for part in z) if len(z) > 1 else array(z[0], backend)


@EACH
@pytest.mark.parametrize("calculus", ["ito", "stratonovich"])
def test_time_that_falls_is_time_that_rises_mirrored(solver, noise, calculus, precise):
    """dx = f(x, t) dt + g(x, t) dW from 0.2 to 0.5 is dx = -f(x, 1 - r) dr + g(x, 1 - r) dW from r = 0.8
    down to 0.5, normal for normal; conversion between the calculi included."""
    drift, diffusion, m = fields(noise, precise)
    up, down = {
        "ito": (sp.ItoSDE, Falling),
        "stratonovich": (sp.StratonovichSDE, FallingStratonovich),
    }[calculus]
    rising = up(drift, diffusion, noise, m)
    falling = down(lambda x, r: -drift(x, 1 - r), lambda x, r: diffusion(x, 1 - r), noise, m)
    x, found = array(X, precise), []
    for sde, s, t in ((rising, 0.2, 0.5), (falling, 0.8, 0.5)):
        ready = solver.prepare(sde, x, s, False)
        assert ready.falling == sde.falling
        found.append(host(solver.step(ready, x, s, t, draws(solver, ready, precise))[0]))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-9)
    assert not np.allclose(found[0], X, atol=0.05)


@EACH
def test_any_batch_shape_keeps_dtype_and_device(solver, noise, backend):
    """States (2, 3, 2) step as the six states (2,) do."""
    sde = sp.ItoSDE(*(fields(noise, backend)[:2]), noise, fields(noise, backend)[2])
    z = draws(solver, sde, backend)
    stepped, _ = solver.step(sde, array(X, backend), 0.2, 0.5, z)
    tolerance = 1e-9 if "64" in str(backend.dtype) else 2e-4
    parts = z if isinstance(z, tuple) else (z,)
    singles = np.empty(X.shape)
    for index in np.ndindex(2, 3):
        given = tuple(part[(*index, ...)] for part in parts)
        x = array(X[index], backend)
        singles[index] = host(solver.step(sde, x, 0.2, 0.5, given if isinstance(z, tuple) else given[0])[0])
    assert_array(stepped, singles, backend, tolerance)


@EACH
@pytest.mark.parametrize("mode", ["host", "native"])
def test_a_solve_draws_what_the_solver_names(solver, noise, mode, backend):
    """One step of `solve` is `step` with the stream's draws of number 1."""
    sde = sp.ItoSDE(*(fields(noise, backend)[:2]), noise, fields(noise, backend)[2])
    x, of = array(X, backend), sp.Noise(11, mode)
    path = sp.solve(sde, x, [0.2, 0.5], solver=solver, noise=of, keep="last")
    ready = solver.prepare(sde, x, 0.2, False)
    z = of.stream(backend).draws(1, 0.2, 0.5, solver.draws, solver.draw_shapes(ready, X.shape))
    expected, _ = solver.step(ready, x, 0.2, 0.5, z if len(z) > 1 else z[0])
    assert_array(path.states[0, ...], host(expected), backend, 1e-6)


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: solver.__name__)
def test_without_noise_the_step_is_a_runge_kutta_step(solver, backend):
    """Order 1: x + f h; Heun: ½ (f + f(x + f h)); Ralston: ⅓ f + ⅔ f(x + ¾ f h)."""
    solver = sp.MilsteinLevy(2) if solver is sp.MilsteinLevy else solver()
    drift, *_ = fields("additive", backend)
    sde = sp.ItoSDE(drift, lambda x, t: 0.0, "additive")
    found, _ = solver.step(sde, array(X, backend), 0.2, 0.5, None)

    def f(x, t):
        return np.cos(x) - t * x

    h, first = 0.3, f(X, 0.2)
    slope = {
        1.0: first,
        2.0: 0.5 * (first + f(X + h * first, 0.5)),
    }[solver.order or solver.weak_order]
    if isinstance(solver, (sp.SRA1, sp.SRIW1)):
        slope = first / 3 + 2 / 3 * f(X + 0.75 * h * first, 0.2 + 0.75 * h)
    assert_array(found, X + h * slope, backend, 1e-12 if "64" in str(backend.dtype) else 1e-5)


@pytest.mark.parametrize(
    "solver",
    [solver() for solver in SOLVERS if "diagonal" in solver.strong_order],
    ids=lambda s: type(s).__name__,
)
def test_a_reverse_sde_of_noise_that_depends_on_x_comes_back(solver, precise):
    """Geometric Brownian motion back from t = 1 to 0.2 has the log-normal moments there.

    Seed 5, 4,000 paths; the log of x is Gaussian with mean (μ - s²/2) t and variance v + s² t; both
    within 4.5 standard errors (a false alarm in 1e-5) and 0.02 for the steps.
    """
    mu, s, v, n = 0.3, 0.4, 0.1, 4_000
    mean, variance = (lambda t: (mu - s**2 / 2) * t), (lambda t: v + s**2 * t)
    xp = precise.xp
    forward = sp.ItoSDE(lambda x, t: mu * x, lambda x, t: s * x, "diagonal")
    reverse = sp.ReverseSDE(forward, lambda x, t: -(1 + (xp.log(x) - mean(t)) / variance(t)) / x)
    start = np.exp(mean(1.0) + math.sqrt(variance(1.0)) * np.random.default_rng(5).standard_normal((n, 1)))
    path = sp.solve(
        reverse,
        array(start, precise),
        sp.uniform_grid(1.0, 0.2, 40),
        solver=solver,
        noise=sp.Noise(5),
        keep="last",
    )
    log = np.log(host(path.states)[0])
    left = variance(0.2)
    assert np.mean(log) == pytest.approx(mean(0.2), abs=4.5 * math.sqrt(left / n) + 0.02)
    assert np.var(log) == pytest.approx(left, abs=4.5 * left * math.sqrt(2 / n) + 0.02)
