"""Reverse SDEs of matrix-valued and other affine SDEs: starts come back, for every noise amplitude.

A Gaussian start makes every Euler–Maruyama step affine, so that the moments it carries are exact and
need no Monte Carlo. Mixtures are checked by the Fokker–Planck equation of the reverse SDE, pointwise,
and by Monte Carlo.
"""

import itertools
import math

import numpy as np
import pytest
from checks import array, assert_array, covariance_matrix, fitted_slope

import sdeppl as sp

SCHEDULE = sp.LinearSchedule(1.0, 5.0)
COUPLING = np.array([[1.0, 0.8], [-0.6, 0.4]])
SDES = {
    "matrix": sp.MatrixLinearSDE(
        COUPLING, np.array([[0.9, 0.0, 0.3], [0.5, 0.7, -0.4]]), np.array([0.5, -1.0]), SCHEDULE
    ),
    "noise on one": sp.MatrixLinearSDE(np.array([[0.0, -1.0], [2.0, 0.5]]), np.array([[0.0], [1.3]])),
    "critically damped": sp.CriticallyDampedSDE(SCHEDULE, 0.6),
    "vp": sp.VPSDE(SCHEDULE),
    "ve": sp.VESDE(0.3, 2.5),
    "sub-vp": sp.SubVPSDE(SCHEDULE),
    "edm": sp.EDMSDE(T=2.0),
    "shifted vp": sp.ShiftedVPSDE(np.array([1.0, -2.0]), SCHEDULE),
    "anchored": sp.DataAnchoredSDE(SCHEDULE),
    "linear": sp.LinearSDE(0.7, 1.3),
}
EACH_SDE = pytest.mark.parametrize("sde", SDES.values(), ids=SDES)
RATIOS = {"0": 0.0, "half": 0.5, "1": 1.0, "2": 2.0, "of time": lambda t: 1.5 - t}
MIXING = np.array([[0.4, -0.9, 0.3], [0.7, 0.2, -0.5], [0.1, 0.6, 0.8]])
WEIGHTS = np.array([0.65, 0.35])
MEANS = np.array([[1.5, -0.8], [-1.2, 0.7]])
COVARIANCES = np.stack([covariance_matrix(2, seed=4), covariance_matrix(2, seed=7, smallest=0.2)])


def marginals(sde, components):
    start = (part[:components] for part in (WEIGHTS, MEANS, COVARIANCES))
    return sp.AffineMarginals(sde, *start)


def matrix_ratio(sde):
    """A matrix c (wiener_dim, 2), not normal, for the noise of `sde`; rows where noise is (dim,)."""
    rows = sde.wiener_dim or 2
    return MIXING[:rows, :2].copy()


def ratios(sde):
    """All noise amplitudes, as arguments of ReverseSDE."""
    matrix = matrix_ratio(sde)
    return {
        **{name: {"c": c} for name, c in RATIOS.items()},
        "matrix": {"c": matrix},
        "matrix of time": {"c": lambda t: (0.5 + t) * matrix, "m": 2},
    }


def carried(sde, solver, times, mean, covariance):
    """Moments after each step of a scheme that is affine in x and z; z has its own width."""
    dim, width = len(mean), solver.draw_shapes(sde, (1, len(mean)))[0][-1]
    points = np.concatenate([np.zeros((1, dim + width)), np.eye(dim + width)])
    x, z = points[:, :dim], points[:, dim:]
    for s, t in itertools.pairwise(times):
        stepped = solver.step(sde, x, s, t, None if sde.deterministic(s, t) else z)[0]
        constant, maps = stepped[0], stepped[1:] - stepped[0]
        A, B = maps[:dim].T, maps[dim:].T
        mean, covariance = constant + A @ mean, A @ covariance @ A.T + B @ B.T
    return mean, covariance


@EACH_SDE
@pytest.mark.parametrize("name", [*RATIOS, "matrix", "matrix of time"])
def test_a_gaussian_start_comes_back_with_weak_order_1(sde, name):
    """From the exact p_T to the exact p_t; the error of Euler–Maruyama halves with the step.

    The two grids are extrapolated: what is left is second order, so that a wrong factor in the
    drift or in the noise, which no refinement removes, shows.
    """
    prior = marginals(sde, 1)
    reverse = sp.ReverseSDE(sde, prior, **ratios(sde)[name])
    last, sizes = 0.2 * sde.T, (300, 600)
    exact = prior.moments(last)
    found = [
        carried(reverse, sp.EulerMaruyama(), sp.uniform_grid(sde.T, last, n), *prior.moments(sde.T))
        for n in sizes
    ]
    for i in range(2):
        errors = [np.linalg.norm(pair[i] - exact[i]) for pair in found]
        size = np.linalg.norm(exact[i])
        if max(errors) > 1e-9 * size:
            assert fitted_slope(1 / np.array(sizes), errors) == pytest.approx(1, abs=0.1)
        assert np.linalg.norm(2 * found[1][i] - found[0][i] - exact[i]) < 2e-3 * size


@EACH_SDE
@pytest.mark.parametrize("name", [*RATIOS, "matrix", "matrix of time"])
def test_the_marginal_solves_the_reverse_fokker_planck_equation(sde, name):
    """∂p/∂t + ∇·(f̄ p) + ½ ∇∇:(γ γᵀ p) = 0 for the mixture's p_t, by central differences of order 4.

    f̄ and γ: drift and noise of the reverse SDE, whose time runs down.
    """
    prior, t, h = marginals(sde, 2), 0.4 * sde.T, 2e-3
    reverse = sp.ReverseSDE(sde, prior, **ratios(sde)[name])
    points = np.array([[0.5, -0.2], [1.4, 0.9], [-1.0, 0.3]])
    weights = {-2: 1 / 12, -1: -8 / 12, 1: 8 / 12, 2: -1 / 12}

    def derivative(function, length=1.0):
        return sum(w * function(length * k * h) for k, w in weights.items()) / (length * h)

    g = np.asarray(reverse.diffusion(points, t))
    g = g * np.eye(2) if g.ndim == 0 else np.diag(g) if g.ndim == 1 else g
    square, eye = g @ g.T, np.eye(2)

    def density(x, r):
        return np.exp(prior.log_density(x, r))

    def current(x, i):
        spread = sum(square[i, j] * derivative(lambda d, j=j: density(x + d * eye[j], t)) for j in range(2))
        return reverse.drift(x, t)[:, i] * density(x, t) + 0.5 * spread

    change = derivative(lambda d: density(points, t + d), length=sde.T)
    outflow = sum(derivative(lambda d, i=i: current(points + d * eye[i], i)) for i in range(2))
    size = np.max(np.abs(change))
    assert size > 1e-3
    np.testing.assert_allclose(change, -outflow, atol=1e-6 * size)


@pytest.mark.parametrize("name", ["matrix", "noise on one", "critically damped"])
@pytest.mark.parametrize("c", RATIOS.values(), ids=RATIOS)
def test_a_mixture_comes_back_at_five_times(name, c):
    """2,000 paths, seeds 11 to 13, 200 steps of stochastic Heun: 4 standard errors, forward and reverse.

    Mean, covariance and moments of the score, 11 different numbers at each of five times. With these
    seeds all are within 4 standard errors; other seeds would exceed them in at most 1 of 140 cases.
    The bias of the scheme is below a tenth of a standard error, measured for a Gaussian start.
    """
    sde, n, steps = SDES[name], 2_000, 200
    prior = marginals(sde, 2)
    grid = sp.uniform_grid(sde.T, 0.1 * sde.T, steps)
    start = prior.sample(sde.T, n, sp.Noise(11))
    reverse = sp.ReverseSDE(sde, prior, c)
    states = sp.solve(reverse, start, grid, solver=sp.StochasticHeun(), noise=sp.Noise(12)).states
    for k in (40, 80, 120, 160, 200):
        for x in (states[k], prior.sample(grid[k], n, sp.Noise(13))):
            assert np.max(np.abs(z_scores(prior, x, grid[k]))) < 4


def z_scores(prior, x, t):
    """Of mean, covariance, and E[s] = 0, E[s xᵀ] = -I for the score s, in standard errors."""
    mean, covariance = prior.moments(t)
    centred, score = x - mean, prior.score(x, t)
    values = [centred, *(centred * centred[:, i : i + 1] for i in range(2)), score]
    values += [score[:, i : i + 1] * centred for i in range(2)]
    expected = [np.zeros(2), *covariance, np.zeros(2), *-np.eye(2)]
    return np.concatenate(
        [
            (v.mean(axis=0) - e) / v.std(axis=0) * math.sqrt(len(x))
            for v, e in zip(values, expected, strict=True)
        ]
    )


def test_reverse_steps_are_the_same_on_every_backend(backend):
    """Euler–Maruyama with number and matrix c, correlated noise; against NumPy in float64."""

    def ends(where):
        A, B = array(COUPLING, where), array(np.array([[0.9, 0.0], [0.5, 0.7]]), where)
        start = tuple(array(part, where) for part in (WEIGHTS, MEANS, COVARIANCES))
        x = array(np.array([[0.5, -0.2], [1.4, 0.9]]), where)
        found = []
        for sde in (sp.MatrixLinearSDE(A, B, schedule=SCHEDULE), SDES["critically damped"]):
            prior = sp.AffineMarginals(sde, *start)
            for c in (0.7, array(MIXING[:2, :], where)):
                reverse = sp.ReverseSDE(sde, prior, c)
                found.append(
                    sp.solve(reverse, x, sp.uniform_grid(1.0, 0.5, 4), noise=sp.Noise(3)).states[-1, ...]
                )
        return found

    for a, b in zip(ends(backend), ends(sp.resolve("numpy")), strict=True):
        assert_array(a, b, backend, 1e-4 if "32" in str(backend.dtype) else 1e-10)
