"""Rößler's SRA1 and SRIW1 against his tableaux written out. Orders are in test_order_table.py."""

import math

import numpy as np
import pytest
from checks import array, assert_array, fitted_slope
from order_problems import Transformed

import sdeppl as sp

S, T = 0.3, 0.55
X = np.array([[0.7, -1.2], [0.2, 0.9], [-0.5, 1.4]])


def normals(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape)


def close(backend):
    return 1e-12 if "64" in str(backend.dtype) else 1e-5


def sriw1(f, g, x, s, h, z, u):
    """The step with all four drift stages, as the paper has it, for h > 0."""
    c0, c1 = (0, 3 / 4, 0, 0), (0, 1 / 4, 1, 1 / 4)
    a0 = [[0] * 4, [3 / 4, 0, 0, 0], [0] * 4, [0] * 4]
    a1 = [[0] * 4, [1 / 4, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1 / 4, 0]]
    b0 = [[0] * 4, [3 / 2, 0, 0, 0], [0] * 4, [0] * 4]
    b1 = [[0] * 4, [1 / 2, 0, 0, 0], [-1, 0, 0, 0], [-5, 3, 1 / 2, 0]]
    alpha, beta = (
        (1 / 3, 2 / 3, 0, 0),
        np.array(
            [[-1, 4 / 3, 2 / 3, 0], [-1, 4 / 3, -1 / 3, 0], [2, -4 / 3, -2 / 3, 0], [-2, 5 / 3, -2 / 3, 1]]
        ),
    )
    dW = math.sqrt(h) * z
    I10 = 0.5 * h * (dW + math.sqrt(h / 3) * u)
    I11, I111 = 0.5 * (dW**2 - h), (dW**3 - 3 * h * dW) / 6
    weights = [dW, I11 / math.sqrt(h), I10 / h, I111 / h]
    drifts, noises, total = [], [], x
    for i in range(4):
        H0 = x + sum(a0[i][j] * drifts[j] * h + b0[i][j] * noises[j] * I10 / h for j in range(i))
        H1 = x + sum(a1[i][j] * drifts[j] * h + b1[i][j] * noises[j] * math.sqrt(h) for j in range(i))
        drifts.append(f(H0, s + c0[i] * h))
        noises.append(g(H1, s + c1[i] * h))
        total = total + alpha[i] * drifts[i] * h
        total = total + noises[i] * sum(beta[k, i] * weights[k] for k in range(4))
    return total


@pytest.mark.parametrize("noise", ["scalar", "diagonal"])
def test_the_step_of_sriw1(noise, backend):
    xp = backend.xp
    sde = sp.ItoSDE(lambda x, t: xp.cos(x) - t * x, lambda x, t: xp.sin(x) + t, noise)
    z, u = normals(2, 3, 1 if noise == "scalar" else 2)
    given = array(z, backend), array(u, backend)
    found, _ = sp.SRIW1().step(sde, array(X, backend), S, T, given)
    expected = sriw1(lambda x, t: np.cos(x) - t * x, lambda x, t: np.sin(x) + t, X, S, T - S, z, u)
    assert_array(found, expected, backend, close(backend))


G = np.array([[0.8, 0.3, -0.2], [-0.4, 0.9, 0.5]])


@pytest.mark.parametrize("solver", [sp.SRA1(), sp.SRIW1()], ids=["sra1", "sriw1"])
@pytest.mark.parametrize("kind", ["number", "vector", "matrix"])
def test_the_step_of_sra1(solver, kind, backend):
    """H_2 = x + ¾ f h + (3/2) g(t) I_10/h; x + (f(x) + 2 f(H_2)) h/3 + g(t) ΔW - (g(t) - g(s)) I_10/h.

    g is a number, a vector, or a matrix for three Wiener processes. With additive noise SRIW1 is SRA1.
    """
    xp = backend.xp
    shape = {"number": 0.7, "vector": G[:, 0], "matrix": G}[kind]
    base = shape if kind == "number" else array(shape, backend)
    sde = sp.ItoSDE(
        lambda x, t: xp.cos(x) - t * x,
        lambda x, t: base * (1 + t * t),
        "additive",
        3 if kind == "matrix" else None,
    )
    z, u = normals(2, 3, 3 if kind == "matrix" else 2)
    found, _ = solver.step(sde, array(X, backend), S, T, (array(z, backend), array(u, backend)))
    h = T - S
    I10 = h**1.5 * (z / 2 + u / math.sqrt(12)) / h

    def spread(t, increment):
        return (1 + t * t) * (increment @ G.T if kind == "matrix" else shape * increment)

    first = np.cos(X) - S * X
    H = X + 0.75 * h * first + 1.5 * spread(T, I10)
    second = np.cos(H) - (S + 0.75 * h) * H
    expected = X + h / 3 * (first + 2 * second) + spread(T, math.sqrt(h) * z - I10) + spread(S, I10)
    assert_array(found, expected, backend, close(backend))


@pytest.mark.parametrize("solver", [sp.SRA1(), sp.SRIW1()], ids=["sra1", "sriw1"])
def test_general_noise_is_refused(solver):
    sde = sp.ItoSDE(lambda x, t: x, lambda x, t: x[..., None], "general", 1)
    with pytest.raises(TypeError, match=f"{type(solver).__name__} takes additive.*has general noise"):
        sp.solve(sde, np.ones((2, 2)), [0.0, 1.0], solver=solver)


def test_a_wrong_noise_class_is_refused():
    """'diagonal' for a g_i that depends on its neighbour."""
    sde = sp.ItoSDE(lambda x, t: x, lambda x, t: np.flip(x, axis=-1), "diagonal")
    with pytest.raises(ValueError, match="says noise='diagonal'"):
        sp.solve(sde, X, [0.0, 1.0], solver=sp.SRIW1())


class Falling(sp.ItoSDE):
    falling = True


@pytest.mark.parametrize("falling", [False, True])
def test_strong_order_on_a_refinable_path(falling):
    """On a `BrownianPath`, whose increments and areas are read at every number of steps, up or down in
    time: seed 3, 1,000 paths, against 512 steps; the slope varies by about 0.05 from seed to seed."""
    rising = Transformed("diagonal").sde(sp.resolve("numpy"))
    sde, ends = rising, (0.0, 1.0)
    if falling:
        ends = (1.0, 0.0)
        sde = Falling(
            lambda x, r: -rising.drift(x, 1 - r), lambda x, r: rising.diffusion(x, 1 - r), "diagonal"
        )
    x = np.tile(Transformed("diagonal").start(), (1_000, 1))
    path, found = sp.BrownianPath(3, area=True), {}
    for n in (8, 16, 32, 64, 512):
        grid = sp.uniform_grid(*ends, n)
        found[n] = sp.solve(sde, x, grid, solver=sp.SRIW1(), noise=path, keep="last").states[0]
    errors = [np.sqrt(np.mean((found[n] - found[512]) ** 2)) for n in (8, 16, 32, 64)]
    assert fitted_slope([1 / 8, 1 / 16, 1 / 32, 1 / 64], errors) == pytest.approx(1.5, abs=0.1)
