"""Platen's weak scheme against his formula written out. Orders are in test_order_table.py."""

import math

import numpy as np
import pytest
from checks import array, assert_array, fitted_slope, host

import sdeppl as sp

S, T = 0.3, 0.55
X = np.array([[0.7, -1.2], [0.2, 0.9], [-0.5, 1.4]])
C = np.array([[0.8, 0.3, -0.2], [-0.4, 0.9, 0.5]])


def normals(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape)


def close(backend):
    return 1e-12 if "64" in str(backend.dtype) else 1e-5


def platen(f, b, x, s, h, dW, V):
    """Kloeden & Platen, eq. 15.1.3, sums and all; b(x, t) is a list of columns, V (paths, m, m)."""
    m, root, t = dW.shape[-1], math.sqrt(h), s + h
    columns = b(x, s)
    euler = x + f(x, s) * h
    there = euler + sum(columns[j] * dW[:, j : j + 1] for j in range(m))
    total = x + 0.5 * (f(there, t) + f(x, s)) * h
    for j in range(m):
        of_j = dW[:, j : j + 1]
        up, down = (b(euler + sign * columns[j] * root, t)[j] for sign in (1, -1))
        total = total + 0.25 * (up + down + 2 * columns[j]) * of_j
        total = total + 0.25 * (up - down) * (of_j**2 - h) / root
        for r in range(m):
            if r == j:
                continue
            up, down = (b(x + sign * columns[r] * root, s)[j] for sign in (1, -1))
            total = total + 0.25 * (up + down - 2 * columns[j]) * of_j
            mixed = of_j * dW[:, r : r + 1] + V[:, r, j][:, None]
            total = total + 0.25 * (up - down) * mixed / root
    return total


def test_the_step_for_general_noise(backend):
    """Three Wiener processes: the three pairs have a sign each, antisymmetric."""
    xp = backend.xp
    columns = [array(C[:, k], backend) for k in range(3)]

    def diffusion(x, t):
        return xp.stack([xp.sin(x + k) * columns[k] + t for k in range(3)], axis=-1)

    sde = sp.ItoSDE(lambda x, t: xp.cos(x) - t * x, diffusion, "general", 3)
    z, levy, h = normals(3, 3), normals(3, 3, seed=2), T - S
    V = np.zeros((3, 3, 3))
    for index, (i, j) in enumerate([(0, 1), (0, 2), (1, 2)]):
        V[:, i, j], V[:, j, i] = np.sign(levy[:, index]) * h, -np.sign(levy[:, index]) * h
    given = array(z, backend), array(levy, backend)
    found, _ = sp.PlatenWeak2().step(sde, array(X, backend), S, T, given)
    expected = platen(
        lambda x, t: np.cos(x) - t * x,
        lambda x, t: [np.sin(x + k) * C[:, k] + t for k in range(3)],
        X,
        S,
        h,
        math.sqrt(h) * z,
        V,
    )
    assert_array(found, expected, backend, close(backend))


@pytest.mark.parametrize("noise", ["scalar", "diagonal"])
def test_scalar_and_diagonal_noise_are_general_noise_of_that_kind(noise, backend):
    """The scheme for a matrix g with the same entries; no pair enters, whatever its sign."""
    xp, m = backend.xp, 1 if noise == "scalar" else 2

    def drift(x, t):
        return xp.cos(x) - t * x

    def g(x, t):
        return xp.sin(x) + t

    mask = array(np.ones((2, 1)) if noise == "scalar" else np.eye(2), backend)
    sde = sp.ItoSDE(drift, g, noise)
    same = sp.ItoSDE(drift, lambda x, t: g(x, t)[..., None] * mask, "general", m)
    z, x = array(normals(3, m), backend), array(X, backend)
    found, _ = sp.PlatenWeak2().step(sde, x, S, T, (z, array(np.zeros((3, 0)), backend)))
    levy = array(normals(3, m * (m - 1) // 2, seed=2), backend)
    matrix, _ = sp.PlatenWeak2().step(same, x, S, T, (z, levy))
    expected = platen(
        lambda x, t: np.cos(x) - t * x,
        lambda x, t: [np.sin(x) + t] if m == 1 else [(np.sin(x) + t) * row for row in np.eye(2)],
        X,
        S,
        T - S,
        math.sqrt(T - S) * normals(3, m),
        np.zeros((3, m, m)),
    )
    for actual in (found, matrix):
        assert_array(actual, expected, backend, close(backend))


@pytest.mark.parametrize("kind", ["number", "matrix"])
def test_the_step_for_additive_noise(kind, backend):
    """x + ½ (f + f(x + f h + g ΔW)) h + ½ (g(s) + g(t)) ΔW."""
    xp = backend.xp
    base = 0.7 if kind == "number" else array(C, backend)
    m = None if kind == "number" else 3
    sde = sp.ItoSDE(lambda x, t: xp.cos(x) - t * x, lambda x, t: base * (1 + t * t), "additive", m)
    z, h = normals(3, m or 2), T - S
    found, _ = sp.PlatenWeak2().step(
        sde, array(X, backend), S, T, (array(z, backend), array(np.zeros((3, 0)), backend))
    )
    noise = math.sqrt(h) * (0.7 * z if kind == "number" else z @ C.T)
    first = np.cos(X) - S * X
    there = X + h * first + (1 + S * S) * noise
    expected = X + h / 2 * (first + np.cos(there) - T * there) + (1 + (S * S + T * T) / 2) * noise
    assert_array(found, expected, backend, close(backend))


def test_pairs_are_drawn_for_general_noise_only():
    shape = (5, 4)
    general = sp.ItoSDE(lambda x, t: x, lambda x, t: x, "general", 3)
    diagonal = sp.ItoSDE(lambda x, t: x, lambda x, t: x, "diagonal")
    assert sp.PlatenWeak2().draw_shapes(general, shape) == ((5, 3), (5, 3))
    assert sp.PlatenWeak2().draw_shapes(diagonal, shape) == ((5, 4), (5, 0))


def test_it_follows_a_given_brownian_path(precise):
    """Without general noise it draws no 'levy', so that a BrownianPath serves: strong order 1, seed 6.

    Geometric Brownian motion, 400 paths; the slope varies by about 0.03 from seed to seed.
    """
    sde, x = sp.GeometricBrownianMotion(0.4, 0.7), array(np.full((400, 1), 1.3), precise)
    path, sizes = sp.BrownianPath(6, cells=128), (16, 32, 64, 128)
    W = host(path.increment(0.0, 1.0, (400, 1), precise))
    exact = 1.3 * np.exp((0.4 - 0.5 * 0.49) + 0.7 * W)
    errors = []
    for n in sizes:
        found = sp.solve(
            sde, x, sp.uniform_grid(0.0, 1.0, n), solver=sp.PlatenWeak2(), noise=path, keep="last"
        )
        errors.append(np.sqrt(np.mean((host(found.states[-1, ...]) - exact) ** 2)))
    assert fitted_slope(1 / np.array(sizes), errors) == pytest.approx(1.0, abs=0.1)
