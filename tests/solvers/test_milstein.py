"""Milstein's scheme: its step, what it refuses, and Lévy areas. Orders are in test_order_table.py."""

import itertools
import math

import numpy as np
import pytest
from checks import array, assert_array, host
from order_problems import Paths

import sdeppl as sp
from sdeppl.solvers.milstein import levy_area

S, T = 0.3, 0.55
X = np.array([[0.7, -1.2], [0.2, 0.9], [-0.5, 1.4]])
P = np.array([[1.0, 0.5], [-0.3, 0.8]])  # commuting columns: x ↦ P diag(x)-like fields in coordinates P⁻¹ x
COMMUTING = [P @ np.diag(d) @ np.linalg.inv(P) for d in ([0.6, -0.4], [0.3, 0.5])]
OTHER = [np.array([[0.0, 0.8], [0.3, 0.0]]), np.array([[0.7, 0.0], [0.0, -0.5]])]


def normals(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape)


def linear_noise(matrices, backend, own_derivative=True):
    """dx = sin(x + t) dt + Σ_k (1 + t) B_k x dW_k."""
    B = [array(matrix.T, backend) for matrix in matrices]
    xp = backend.xp

    def diffusion(x, t):
        return (1 + t) * xp.stack([x @ matrix for matrix in B], axis=-1)

    derivative = (lambda x, t, v: diffusion(v, t)) if own_derivative else None
    return sp.ItoSDE(lambda x, t: xp.sin(x + t), diffusion, "general", len(B), derivative)


def loose(backend):
    """For steps with a derivative by central differences in float32."""
    return 1e-9 if "64" in str(backend.dtype) else 2e-4


@pytest.mark.parametrize("own_derivative", [True, False])
@pytest.mark.parametrize("noise", ["scalar", "diagonal"])
def test_the_step_for_scalar_and_diagonal_noise(noise, own_derivative, backend):
    """x + f h + g ΔW + ½ g' g (ΔW² - h) for g = sin x + t."""
    xp = backend.xp
    sde = sp.ItoSDE(
        lambda x, t: x * t,
        lambda x, t: xp.sin(x) + t,
        noise,
        diffusion_jvp=(lambda x, t, v: xp.cos(x) * v) if own_derivative else None,
    )
    z = normals(3, 1 if noise == "scalar" else 2)
    found, _ = sp.Milstein().step(sde, array(X, backend), S, T, array(z, backend))
    h, g = T - S, np.sin(X) + S
    expected = X + X * S * h + g * math.sqrt(h) * z + 0.5 * np.cos(X) * g * h * (z**2 - 1)
    assert_array(found, expected, backend, loose(backend))


@pytest.mark.parametrize("own_derivative", [True, False])
def test_the_step_for_commutative_noise(own_derivative, backend):
    """x + f h + Σ_k g_k ΔW_k + ½ Σ_jk B_k B_j x (ΔW_j ΔW_k - δ_jk h)."""
    z, h = normals(3, 2), T - S
    found, _ = sp.Milstein().step(
        linear_noise(COMMUTING, backend, own_derivative), array(X, backend), S, T, array(z, backend)
    )
    expected = X + np.sin(X + S) * h
    for k in range(2):
        expected = expected + (1 + S) * X @ COMMUTING[k].T * z[:, k : k + 1] * math.sqrt(h)
        for j in range(2):
            product = 0.5 * h * (z[:, j] * z[:, k] - (j == k))
            expected = expected + (1 + S) ** 2 * X @ (COMMUTING[k] @ COMMUTING[j]).T * product[:, None]
    assert_array(found, expected, backend, loose(backend))


def test_the_step_with_levy_areas(backend):
    """Σ_jk (∂g_k/∂x) g_j I_(j,k), the order of j and k included."""
    z, u, more, h = normals(3, 2), normals(3, 2, seed=2), normals(3, 7, 2, seed=3), T - S
    given = tuple(array(part, backend) for part in (z, u, more))
    sde = linear_noise(OTHER, backend)
    found, _ = sp.MilsteinLevy(terms=3).step(sde, array(X, backend), S, T, given)
    A = levy_area(z, u, more)
    expected = X + np.sin(X + S) * h
    for k in range(2):
        expected = expected + (1 + S) * X @ OTHER[k].T * z[:, k : k + 1] * math.sqrt(h)
        for j in range(2):
            integral = h * (0.5 * (z[:, j] * z[:, k] - (j == k)) + A[:, j, k])
            expected = expected + (1 + S) ** 2 * X @ (OTHER[k] @ OTHER[j]).T * integral[:, None]
    assert_array(found, expected, backend, 1e-5 if "32" in str(backend.dtype) else 1e-12)


def test_with_additive_noise_it_is_euler_maruyama(backend):
    z = array(normals(3, 2), backend)
    for sde in (sp.LinearSDE(0.4, 0.9), sp.ItoSDE(lambda x, t: -x, lambda x, t: 0.3 + t, "additive")):
        found, _ = sp.Milstein().step(sde, array(X, backend), S, T, z)
        expected, _ = sp.EulerMaruyama().step(sde, array(X, backend), S, T, z)
        assert_array(found, host(expected), backend, 1e-6)


@pytest.mark.parametrize("start", [X, np.zeros((2, 2)), np.array([0.4, -0.3])])
@pytest.mark.parametrize("own_derivative", [True, False])
def test_noise_that_does_not_commute_is_refused(start, own_derivative, backend):
    """At a start of zeros too, where every linear field and every derivative product is zero."""
    x = array(start, backend)
    sde = linear_noise(OTHER, backend, own_derivative)
    with pytest.raises(ValueError, match=r"commutative noise.*ItoSDE.*MilsteinLevy.*EulerMaruyama"):
        sp.solve(sde, x, [0.0, 0.5], solver=sp.Milstein())
    sp.solve(sde, x, [0.0, 0.5], solver=sp.MilsteinLevy(terms=2))
    sp.solve(linear_noise(COMMUTING, backend, own_derivative), x, [0.0, 0.5], solver=sp.Milstein())


def test_a_small_part_that_does_not_commute_is_found(precise):
    bent = [COMMUTING[0], COMMUTING[1] + 1e-6 * OTHER[0]]
    with pytest.raises(ValueError, match="commutative noise"):
        sp.solve(linear_noise(bent, precise, False), array(X, precise), [0.0, 0.5], solver=sp.Milstein())


@pytest.mark.parametrize("terms", [-1, 2.0, True])
def test_the_number_of_terms_is_checked(terms):
    with pytest.raises(ValueError, match=r"terms must be a whole number, at least 0; got"):
        sp.MilsteinLevy(terms)


@pytest.mark.parametrize("noise", ["additive", "scalar", "diagonal"])
def test_levy_areas_are_for_general_noise(noise):
    sde = sp.ItoSDE(lambda x, t: x, lambda x, t: 0 * x + 1, noise)
    with pytest.raises(TypeError, match=f"MilsteinLevy takes general noise; ItoSDE has {noise} noise"):
        sp.solve(sde, np.ones((2, 2)), [0.0, 1.0], solver=sp.MilsteinLevy(2))


@pytest.mark.parametrize("terms", [0, 1, 4, 16])
def test_levy_area_of_a_given_path(terms, precise):
    """Against ∫ W_j dW_k of 2,000 piecewise linear paths (seed 4): the mean square error is the tail of
    the series, Σ_{r>p} 1/(2π² r²), within 20%; its relative standard error is about 4%."""
    paths = Paths.draw(512, 2_000, 2, seed=4, linear=True)
    dW = paths.increments
    before = np.cumsum(dW, axis=0) - dW / 2
    exact = 0.5 * np.sum(before[..., 0] * dW[..., 1] - before[..., 1] * dW[..., 0], axis=0)
    coarse = paths.coarse(1)
    given = coarse.z[0], coarse.u[0], paths.fourier(1, terms)[0]
    found = host(levy_area(*(array(part, precise) for part in given)))
    np.testing.assert_allclose(found, -np.swapaxes(found, -1, -2), atol=1e-14)
    tail = 1 / 12 - sum(1 / (2 * np.pi**2 * r**2) for r in range(1, terms + 1))
    assert np.mean((found[:, 0, 1] - exact) ** 2) == pytest.approx(tail, rel=0.2)


def test_levy_area_of_fresh_normals():
    """E A² = 1/4 less the tail, and the coefficients follow u: E A_12 Y_21 u_1 = -√6/(2π²).

    Without Monte Carlo: A is linear in each normal, so that the signs ±1 have its second moments.
    """
    signs = np.array(list(itertools.product([-1.0, 1.0], repeat=10)))
    z, u, more = signs[:, :2], signs[:, 2:4], signs[:, 4:].reshape(-1, 3, 2)
    A = levy_area(z, u, more)[:, 0, 1]
    tail = 1 / 12 - 1 / (2 * np.pi**2)
    assert np.mean(A**2) == pytest.approx(1 / 4 - tail, rel=1e-12)
    assert np.mean(A * more[:, 1, 1] * u[:, 0]) == pytest.approx(-math.sqrt(6) / (2 * np.pi**2), rel=1e-12)
    assert np.mean(A * z[:, 1] * u[:, 0]) == pytest.approx(1 / math.sqrt(12), rel=1e-12)
