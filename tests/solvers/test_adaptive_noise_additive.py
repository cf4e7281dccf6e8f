"""Adaptive steps with additive noise, in falling time too, and with areas where the solver draws them."""

import math

import numpy as np
import pytest
from checks import covariance_matrix, fitted_slope

import sdeppl as sp

MEAN, COVARIANCE = np.array([1.5, -0.8, 0.4]), covariance_matrix(3, seed=4, smallest=0.1)


@pytest.mark.parametrize(
    "solver", [sp.SRA1(), sp.StochasticHeun(), sp.EulerMaruyama()], ids=lambda s: type(s).__name__
)
def test_reverse_sde_with_noise(solver):
    """From the exact p_1 back to p_.05, 4,000 draws: mean and covariance within 4.5 standard errors (9
    statistics, false alarms 6e-5); falling times, area where the solver draws it. Seeds 1 and 2."""
    sde, paths = sp.VPSDE(sp.LinearSchedule(0.5, 6.0)), 4_000
    reverse = sp.ReverseSDE(sde, sp.GaussianDenoiser(sde, MEAN, COVARIANCE), 1.0)
    z = np.random.default_rng(1).standard_normal((paths, 3))
    x = (
        sde.alpha(1.0) * MEAN
        + z @ np.linalg.cholesky(sde.alpha(1.0) ** 2 * COVARIANCE + sde.sigma(1.0) ** 2 * np.eye(3)).T
    )
    noise = sp.BrownianPath(2, area="area" in solver.draws)
    tolerance = 0.03
    found = sp.solve(
        reverse,
        x,
        [1.0, 0.05],
        solver=solver,
        noise=noise,
        keep="last",
        control=sp.PIController(rtol=tolerance, atol=tolerance),
    )
    exact = sde.alpha(0.05) ** 2 * COVARIANCE + sde.sigma(0.05) ** 2 * np.eye(3)
    white = (found.states[0] - sde.alpha(0.05) * MEAN) @ np.linalg.inv(np.linalg.cholesky(exact)).T
    assert np.max(np.abs(np.mean(white, axis=0))) * math.sqrt(paths) < 4.5
    excess = np.abs(np.cov(white.T) - np.eye(3)) * math.sqrt(paths)
    assert np.max(excess / np.where(np.eye(3), math.sqrt(2), 1.0)) < 4.5


@pytest.mark.parametrize("falling", [False, True], ids=["forward", "falling"])
def test_strong_errors_of_a_solver_that_draws_areas(falling):
    """SRA1's distance from 2,048 equal steps on the same path is ∝ h^{3/2} ∝ tolerance^{3/4}; the slope
    varies by .03 between seeds. The area of a whole step is put together from those of its parts: else the
    error is estimated as ∝ h^{3/2} and not h², and thousands of steps are taken."""
    sde = sp.ItoSDE(lambda x, t: np.sin(3 * x) - x, lambda x, t: 0.7 + 0.5 * t, "additive")
    times = [0.0, 1.0]
    if falling:
        sde, times = sp.ReverseSDE(sde, lambda x, t: np.cos(2 * x) - x), [1.0, 0.0]
    path, x = sp.BrownianPath(6, area=True), np.linspace(-1, 1, 20)[:, None]
    equal = sp.uniform_grid(*times, 2048)
    fine = sp.solve(sde, x, equal, solver=sp.SRA1(), noise=path, keep="last")
    tolerances, errors = [1e-2, 1e-3, 1e-4], []
    for tolerance in tolerances:
        found = sp.solve(
            sde,
            x,
            times,
            solver=sp.SRA1(),
            noise=path,
            keep="last",
            control=sp.PIController(rtol=0.0, atol=tolerance),
        )
        errors.append(np.sqrt(np.mean((found.states - fine.states) ** 2)))
    assert fitted_slope(tolerances, errors) == pytest.approx(0.75, abs=0.2)
    assert errors[-1] < 2e-4
    assert found.stats["accepted"] < 400
