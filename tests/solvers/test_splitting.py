"""BAOAB for Langevin dynamics: measured orders.

With a linear force a step is affine in the state and the normals: moments are
carried exactly, and orders are measured without Monte Carlo.
"""

import itertools
import math

import numpy as np
import pytest
from checks import array, assert_array, covariance_matrix, fitted_slope, propagate, step_maps
from scipy.linalg import solve_discrete_lyapunov

import sdeppl as sp
from sdeppl.sde import linear_transition

K, OFFSET = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([0.4, -0.2])
FRICTION, KT, MASS = 0.7, 1.3, 0.6


def harmonic(backend, friction=FRICTION, temperature=KT):
    stiffness, offset = array(K, backend), array(OFFSET, backend)
    return sp.LangevinSDE(lambda q: offset - q @ stiffness.T, friction, temperature, MASS)


def same_as_harmonic(friction=FRICTION, temperature=KT):
    """As a MatrixLinearSDE, whose moments are exact."""
    A = np.block([[np.zeros((2, 2)), -np.eye(2)], [K / MASS, friction * np.eye(2)]])
    B = np.concatenate([np.zeros((2, 2)), math.sqrt(2 * friction * temperature / MASS) * np.eye(2)])
    return sp.MatrixLinearSDE(A, B, np.concatenate([np.zeros(2), OFFSET / MASS]))


@pytest.mark.parametrize("friction", [0.0, 0.7, 5.0])
def test_baoab_has_weak_order_2_for_a_linear_force(friction, precise):
    mean, covariance, sizes = np.array([1.0, -0.5, 0.3, 0.8]), covariance_matrix(4, seed=5), (32, 64, 128)
    exact = same_as_harmonic(friction).moments(mean, covariance, 2.0)
    sde = harmonic(precise, friction)
    found = [
        propagate(sde, sp.BAOAB(), sp.uniform_grid(0.0, 2.0, n), mean, covariance, precise) for n in sizes
    ]
    for i in range(2):
        errors = [np.linalg.norm(pair[i] - exact[i]) for pair in found]
        assert fitted_slope(1 / np.array(sizes), errors) == pytest.approx(sp.BAOAB.weak_order, abs=0.05)
        assert errors[-1] < 1e-3 * np.linalg.norm(exact[i])


@pytest.mark.parametrize("h", [0.1, 0.5, 1.0, 1.4])
def test_baoab_has_no_error_in_positions_at_equilibrium_under_a_linear_force(h):
    """Cov[q] = kT K⁻¹ and E[q] = K⁻¹ b at any stable step; <v vᵀ> = kT/m (1 - h² K/4m)."""
    backend = sp.resolve("numpy")
    constant, A, B = step_maps(harmonic(backend), sp.BAOAB(), 0.0, h, 4, backend)
    stationary, mean = solve_discrete_lyapunov(A, B @ B.T), np.linalg.solve(np.eye(4) - A, constant)
    np.testing.assert_allclose(stationary[:2, :2], KT * np.linalg.inv(K), rtol=1e-12)
    np.testing.assert_allclose(mean, [*np.linalg.solve(K, OFFSET), 0, 0], atol=1e-12)
    velocities = KT / MASS * (np.eye(2) - h**2 * K / (4 * MASS))
    np.testing.assert_allclose(stationary[2:, 2:], velocities, atol=1e-12)
    np.testing.assert_allclose(stationary[:2, 2:], np.zeros((2, 2)), atol=1e-12)


def test_baoab_has_weak_order_2_for_a_force_that_is_not_linear():
    """F = -q³, with normals replaced by 3-point quadrature, which weak order 2 does not see.

    All 3ⁿ paths of n steps: successive differences of six moments fall by 4.
    """
    sde, T = sp.LangevinSDE(lambda q: -(q**3), FRICTION, KT, MASS), 0.6

    def moments(n):
        x, weights, h = np.array([[0.8, -0.3]]), np.ones(1), T / n
        for k in range(n):
            z = np.tile([-math.sqrt(3), 0.0, math.sqrt(3)], len(x))
            x, _ = sp.BAOAB().step(
                sde, np.repeat(x, 3, axis=0), k * h, (k + 1) * h, np.stack([0 * z, z], axis=-1)
            )
            weights = np.outer(weights, [1 / 6, 2 / 3, 1 / 6]).ravel()
        q, v = x.T
        return np.array([weights @ part for part in (q, v, q**2, q * v, v**2, q**4)])

    coarse, middle, fine = (moments(n) for n in (3, 6, 12))
    order = np.log2(np.linalg.norm(coarse - middle) / np.linalg.norm(middle - fine))
    assert order == pytest.approx(sp.BAOAB.weak_order, abs=0.15)


def test_baoab_has_strong_order_1_on_a_given_brownian_path():
    """Without Monte Carlo: the covariance of (scheme, exact solution) follows from that of (ξ, ΔW).

    ξ is the exact noise of a step; it and ΔW are the noise of (x, W), a linear SDE itself.
    """
    backend, exact, errors, sizes = sp.resolve("numpy"), same_as_harmonic(), [], (32, 64, 128)
    F, B = np.zeros((6, 6)), np.concatenate([exact.B, np.eye(2)])
    F[:4, :4] = -exact.A
    for n in sizes:
        h = 1.0 / n
        noise = linear_transition(F, B @ B.T, np.zeros(6), h).covariance
        phi, shift, _ = exact.transition(0.0, h)
        constant, A, S = step_maps(harmonic(backend), sp.BAOAB(), 0.0, h, 4, backend)
        S = S[:, 2:] / math.sqrt(h)  # of ΔW
        enter = np.block([[np.zeros((4, 4)), S], [np.eye(4), np.zeros((4, 2))]])
        carry = np.block([[A, np.zeros((4, 4))], [np.zeros((4, 4)), phi]])
        mean, covariance = np.ones(8), np.zeros((8, 8))
        for _ in range(n):
            mean = carry @ mean + np.concatenate([constant, shift])
            covariance = carry @ covariance @ carry.T + enter @ noise @ enter.T
        difference = np.concatenate([np.eye(4), -np.eye(4)], axis=1)
        spread = difference @ covariance @ difference.T
        errors.append(math.sqrt(np.trace(spread) + np.sum((difference @ mean) ** 2)))
    order = sp.BAOAB.strong_order["additive"]
    assert fitted_slope(1 / np.array(sizes), errors) == pytest.approx(order, abs=0.05)
    assert errors[-1] < 0.02


def test_baoab_evaluates_the_force_once_a_step(backend):
    """The last force of a step is the first of the next; whole solves agree on every backend."""
    calls, stiffness = [], array(K, backend)
    sde = sp.LangevinSDE(lambda q: calls.append(1) or -q @ stiffness.T, FRICTION, KT, MASS)
    start, grid = np.array([[1.0, -0.5, 0.3, 0.8], [0.2, 0.1, 0.0, -1.0]]), sp.uniform_grid(0.0, 1.0, 20)
    found = sp.solve(sde, array(start, backend), grid, solver=sp.BAOAB(), noise=sp.Noise(4))
    assert len(calls) == 21
    x, numpy = start, sp.resolve("numpy")
    for k, (s, t) in enumerate(itertools.pairwise(grid)):
        z = sp.Noise(4).stream(numpy).normal(k + 1, (2, 4))
        plain = sp.LangevinSDE(lambda q: -q @ K.T, FRICTION, KT, MASS)
        x = sp.BAOAB().step(plain, x, s, t, z)[0]
    assert_array(found.states[-1, ...], x, backend, 1e-4 if "32" in str(backend.dtype) else 1e-11)


def test_baoab_without_noise_is_velocity_verlet():
    """It keeps the energy of a pendulum to second order and runs backward to where it began."""
    sde, start = sp.LangevinSDE(lambda q: -np.sin(q), 0.0, 1.0), np.array([[1.2, 0.4]])
    drifts, sizes = [], (200, 400)
    for n in sizes:
        states = sp.solve(sde, start, sp.uniform_grid(0.0, 10.0, n), solver=sp.BAOAB()).states[:, 0]
        energy = states[:, 1] ** 2 / 2 - np.cos(states[:, 0])
        drifts.append(np.max(np.abs(energy - energy[0])))
        back = sp.solve(sde, states[-1:], sp.uniform_grid(10.0, 0.0, n), solver=sp.BAOAB()).states[-1]
        np.testing.assert_allclose(back, start, atol=1e-11)
    assert fitted_slope(1 / np.array(sizes), drifts) == pytest.approx(2, abs=0.05)


def test_states_of_odd_length_are_refused():
    with pytest.raises(ValueError, match=r"n positions and then n velocities; got shape \(2, 3\)"):
        sp.BAOAB().step(sp.LangevinSDE(np.sin), np.ones((2, 3)), 0.0, 0.1, None)
