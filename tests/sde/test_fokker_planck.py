"""The Fokker–Planck equation on a grid: against closed forms, with its orders measured."""

import math

import numpy as np
import pytest
from checks import array, assert_array, fitted_slope, host
from scipy.integrate import solve_ivp
from scipy.stats import lognorm, multivariate_normal, norm

import sdeppl as sp

OU = sp.LinearSDE(a=1.3, b=0.9)
LOADING = np.linalg.cholesky(np.array([[1.0, 0.95 * 0.8], [0.95 * 0.8, 0.64]]))  # correlation 0.95
PULL = np.array([[0.5, 0.1], [-0.1, 0.4]])


def distance(grid, density, exact):
    """∫ |p - q| dx."""
    return float(np.sum(np.abs(host(density) - exact))) * grid.volume


def correlated(backend):
    pull, loading = array(PULL, backend), array(LOADING, backend)
    return sp.ItoSDE(lambda x, t: -x @ pull.T, lambda x, t: loading, "additive", 2)


def swirl(backend):
    """Rotation against position without noise of its own, and noise on one axis alone."""
    column = array([[0.0], [0.7]], backend)
    turn = array([[0.0, 1.0], [-1.0, -0.4]], backend)
    return sp.ItoSDE(lambda x, t: x @ turn.T, lambda x, t: column, "additive", 1)


def one_process(backend):
    """Scalar noise: at each x along one direction of its own, mostly oblique."""
    loading = array([0.6, -0.35], backend)
    return sp.ItoSDE(lambda x, t: -x, lambda x, t: (1 + 0.2 * x) * loading, "scalar")


# ---- orders -------------------------------------------------------------------------------------


def ou_errors(cells, backend):
    found, mean, variance = [], 1.5, 0.3
    for n in cells:
        grid = sp.FokkerPlanckGrid(OU, -5.0, 6.0, n, backend)
        x = host(grid.axes[0])
        start = array(norm(mean, math.sqrt(variance)).pdf(x), backend)
        density = grid.solve(start, [0.0, 0.3, 0.8])[-1]
        m, v = OU.alpha(0.8) * mean, OU.alpha(0.8) ** 2 * variance + OU.sigma(0.8) ** 2
        found.append(distance(grid, density, norm(m, math.sqrt(v)).pdf(x)))
    return found


def test_order_2_in_the_cells_in_one_dimension():
    cells = (50, 100, 200, 400)
    found = ou_errors(cells, sp.resolve("numpy"))
    assert fitted_slope(1 / np.array(cells), found) == pytest.approx(2.0, abs=0.15)
    assert found[-1] < 5e-4


def test_every_backend_gives_the_same_densities(backend):
    grid = sp.FokkerPlanckGrid(OU, -5.0, 6.0, 40, backend)
    reference = sp.FokkerPlanckGrid(OU, -5.0, 6.0, 40, "numpy")
    start = norm(1.5, 0.6).pdf(reference.axes[0])
    expected = reference.solve(start, [0.0, 0.2, 0.5])
    assert_array(grid.solve(array(start, backend), [0.0, 0.2, 0.5]), expected, backend)
    for make in (correlated, swirl, one_process):
        grid = sp.FokkerPlanckGrid(make(backend), -4.0, 4.0, (12, 15), backend)
        reference = sp.FokkerPlanckGrid(make(sp.resolve("numpy")), -4.0, 4.0, (12, 15), "numpy")
        start = multivariate_normal([0.2, -0.1], 0.5).pdf(reference.centres)
        expected = reference.solve(start, [0.0, 0.1], edge_mass=1.0)
        found = grid.solve(array(start, backend), [0.0, 0.1], edge_mass=1.0)
        assert_array(found, expected, backend)


def gaussian_moments(mean, covariance, t):
    def slopes(r, u):
        v = u[2:].reshape(2, 2)
        return np.concatenate([-PULL @ u[:2], (-PULL @ v - v @ PULL.T + LOADING @ LOADING.T).ravel()])

    start = np.concatenate([mean, np.ravel(covariance)])
    end = solve_ivp(slopes, (0, t), start, rtol=1e-11, atol=1e-13).y[:, -1]
    return end[:2], end[2:].reshape(2, 2)


def test_order_2_in_the_cells_with_noise_of_correlation_095():
    """Central jumps have the SDE's moments exactly, so mean and covariance are better than order 2."""
    mean, covariance, cells, found = (
        np.array([0.4, -0.2]),
        np.array([[0.5, 0.2], [0.2, 0.4]]),
        (80, 113, 160),
        [],
    )
    exact_mean, exact_covariance = gaussian_moments(mean, covariance, 0.6)
    for n in cells:
        grid = sp.FokkerPlanckGrid(correlated(sp.resolve("numpy")), -4.2, 4.2, (n, n), "numpy")
        start = multivariate_normal(mean, covariance).pdf(grid.centres)
        density = grid.solve(start, [0.0, 0.6])[-1]
        found.append(
            distance(grid, density, multivariate_normal(exact_mean, exact_covariance).pdf(grid.centres))
        )
    assert fitted_slope(1 / np.array(cells), found) == pytest.approx(2.0, abs=0.15)
    np.testing.assert_allclose(grid.mean(density), exact_mean, atol=1e-5)
    np.testing.assert_allclose(grid.covariance(density), exact_covariance, atol=1e-4)


def test_order_2_for_a_log_normal():
    """Noise that depends on the state: geometric Brownian motion from t = 0.3 to t = 1."""
    sde, cells, found = sp.GeometricBrownianMotion(0.2, 0.6), (160, 320, 640), []

    def exact(x, t):
        return lognorm(s=0.6 * math.sqrt(t), scale=1.5 * math.exp((0.2 - 0.18) * t)).pdf(x)

    for n in cells:
        grid = sp.FokkerPlanckGrid(sde, 0.0, 20.0, n, "numpy")
        x = grid.axes[0]
        density = grid.solve(exact(x, 0.3), [0.3, 1.0])[-1]
        found.append(distance(grid, density, exact(x, 1.0)))
    assert fitted_slope(1 / np.array(cells), found) == pytest.approx(2.0, abs=0.15)
    assert found[-1] < 3e-3


def test_stratonovichs_reading_is_converted():
    """dx = (μ - ½ σ²) x dt + σ x ∘ dW is the same equation as dx = μ x dt + σ x dW."""
    grids = [
        sp.FokkerPlanckGrid(sde, 0.0, 12.0, 100, "numpy")
        for sde in (
            sp.GeometricBrownianMotion(0.2, 0.6),
            sp.StratonovichSDE(lambda x, t: (0.2 - 0.18) * x, lambda x, t: 0.6 * x),
        )
    ]
    start = lognorm(s=0.3, scale=1.5).pdf(grids[0].axes[0])
    ito, stratonovich = (grid.solve(start, [0.0, 0.5])[-1] for grid in grids)
    np.testing.assert_allclose(stratonovich, ito, rtol=1e-8, atol=1e-12)


def test_order_2_to_the_stationary_density_of_a_double_well():
    sde, cells, found = sp.DoubleWell(1.0, 1.2, 0.5), (30, 60, 120), []
    for n in cells:
        grid = sp.FokkerPlanckGrid(sde, -3.0, 3.0, n, "numpy")
        start = grid.density_of(lambda x: norm(0, 0.5).pdf(x[:, 0]))
        density = grid.solve(start, [0.0, 12.0])[-1]
        found.append(distance(grid, density, np.exp(sde.stationary_log_density(grid.centres))))
    assert fitted_slope(1 / np.array(cells), found) == pytest.approx(2.0, abs=0.15)
    assert found[-1] < 2e-3


def test_order_2_in_the_substep_where_coefficients_depend_on_time():
    """On one grid, so that the cells' error is the same; the reference has 128 substeps."""
    sde = sp.ItoSDE(
        lambda x, t: -x + 2 * math.sin(4 * t), lambda x, t: 0.8 + 0.3 * math.cos(5 * t), "additive"
    )
    grid = sp.FokkerPlanckGrid(sde, -4.0, 4.0, 50, "numpy")
    start = norm(-0.5, 0.4).pdf(grid.axes[0])

    def end(**changes):
        return grid.solve(start, [0.0, 0.8], **changes)[-1]

    reference, substeps = end(max_step=0.8 / 128), (4, 8, 16)
    found = [distance(grid, end(max_step=0.8 / n), reference) for n in substeps]
    assert fitted_slope(1 / np.array(substeps), found) == pytest.approx(2.0, abs=0.15)
    assert distance(grid, end(), reference) < found[-1] / 20  # 200 substeps by default


def test_constant_coefficients_need_no_substeps():
    grid = sp.FokkerPlanckGrid(OU, -5.0, 6.0, 60, "numpy")
    start = norm(1.5, 0.5).pdf(grid.axes[0])
    at_once, many = grid.solve(start, [0.0, 0.5]), grid.solve(start, [0.0, 0.5], max_step=0.01)
    np.testing.assert_allclose(at_once[-1], many[-1], atol=1e-13)


# ---- what holds on any grid ---------------------------------------------------------------------


@pytest.mark.parametrize("make", [correlated, swirl, one_process, lambda b: sp.LinearSDE(1.0, 0.8)])
def test_densities_stay_positive_and_keep_their_mass(make, precise):
    """From a single cell, the roughest start there is; walls included."""
    grid = sp.FokkerPlanckGrid(make(precise), -3.0, 3.0, (31, 24), precise)
    start = np.zeros((31, 24))
    start[20, 9] = 1 / grid.volume
    found = host(grid.solve(array(start, precise), [0.0, 0.01, 0.3, 3.0], edge_mass=1.0))
    assert np.min(found) >= 0
    np.testing.assert_allclose(found.sum(axis=(1, 2)) * grid.volume, 1.0, atol=1e-12)
    assert np.max(found[1]) < np.max(found[0])  # and something happened


def test_without_noise_the_drift_is_upwind_and_its_mean_exact(precise):
    """dx = -x dt on cells: E x_t = e^{-t} E x_0 to rounding, whatever the cells."""
    sde = sp.ItoSDE(lambda x, t: -x, lambda x, t: 0.0, "additive")
    for cells in (40, (30, 20)):
        grid = sp.FokkerPlanckGrid(sde, -3.0, 3.0, cells, precise)
        start = grid.density_of(lambda x: precise.xp.exp(-8 * precise.xp.sum((x - 1.0) ** 2, axis=-1)))
        end = grid.solve(start, [0.0, 0.7])[-1, ...]
        assert_array(grid.mean(end), math.exp(-0.7) * host(grid.mean(start)), precise, 1e-12)
        assert float(np.min(host(end))) >= 0


def test_oblique_noise_of_one_process_converges():
    """dx = L dW with one W: x stays on a line; the noise that positivity adds falls with the cells."""
    sde = sp.ItoSDE(lambda x, t: -x, lambda x, t: np.array([[0.6], [-0.35]]), "additive", 1)
    found = []
    for n in (40, 80, 160):
        grid = sp.FokkerPlanckGrid(sde, -3.0, 3.0, (n, n), "numpy")
        start = grid.density_of(multivariate_normal([0.5, 0.3], 0.1).pdf)
        end = grid.solve(start, [0.0, 0.5])[-1]
        square = np.outer([0.6, -0.35], [0.6, -0.35])
        exact = math.exp(-1) * grid.covariance(start) + square * (1 - math.exp(-1)) / 2
        found.append(np.max(np.abs(grid.covariance(end) - exact)))
    assert found[0] > found[1] > found[2] and found[2] < 0.01
