"""Matrix-valued linear SDEs: transitions, noise, errors."""

import copy
import itertools
import math
import pickle

import numpy as np
import pytest
from checks import array, assert_array, covariance_matrix, fitted_slope, host, propagate
from scipy.integrate import solve_ivp

import sdeppl as sp
from sdeppl.sde import linear as matrix_module

COUPLED = np.array([[1.0, 0.8, 0.0], [-0.6, 0.4, 0.3], [0.2, 0.0, 0.7]])
CORRELATED = np.array([[0.9, 0.0], [0.5, 0.7], [-0.3, 0.4]])
SCHEDULE = sp.LinearSchedule(0.5, 6.0)
SDES = {
    "coupled": sp.MatrixLinearSDE(COUPLED, CORRELATED, np.array([0.5, -1.0, 2.0])),
    "time change": sp.MatrixLinearSDE(COUPLED, CORRELATED, np.array([0.5, -1.0, 2.0]), SCHEDULE),
    "unstable": sp.MatrixLinearSDE(np.array([[-0.5, 1.0], [0.0, 0.3]]), np.array([[0.2], [1.1]])),
    "defective": sp.MatrixLinearSDE(np.array([[2.0, 1.0], [0.0, 2.0]]), np.array([[0.0], [1.5]])),
    "integrator": sp.MatrixLinearSDE(np.array([[0.0, -1.0], [0.0, 0.0]]), np.array([[0.0], [0.8]])),
    "Brownian": sp.MatrixLinearSDE(np.zeros((2, 2)), np.array([[1.0, 0.3], [0.0, 0.4]]), np.ones(2)),
}
EACH_SDE = pytest.mark.parametrize("sde", SDES.values(), ids=SDES)


def moment_equations(sde, s, t):
    """dΦ/dt = -β A Φ, dm/dt = β (u - A m), dQ/dt = β (B Bᵀ - A Q - Q Aᵀ) from s to t."""
    k, u = sde.dim, np.zeros(sde.dim) if sde.u is None else sde.u

    def slope(r, packed):
        phi, q, m = (
            packed[: k * k].reshape(k, k),
            packed[k * k : 2 * k * k].reshape(k, k),
            packed[2 * k * k :],
        )
        q_slope = sde.B @ sde.B.T - sde.A @ q - q @ sde.A.T
        parts = (-sde.A @ phi, q_slope, u - sde.A @ m)
        return sde.schedule.beta(r) * np.concatenate([part.ravel() for part in parts])

    start = np.concatenate([np.eye(k).ravel(), np.zeros(k * k + k)])
    end = solve_ivp(slope, (s, t), start, method="DOP853", rtol=1e-12, atol=1e-13).y[:, -1]
    return end[: k * k].reshape(k, k), end[2 * k * k :], end[k * k : 2 * k * k].reshape(k, k)


@EACH_SDE
@pytest.mark.parametrize("interval", [(0.0, 0.05), (0.0, 1.0), (0.3, 0.31), (0.2, 2.9)])
def test_transition_solves_the_moment_equations(sde, interval):
    for found, expected in zip(sde.transition(*interval), moment_equations(sde, *interval), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10)


@EACH_SDE
def test_chapman_kolmogorov(sde):
    """Two transitions in a row are one, also where the first is very short or long."""
    for s, r, t in ((0.0, 0.4, 1.0), (0.1, 0.10001, 0.9), (0.0, 1e-7, 2e-7), (0.0, 6.0, 20.0)):
        (first, shift1, q1), (second, shift2, q2) = sde.transition(s, r), sde.transition(r, t)
        expected = (second @ first, second @ shift1 + shift2, second @ q1 @ second.T + q2)
        for a, b in zip(sde.transition(s, t), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-13 * np.max(np.abs(b)))


@EACH_SDE
def test_moments_are_those_of_an_affine_map(sde, backend):
    k = sde.dim
    placed = sp.MatrixLinearSDE(
        array(sde.A, backend),
        array(sde.B, backend),
        None if sde.u is None else array(sde.u, backend),
        sde.schedule,
    )
    means = np.arange(2.0 * k).reshape(2, k) - 1
    covariances = np.stack([covariance_matrix(k, seed=1), covariance_matrix(k, seed=2)])
    phi, shift, q = moment_equations(sde, 0.1, 0.6)
    found = placed.moments(array(means, backend), array(covariances, backend), 0.6, 0.1)
    assert_array(found[0], means @ phi.T + shift, backend)
    assert_array(found[1], phi @ covariances @ phi.T + q, backend)


@EACH_SDE
def test_drift_and_noise_are_those_of_the_matrices(sde):
    """f = β (u - A x) and g = √β B."""
    x, t, beta = np.arange(4.0 * sde.dim).reshape(4, sde.dim), 0.4, sde.schedule.beta(0.4)
    u = 0 if sde.u is None else sde.u
    np.testing.assert_allclose(sde.drift(x, t), [beta * (u - sde.A @ row) for row in x], rtol=1e-13)
    np.testing.assert_allclose(sde.diffusion(x, t), math.sqrt(beta) * sde.B, rtol=1e-13)
    assert (sde.noise, sde.wiener_shape(x.shape)) == ("additive", (4, sde.B.shape[1]))


@EACH_SDE
def test_noise_over_a_short_step_has_full_relative_precision(sde):
    """Q ≈ β B Bᵀ h entry by entry."""
    s = 0.5
    for h in (1e-9, 1e-13):
        span = sde.schedule.beta(s) * ((s + h) - s)
        q, leading = sde.transition(s, s + h).covariance, span * (sde.B @ sde.B.T)
        np.testing.assert_allclose(q, leading, rtol=1e-7, atol=10 * span**2)


@pytest.mark.parametrize("h", [1e-9, 1e-13])
def test_positions_without_noise_of_their_own_get_theirs_at_order_h_cubed(h):
    """dq = v dt, dv = -k q dt - g v dt + b dW: Q ≈ b² [[h³/3, h²/2], [h²/2, h]], each entry to 1e-7."""
    sde = sp.MatrixLinearSDE(np.array([[0.0, -1.0], [3.0, 2.0]]), np.array([[0.0], [1.4]]))
    leading = 1.4**2 * np.array([[h**3 / 3, h**2 / 2], [h**2 / 2, h]])
    np.testing.assert_allclose(sde.transition(0.0, h).covariance, leading, rtol=1e-7)


@pytest.mark.parametrize("stiffness", [1.0, 1e3, 1e6])
def test_long_and_stiff_transitions_reach_the_equilibrium(stiffness):
    """Van Loan's blocks hold e^{+A τ}, which must not cost Q its digits."""
    A = np.array([[1.0, 0.5, 0.0], [-0.5, 2.0, 0.0], [0.1, 0.0, stiffness]])
    sde = sp.MatrixLinearSDE(A, COUPLED, np.array([1.0, 2.0, 3.0]))
    mean, covariance = sde.equilibrium()
    np.testing.assert_allclose(A @ mean, [1.0, 2.0, 3.0], rtol=1e-12)
    np.testing.assert_allclose(A @ covariance + covariance @ A.T, COUPLED @ COUPLED.T, atol=1e-12)
    phi, shift, q = sde.transition(0.0, 60.0)
    np.testing.assert_allclose(phi, 0 * A, atol=1e-20)
    np.testing.assert_allclose(shift, mean, rtol=1e-10)
    np.testing.assert_allclose(q, covariance, rtol=1e-9, atol=1e-12 * np.max(covariance))


def test_one_dimension_is_the_linear_sde_and_with_a_schedule_vpsde():
    linear, vp = sp.LinearSDE(1.3, 0.7), sp.VPSDE(SCHEDULE)
    same = sp.MatrixLinearSDE(np.array([[1.3]]), np.array([[0.7]]))
    same_vp = sp.MatrixLinearSDE(np.array([[0.5]]), np.array([[1.0]]), schedule=SCHEDULE)
    for number, found in ((linear, same), (vp, same_vp)):
        for s, t in ((0.0, 0.3), (0.2, 0.9)):
            expected = number.transition(s, t)
            phi, shift, q = found.transition(s, t)
            assert (phi.item(), shift.item(), q.item()) == pytest.approx(expected, rel=1e-12)
        assert found.snr(0.4).item() == pytest.approx(number.snr(0.4), rel=1e-12)
        assert found.log_snr(0.4).item() == pytest.approx(number.log_snr(0.4), rel=1e-12)


@pytest.mark.parametrize("name", ["coupled", "unstable", "defective", "integrator", "time change"])
def test_the_signal_to_noise_ratio_is_a_matrix(name, backend):
    sde = SDES[name]
    placed = sp.MatrixLinearSDE(array(sde.A, backend), array(sde.B, backend), schedule=sde.schedule)
    phi, _, q = moment_equations(sde, 0.0, 0.7)
    expected = phi.T @ np.linalg.inv(q) @ phi
    rounding = 2e-4 if "32" in str(backend.dtype) else 1e-6  # A and B themselves are rounded
    assert_array(placed.snr(0.7), expected, backend, rounding)
    assert_array(placed.log_snr(0.7), np.log(np.linalg.eigvalsh(expected)), backend, rounding)
    assert sde.snr(0.0) == sde.log_snr(0.0) == math.inf


@pytest.mark.parametrize("h", [1e-9, 0.3])
def test_log_snr_of_the_integrator_keeps_its_small_eigenvalue(h):
    """Φᵀ Q⁻¹ Φ = [[12/h³, 6/h²], [6/h², 4/h]]/b²: beside 12/h³ an eigenvalue of 1/h is below rounding."""
    trace, determinant = 12 / h**3 + 4 / h, 12 / h**4
    larger = trace / 2 + math.sqrt(trace**2 / 4 - determinant)
    expected = np.log([determinant / larger / 0.8**2, larger / 0.8**2])
    np.testing.assert_allclose(SDES["integrator"].log_snr(h), expected, rtol=1e-12)


def test_log_snr_of_one_fast_and_one_slow_direction_keeps_the_small_one():
    """A = R diag(λ) Rᵀ, B = I: e^{-2λ}·2λ/(1 - e^{-2λ}) at t = 1, here 0.58 and 2.8e-12."""
    rates, basis = np.array([0.5, 15.0]), np.array([[0.6, -0.8], [0.8, 0.6]])
    sde = sp.MatrixLinearSDE(basis @ np.diag(rates) @ basis.T, np.eye(2))
    expected = np.log(2 * rates / np.expm1(2 * rates))[::-1]
    np.testing.assert_allclose(sde.log_snr(1.0), expected, rtol=1e-9)


def test_a_uniform_grid_costs_one_matrix_exponential(monkeypatch):
    calls = []
    exact = matrix_module.linear_transition
    monkeypatch.setattr(matrix_module, "linear_transition", lambda *a: calls.append(a) or exact(*a))
    sde = sp.MatrixLinearSDE(COUPLED, CORRELATED)
    grid = sp.uniform_grid(0.0, 1.0, 300)
    for s, t in itertools.pairwise(grid):
        sde.transition(s, t)
    assert len(calls) == 1
    for k in range(1, matrix_module.SPANS_KEPT + 10):  # times that all differ are not all kept
        sde.transition(0.0, k / 500)
    assert len(sde._spans) <= matrix_module.SPANS_KEPT
    for again in (copy.deepcopy(sde), pickle.loads(pickle.dumps(sde))):
        np.testing.assert_array_equal(again.transition(0.0, 0.3).map, sde.transition(0.0, 0.3).map)


@EACH_SDE
def test_euler_maruyama_has_weak_order_1(sde, backend):
    """Slopes of both errors over whole solves, from the moments that the scheme itself carries."""
    if sde.B.shape != sde.A.shape:  # `propagate` wants as many normals as states
        sde = sp.MatrixLinearSDE(sde.A, covariance_matrix(sde.dim, seed=5), sde.u, sde.schedule)
    k, sizes, numpy = sde.dim, (128, 256, 512), sp.resolve("numpy")
    mean, covariance = np.arange(1.0, k + 1), covariance_matrix(k, seed=3)
    exact = sde.moments(mean, covariance, 1.0)
    found = [
        propagate(sde, sp.EulerMaruyama(), sp.uniform_grid(0.0, 1.0, n), mean, covariance, numpy)
        for n in sizes
    ]
    for i in range(2):
        errors = [np.linalg.norm(pair[i] - exact[i]) for pair in found]
        if max(errors) > 1e-10:
            assert fitted_slope(1 / np.array(sizes), errors) == pytest.approx(1, abs=0.1)
    placed = sp.MatrixLinearSDE(array(sde.A, backend), array(sde.B, backend), schedule=sde.schedule)
    states = sp.solve(placed, array(np.ones((3, k)), backend), [0.0, 0.1, 0.2]).states
    assert states.dtype == backend.dtype and states.shape == (3, 3, k)


# ---- Errors ---------------------------------------------------------------------------------------

EYE = np.eye(2)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: sp.MatrixLinearSDE(np.ones((2, 3)), EYE), ValueError, "A must be square, (dim, dim); got"),
        (lambda: sp.MatrixLinearSDE(np.ones(2), EYE), ValueError, "A must be square"),
        (lambda: sp.MatrixLinearSDE(EYE, np.ones((3, 2))), ValueError, "as many rows as A, (2, wiener_dim)"),
        (lambda: sp.MatrixLinearSDE(EYE, np.ones(2)), ValueError, "B must have as many rows as A"),
        (lambda: sp.MatrixLinearSDE(EYE, EYE, np.ones(3)), ValueError, "u must be (2,), as A says; got"),
        (lambda: sp.MatrixLinearSDE(math.nan * EYE, EYE), ValueError, "A must be finite; got [[nan"),
        (lambda: sp.MatrixLinearSDE(EYE, EYE + math.inf), ValueError, "B must be finite; got"),
        (lambda: sp.MatrixLinearSDE(EYE, EYE, T=0.0), ValueError, "T must be positive and finite; got 0.0"),
        (lambda: sp.MatrixLinearSDE(EYE, EYE, schedule=2.0), TypeError, "schedule must be a Schedule"),
        (lambda: sp.MatrixLinearSDE(np.eye(2, dtype=int), EYE), TypeError, "real floating dtype"),
        (lambda: sp.MatrixLinearSDE(EYE, EYE).transition(0.5, 0.2), ValueError, "from t=0.5 to t=0.2; use"),
        (lambda: sp.MatrixLinearSDE(-EYE, EYE).equilibrium(), ValueError, "real part -1, which is not"),
        (lambda: sp.MatrixLinearSDE(EYE, EYE[:, :1]).snr(0.5), ValueError, "does not reach all directions"),
    ],
)
def test_bad_arguments_are_refused(make, error, message):
    with pytest.raises(error) as caught:
        make()
    assert message in str(caught.value)


def test_arrays_of_two_libraries_are_refused():
    torch = sp.resolve("torch")
    with pytest.raises(sp.BackendMismatch):
        sp.MatrixLinearSDE(EYE, array(EYE, torch))


def test_results_are_on_the_backend_of_the_matrices(backend):
    sde = sp.MatrixLinearSDE(array(COUPLED, backend), array(CORRELATED, backend))
    for part, expected in zip(sde.transition(0.0, 0.4), moment_equations(_host(sde), 0.0, 0.4), strict=True):
        assert_array(part, expected, backend, None if np.any(expected) else 0.0)
    for part in sde.equilibrium():
        assert part.dtype == backend.dtype


def _host(sde):
    return sp.MatrixLinearSDE(host(sde.A), host(sde.B))
