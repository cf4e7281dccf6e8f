"""Critically damped Langevin diffusion, and Langevin dynamics in a potential."""

import math

import numpy as np
import pytest
from checks import array, assert_array, covariance_matrix

import sdeppl as sp

SCHEDULE = sp.LinearSchedule(0.5, 6.0)
MASS = 0.7
DAMPED = sp.CriticallyDampedSDE(SCHEDULE, MASS)
FRICTION = 2 * math.sqrt(MASS)
SAME_AS_DAMPED = sp.MatrixLinearSDE(  # of one position and one velocity
    np.array([[0.0, -1 / MASS], [1.0, FRICTION / MASS]]),
    np.array([[0.0], [math.sqrt(2 * FRICTION)]]),
    schedule=SCHEDULE,
)


# ---- Critically damped Langevin -------------------------------------------------------------------


@pytest.mark.parametrize("interval", [(0.0, 1e-9), (0.0, 0.1), (0.3, 0.9), (0.0, 1.0), (0.0, 4.0)])
def test_critically_damped_is_the_matrix_sde_of_each_pair(interval):
    """The closed form against the matrix exponential, to rounding; there is one entry each way."""
    for found, expected in zip(
        DAMPED.transition(*interval), SAME_AS_DAMPED.transition(*interval), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-15 * (interval[1] > 1))


@pytest.mark.parametrize("h", [1e-9, 1e-13])
def test_positions_get_their_noise_at_order_h_cubed(h):
    """Q ≈ 2Γ [[h³/3M², h²/2M], [h²/2M, h]], each entry to 1e-7."""
    damped = np.array(sp.CriticallyDampedSDE(sp.ConstantSchedule(1.0), MASS).transition(0.0, h).covariance)
    leading = 2 * FRICTION * np.array([[h**3 / 3 / MASS**2, h**2 / 2 / MASS], [h**2 / 2 / MASS, h]])
    np.testing.assert_allclose(damped, leading, rtol=1e-7)


@pytest.mark.parametrize("t", [1e-9, 1e-3, 0.4, 1.0, 2.0])
def test_signal_to_noise_of_critically_damped(t):
    np.testing.assert_allclose(DAMPED.snr(t), SAME_AS_DAMPED.snr(t), rtol=1e-10)
    np.testing.assert_allclose(DAMPED.log_snr(t), SAME_AS_DAMPED.log_snr(t), rtol=1e-10)
    assert DAMPED.snr(0.0) == DAMPED.log_snr(0.0) == math.inf
    assert DAMPED.log_snr(40.0)[1] < -5000  # where e^{-y} underflows


def test_critically_damped_acts_blockwise(backend):
    """Moments, drift and noise of n pairs are those of the Kronecker product with the identity."""
    n, t, beta = 3, 0.35, SCHEDULE.beta(0.35)
    mean, covariance = np.arange(6.0) - 2, covariance_matrix(6, seed=8)
    phi, q = (np.kron(part, np.eye(n)) for part in SAME_AS_DAMPED.transition(0.1, t)[::2])
    found = DAMPED.moments(array(mean, backend), array(covariance, backend), t, 0.1)
    assert_array(found[0], phi @ mean, backend)
    assert_array(found[1], phi @ covariance @ phi.T + q, backend)
    x = np.arange(12.0).reshape(2, 6) - 5
    pull = np.kron(SAME_AS_DAMPED.A, np.eye(n))
    assert_array(DAMPED.drift(array(x, backend), t), -beta * x @ pull.T, backend)
    amplitude = math.sqrt(2 * FRICTION * beta)
    assert_array(DAMPED.diffusion(array(x, backend), t), [0, 0, 0] + 3 * [amplitude], backend)


def test_critically_damped_ends_in_its_equilibrium_and_starts_as_the_paper_says(backend):
    late = DAMPED.transition(0.0, 10.0)
    np.testing.assert_allclose(late.map, np.zeros((2, 2)), atol=1e-60)
    np.testing.assert_allclose(late.covariance, [[1, 0], [0, MASS]], rtol=1e-12, atol=1e-60)
    x, z = np.array([[1.0, 2.0]]), np.array([[0.5, -1.0]])
    start = DAMPED.start(array(x, backend), array(z, backend), 0.09)
    assert_array(start, [[1, 2, 0.15 * math.sqrt(MASS), -0.3 * math.sqrt(MASS)]], backend)
    covariance = covariance_matrix(2, seed=6)
    mean, joint = DAMPED.start_moments(array(x[0], backend), array(covariance, backend), 0.09)
    assert_array(mean, [1, 2, 0, 0], backend)
    nothing = np.zeros((2, 2))
    assert_array(joint, np.block([[covariance, nothing], [nothing, 0.09 * MASS * np.eye(2)]]), backend)
    assert sp.CriticallyDampedSDE() == sp.CriticallyDampedSDE(sp.ConstantSchedule(4.0), 0.25)
    assert sp.CriticallyDampedSDE().friction == 1.0  # the paper's Γ for M = 1/4


# ---- Langevin dynamics ----------------------------------------------------------------------------


def test_langevin_dynamics_with_a_linear_force_is_a_matrix_sde(backend):
    K, g, kT, m = np.array([[2.0, 0.5], [0.5, 1.0]]), 0.7, 1.3, 0.6
    placed = array(K, backend)
    sde = sp.LangevinSDE(lambda q: -q @ placed.T, g, kT, m)
    x = np.array([[1.0, -0.5, 0.3, 0.8], [0.2, 2.0, -1.0, 0.1]])
    A = np.block([[np.zeros((2, 2)), -np.eye(2)], [K / m, g * np.eye(2)]])
    assert_array(sde.drift(array(x, backend), 0.0), -x @ A.T, backend)
    amplitude = math.sqrt(2 * g * kT / m)
    assert_array(sde.diffusion(array(x, backend), 0.0), [0, 0, amplitude, amplitude], backend)
    B = np.concatenate([np.zeros((2, 2)), amplitude * np.eye(2)])
    _, gibbs = sp.MatrixLinearSDE(A, B).equilibrium()
    expected = np.block([[kT * np.linalg.inv(K), np.zeros((2, 2))], [np.zeros((2, 2)), kT / m * np.eye(2)]])
    np.testing.assert_allclose(gibbs, expected, atol=1e-12)


def test_langevin_dynamics_without_noise_is_deterministic():
    for friction, temperature in ((0.0, 1.0), (1.0, 0.0)):
        assert sp.LangevinSDE(np.sin, friction, temperature).deterministic(0.0, 1.0)
    assert not sp.LangevinSDE(np.sin).deterministic(0.0, 1.0)


# ---- Errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: sp.CriticallyDampedSDE(mass=0.0), ValueError, "mass must be positive and finite; got 0.0"),
        (lambda: sp.CriticallyDampedSDE(T=math.inf), ValueError, "T must be positive and finite; got inf"),
        (lambda: sp.CriticallyDampedSDE(4.0), ValueError, "schedule must be a Schedule"),
        (lambda: DAMPED.drift(np.ones((2, 3)), 0.1), ValueError, "n positions and then n velocities; got"),
        (lambda: DAMPED.transition(0.5, 0.2), ValueError, "from t=0.5 to t=0.2; use ReverseSDE"),
        (lambda: sp.LangevinSDE(np.sin, friction=-1.0), ValueError, "friction must be a finite number >= 0"),
        (lambda: sp.LangevinSDE(np.sin, 1.0, math.nan), ValueError, "temperature must be a finite number"),
        (lambda: sp.LangevinSDE(np.sin, mass=0.0), ValueError, "mass must be positive and finite; got 0.0"),
        (lambda: sp.LangevinSDE(3.0), TypeError, "force must be a function q ↦ F(q); got 3.0"),
        (lambda: sp.LangevinSDE(np.sin).drift(np.ones(3), 0.0), ValueError, "got shape (3,)"),
    ],
)
def test_bad_arguments_are_refused(make, error, message):
    with pytest.raises(error) as caught:
        make()
    assert message in str(caught.value)
