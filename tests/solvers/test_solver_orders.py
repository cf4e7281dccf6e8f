"""Measured orders of convergence.

A Gaussian x_0 makes every step of a reverse SDE affine in the state and in the normals, so the mean
and covariance of a scheme follow exactly, and a weak order is measured without Monte Carlo. The
covariance starts as that of p_T and is compared with that of p_t; the mean starts away from that of
p_T, for from there the schemes carry it without any error.
"""

import math

import numpy as np
import pytest
from checks import array, covariance_matrix, fitted_slope, host, propagate
from scipy.integrate import quad

import sdeppl as sp

MEAN, COVARIANCE = np.array([1.5, -0.8, 0.4]), covariance_matrix(3, seed=4)
SHIFT = np.array([0.5, 1.0, -0.7])
SDES = {
    "vp": sp.VPSDE(sp.LinearSchedule(0.5, 3.0)),
    "ve": sp.VESDE(0.3, 2.5),
    "linear": sp.LinearSDE(a=0.7, b=1.3),
}
RATIOS = {"0": 0.0, "half": 0.5, "1": 1.0, "2": 2.0, "of time": lambda t: 1.5 - t}
SOLVERS = (sp.EulerMaruyama(), sp.ExponentialEuler(), sp.ExponentialHeun())
NAMES = [type(solver).__name__ for solver in SOLVERS]
EACH_SDE = pytest.mark.parametrize("sde", SDES.values(), ids=SDES)


def marginal(sde, t):
    return sde.alpha(t) * MEAN, sde.alpha(t) ** 2 * COVARIANCE + sde.sigma(t) ** 2 * np.eye(3)


def shift_left(sde, c, s, t):
    """What the reverse SDE leaves at t of SHIFT at s, by quadrature: with V = α² λ + σ² the variance
    along an eigenvector, d ln δ/dt = f + (1 + c²)/2 g²/V."""
    eigenvalues, basis = np.linalg.eigh(COVARIANCE)

    def growth(r, eigenvalue):
        ratio = c(r) if callable(c) else c
        variance = sde.alpha(r) ** 2 * eigenvalue + sde.sigma(r) ** 2
        return sde.rate(r) + 0.5 * (1 + ratio**2) * sde.amplitude(r) ** 2 / variance

    factors = [math.exp(quad(growth, s, t, args=(v,), epsrel=1e-11)[0]) for v in eigenvalues]
    return basis @ (np.array(factors) * (SHIFT @ basis))


def errors(sde, c, solver, sizes, backend):
    """Errors of mean and of covariance at t = 0.1 for each number of steps from t = 1."""
    prior = sp.GaussianDenoiser(sde, array(MEAN, backend), array(COVARIANCE, backend))
    reverse = sp.ReverseSDE(sde, prior, c)
    mean, covariance = marginal(sde, 1.0)
    exact_mean, exact_covariance = marginal(sde, 0.1)
    exact = exact_mean + shift_left(sde, c, 1.0, 0.1), exact_covariance
    found = [
        propagate(reverse, solver, sp.uniform_grid(1.0, 0.1, n), mean + SHIFT, covariance, backend)
        for n in sizes
    ]
    return np.array([[np.linalg.norm(a - b) for a, b in zip(pair, exact, strict=True)] for pair in found])


@EACH_SDE
@pytest.mark.parametrize("c", RATIOS.values(), ids=RATIOS)
@pytest.mark.parametrize("solver", SOLVERS, ids=NAMES)
def test_weak_order_for_a_gaussian(sde, c, solver):
    """The slopes of both errors against the step are the order that the solver states, ± 0.1.

    For c = 1 the exponential schemes carry the mean of a Gaussian without error: their step is then
    the regression of x_t on x_s.
    """
    sizes = (128, 256, 512)
    of_mean, of_covariance = errors(sde, c, solver, sizes, sp.resolve("numpy")).T
    assert fitted_slope(1 / np.array(sizes), of_covariance) == pytest.approx(solver.weak_order, abs=0.1)
    assert of_covariance[-1] < (0.05 if solver.weak_order == 1 else 5e-4)
    if c == 1.0 and not isinstance(solver, sp.EulerMaruyama):
        assert max(of_mean) < 1e-12
    else:
        assert fitted_slope(1 / np.array(sizes), of_mean) == pytest.approx(solver.weak_order, abs=0.1)
        assert of_mean[-1] < (0.005 if solver.weak_order == 1 else 5e-5)


@EACH_SDE
@pytest.mark.parametrize("c", [0.0, 1.0, 2.0])
def test_exponential_steps_are_exact_for_a_known_x0(sde, c, backend):
    """E[x_0 | x_t] is constant, so that one step of any length has no error."""
    point = np.array([0.7, -1.1])
    known = sp.CallableDenoiser(
        sde, lambda x, t: 0 * x + array(point, backend), lambda x, t: None, 2, backend
    )
    t = 0.05
    for solver in (sp.ExponentialEuler(), sp.ExponentialHeun()):
        start = sde.alpha(1.0) * point, sde.sigma(1.0) ** 2 * np.eye(2)
        mean, covariance = propagate(sp.ReverseSDE(sde, known, c), solver, [1.0, t], *start, backend)
        tolerance = 1e-11 if "64" in str(backend.dtype) else 1e-4
        np.testing.assert_allclose(mean, sde.alpha(t) * point, atol=tolerance)
        np.testing.assert_allclose(covariance, sde.sigma(t) ** 2 * np.eye(2), atol=tolerance)


@EACH_SDE
def test_exponential_steps_are_exact_forward(sde, backend):
    """Whatever the grid, the forward SDE's moments come out to rounding."""
    times = [0.0, 0.03, 0.5, 1.0]
    exact = (sde.alpha(1.0) * MEAN, sde.alpha(1.0) ** 2 * COVARIANCE + sde.sigma(1.0) ** 2 * np.eye(3))
    for solver in (sp.ExponentialEuler(), sp.ExponentialHeun()):
        found = propagate(sde, solver, times, MEAN, COVARIANCE, backend)
        tolerance = 1e-12 if "64" in str(backend.dtype) else 1e-5
        for a, b in zip(found, exact, strict=True):
            np.testing.assert_allclose(a, b, atol=tolerance)


@EACH_SDE
def test_euler_maruyama_has_weak_order_1_forward(sde):
    sizes = (64, 128, 256)
    exact = (sde.alpha(1.0) * MEAN, sde.alpha(1.0) ** 2 * COVARIANCE + sde.sigma(1.0) ** 2 * np.eye(3))
    found = []
    for steps in sizes:
        grid = sp.uniform_grid(0.0, 1.0, steps)
        pair = propagate(sde, sp.EulerMaruyama(), grid, MEAN, COVARIANCE, sp.resolve("numpy"))
        found.append(sum(np.linalg.norm(a - b) for a, b in zip(pair, exact, strict=True)))
    assert fitted_slope(1 / np.array(sizes), found) == pytest.approx(1.0, abs=0.15)


def ornstein_uhlenbeck_errors(a, b, sizes, backend, paths=400):
    """Root mean square distance at t = 1 from the exact solution on the same Brownian path.

    On each of the finest steps the increment ΔW and the integral I of e^{-a(t-s)} dW are drawn
    together, with their exact covariance; the exact solution needs I, Euler–Maruyama needs ΔW.
    """
    fine = max(sizes)
    h = 1.0 / fine
    shared = (1 - np.exp(-a * h)) / a
    root = np.linalg.cholesky(np.array([[h, shared], [shared, (1 - np.exp(-2 * a * h)) / (2 * a)]]))
    normals = np.random.default_rng(8).standard_normal((fine, paths, 2)) @ root.T
    exact = np.full((paths,), 1.2)
    for increment in normals:
        exact = np.exp(-a * h) * exact + b * increment[:, 1]
    found = []
    for steps in sizes:
        brownian = normals[:, :, 0].reshape(steps, fine // steps, paths).sum(axis=1)
        x, grid = array(np.full((paths, 1), 1.2), backend), sp.uniform_grid(0.0, 1.0, steps)
        for k in range(steps):
            z = array(brownian[k][:, None] * np.sqrt(steps), backend)
            x, _ = sp.EulerMaruyama().step(sp.LinearSDE(a, b), x, grid[k], grid[k + 1], z)
        found.append(np.sqrt(np.mean((host(x)[:, 0] - exact) ** 2)))
    return found


def test_euler_maruyama_has_strong_order_1_for_additive_noise(precise):
    """Seed 8; with 400 coupled paths the slope varies by about 0.01 from seed to seed."""
    sizes = (16, 32, 64, 128)
    found = ornstein_uhlenbeck_errors(1.5, 0.8, sizes, precise)
    slope = fitted_slope(1 / np.array(sizes), found)
    assert slope == pytest.approx(sp.EulerMaruyama.strong_order["additive"], abs=0.1)


class GeometricBrownian(sp.sde.SDE):
    """dx = μ x dt + s x dW: noise that depends on the state."""

    mu, s = 0.4, 0.9

    def drift(self, x, t):
        return self.mu * x

    def diffusion(self, x, t):
        return self.s * x


def test_euler_maruyama_has_strong_order_half_for_noise_that_depends_on_x(precise):
    """Seed 9; with 4,000 coupled paths the slope varies by about 0.02 from seed to seed."""
    sizes, sde, paths = (16, 32, 64, 128, 256), GeometricBrownian(), 4_000
    fine = np.random.default_rng(9).standard_normal((max(sizes), paths)) / np.sqrt(max(sizes))
    exact = np.exp((sde.mu - sde.s**2 / 2) + sde.s * fine.sum(axis=0))
    found = []
    for steps in sizes:
        brownian = fine.reshape(steps, max(sizes) // steps, paths).sum(axis=1)
        x = array(np.ones((paths, 1)), precise)
        for k in range(steps):
            z = array(brownian[k][:, None] * np.sqrt(steps), precise)
            x, _ = sp.EulerMaruyama().step(sde, x, k / steps, (k + 1) / steps, z)
        found.append(np.sqrt(np.mean((host(x)[:, 0] - exact) ** 2)))
    assert fitted_slope(1 / np.array(sizes), found) == pytest.approx(0.5, abs=0.1)
