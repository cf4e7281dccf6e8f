"""DPM-Solver++: measured orders, and what a Gaussian and a mixture come back as."""

import math

import numpy as np
import pytest
from checks import fitted_slope
from linear_probes import (
    COVARIANCE,
    EACH_GRID,
    EACH_SDE,
    MEAN,
    SDES,
    errors,
    exact_map,
    grids_of,
    maps,
    marginal,
    moments_after,
    reverse_of,
    slope,
    strong_errors,
)
from mixture_start import assert_mixture_returns, flow_slope, mixture_reverse

import sdeppl as sp

EACH_ORDER = pytest.mark.parametrize("order", [1, 2, 3])


@EACH_SDE
@EACH_GRID
@EACH_ORDER
def test_order_of_the_flow(sde, grid, order):
    """c = 0: the orders are 1, 2, 3 ± 0.1, on grids uniform in t and in ln(α/σ)."""
    grids, solver = grids_of(sde, grid, (64, 128, 256)), sp.DPMSolverPP(order)
    of_map, of_covariance = errors(sde, solver, grids, 0.0)
    assert solver.order == order
    assert slope(grids, of_map) == pytest.approx(order, abs=0.1)
    assert slope(grids, of_covariance) == pytest.approx(order, abs=0.1)
    assert of_map[-1] < (0.005, 3e-5, 4e-7)[order - 1]


@EACH_ORDER
def test_order_of_the_flow_of_a_mixture(order):
    assert flow_slope(SDES["vp"], sp.DPMSolverPP(order), (128, 256, 512)) == pytest.approx(order, abs=0.1)


@EACH_SDE
@EACH_ORDER
@pytest.mark.parametrize("c", [0.5, 1.0, 2.0, lambda t: 1.5 - t], ids=["half", "1", "2", "of time"])
def test_weak_order(sde, order, c):
    """With noise the weak orders are 1, 2, 2 ± 0.15: order 3 gains none."""
    grids, solver = grids_of(sde, "λ", (48, 96, 192)), sp.DPMSolverPP(order)
    of_map, of_covariance = errors(sde, solver, grids, c)
    if not (order == 3 and callable(c)):  # two errors of order 2 cancel in part there
        assert slope(grids, of_covariance) == pytest.approx(solver.weak_order, abs=0.15)
    assert of_covariance[-1] < (0.13 if order == 1 else 2e-3)
    assert max(of_map) < (0.06 if order == 1 else 0.02)


@EACH_SDE
@pytest.mark.parametrize("order", [1, 2])
def test_weak_order_on_a_grid_uniform_in_time(sde, order):
    grids, solver = grids_of(sde, "t", (32, 64, 128)), sp.DPMSolverPP(order)
    _, of_covariance = errors(sde, solver, grids, 1.0)
    assert slope(grids, of_covariance) == pytest.approx(solver.weak_order, abs=0.1)


@pytest.mark.parametrize("c", [0.5, 1.0])
def test_strong_order(c):
    """1 for additive noise: at once for order 1; orders 2 and 3 fall faster at first, by 1.4 and 1.5,
    and come down to it as their errors do, to 1.2 for order 2 and VE at 64 to 128 steps (1.07 at 512)."""
    sizes = (16, 32, 64)
    one, two, three = (strong_errors(SDES["vp"], sp.DPMSolverPP(order), c, sizes) for order in (1, 2, 3))
    assert -fitted_slope(sizes, one) == pytest.approx(sp.DPMSolverPP(1).strong_order["additive"], abs=0.1)
    assert -fitted_slope(sizes, two) > 1.3 < -fitted_slope(sizes, three)
    assert two[-1] < one[-1] / 2
    if c == 0.5:
        late = strong_errors(SDES["ve"], sp.DPMSolverPP(2), c, (64, 128), reference=2048)
        assert -fitted_slope((64, 128), late) == pytest.approx(1.2, abs=0.1)


@EACH_SDE
@EACH_ORDER
def test_order_down_to_zero(sde, order):
    """On log_snr_grid the step to t = 0 costs no order: its error is (σ_s/α_s)²/2 over the variance."""
    grids = [sp.log_snr_grid(sde, n, 1e-6) for n in (320, 640, 1280)]
    of_map, of_covariance = errors(sde, sp.DPMSolverPP(order), grids, 0.0)
    assert slope(grids, of_covariance) == pytest.approx(order, abs=0.1)
    assert of_map[-1] < (5e-3, 1e-5, 3e-8)[order - 1] * 2


@EACH_SDE
@EACH_ORDER
def test_error_of_the_step_to_zero(sde, order):
    """Denoising from noise level ρ = σ/α instead of following the flow: relatively ρ²/(2 V)."""
    s = 1e-3
    _, A, _ = maps(reverse_of(sde, 0.0), sp.DPMSolverPP(order), [s, 0.0])
    rho, eigenvalues = sde.sigma(s) / sde.alpha(s), np.linalg.eigvalsh(COVARIANCE)
    relative = np.linalg.eigvalsh(A @ np.linalg.inv(exact_map(sde, 0.0, s, 0.0))) - 1
    np.testing.assert_allclose(np.sort(relative), np.sort(-(rho**2) / (2 * eigenvalues)), rtol=0.01)


@EACH_ORDER
@pytest.mark.parametrize("c", [0.0, 0.5, 1.0, 2.0])
def test_a_gaussian_comes_back(order, c):
    """Moments at t = 0 of a start at p_T, for each SDE and for one whose mean is pushed away."""
    pushed = sp.ShiftedVPSDE(0.8, sp.LinearSchedule(0.5, 3.0))
    for sde in (*SDES.values(), pushed):
        times = sp.log_snr_grid(sde, 160, 1e-4)
        mean, covariance = moments_after(
            reverse_of(sde, c), sp.DPMSolverPP(order), times, *marginal(sde, 1.0)
        )
        limit = 0.3 if order == 1 else 0.03
        np.testing.assert_allclose(mean, MEAN, atol=limit)
        np.testing.assert_allclose(covariance, COVARIANCE, atol=limit)


@EACH_SDE
@pytest.mark.parametrize(("c", "order"), [(0.0, 3), (0.5, 2), (1.0, 2), (2.0, 3)])
def test_a_mixture_comes_back(sde, c, order):
    """Seed 11."""
    assert_mixture_returns(sde, sp.DPMSolverPP(order), c, sp.log_snr_grid(sde, 100, 1e-3), seed=11)


def test_order_1_is_exponential_euler():
    x, times = np.random.default_rng(0).standard_normal((4, 2)), [1.0, 0.6, 0.2, 0.0]
    one, two = (
        sp.solve(mixture_reverse(SDES["vp"], 0.7), x, times, solver=solver).states
        for solver in (sp.DPMSolverPP(1), sp.ExponentialEuler())
    )
    np.testing.assert_allclose(one, two, atol=1e-14)


def test_times_with_the_same_noise_level_are_one():
    """α/σ is the same to rounding: the state stays, and so does what is remembered."""
    reverse, x = mixture_reverse(SDES["vp"], 0.0), np.random.default_rng(0).standard_normal((4, 2))
    s, solver = 0.5, sp.DPMSolverPP(2)
    first, memory = solver.step(reverse, x, 0.6, s, None)
    again, kept = solver.step(reverse, first, s, math.nextafter(s, 0), None, memory)
    np.testing.assert_allclose(again, first, rtol=1e-14)
    assert (
        len(kept) == 1
        and np.isfinite(solver.step(reverse, again, math.nextafter(s, 0), 0.4, None, kept)[0]).all()
    )


def test_what_it_does_not_take_is_refused():
    with pytest.raises(ValueError, match="order must be 1, 2 or 3; got 4"):
        sp.DPMSolverPP(4)
    x, vp, solver = np.ones((2, 2)), SDES["vp"], sp.DPMSolverPP()
    with pytest.raises(
        TypeError, match=r"DPMSolverPP solves the ReverseSDE of .* got VPSDE; use EulerMaruyama"
    ):
        sp.solve(vp, x, [0.0, 1.0], solver=solver)
    matrix = sp.MatrixLinearSDE(np.eye(2), np.eye(2))
    with pytest.raises(TypeError, match="got ReverseSDE of MatrixLinearSDE; use EulerMaruyama"):
        sp.solve(sp.ReverseSDE(matrix, lambda x, t: -x), x, [1.0, 0.1], solver=solver)
    with pytest.raises(TypeError, match="DPMSolverPP takes a number c; got a matrix"):
        sp.solve(mixture_reverse(vp, np.eye(2)), x, [1.0, 0.1], solver=solver)
    with pytest.raises(ValueError, match=r"got a step from t=0\.1 to t=1"):
        sp.solve(mixture_reverse(vp, 0.0), x, [0.1, 1.0], solver=solver)
