"""Stochastic Heun: its step, and the calculus. Orders are in test_order_table.py."""

import math

import numpy as np
import pytest
from checks import array, assert_array, host

import sdeppl as sp

S, T = 0.3, 0.55
X = np.array([[0.7, -1.2], [0.2, 0.9], [-0.5, 1.4]])
C = np.array([[0.8, 0.3, -0.2], [-0.4, 0.9, 0.5]])


@pytest.mark.parametrize("noise", ["additive", "scalar", "diagonal", "general"])
def test_the_step(noise, backend):
    xp, m = backend.xp, {"scalar": 1, "general": 3}.get(noise, 2)
    columns = array(C, backend)

    def diffusion(x, t):
        if noise == "additive":
            return 0.5 + t
        return xp.sin(x)[..., None] * columns if noise == "general" else xp.sin(x) + t

    sde = sp.StratonovichSDE(
        lambda x, t: xp.cos(x) - t * x, diffusion, noise, 3 if noise == "general" else None
    )
    z, h = np.random.default_rng(1).standard_normal((3, m)), T - S
    found, _ = sp.StochasticHeun().step(sde, array(X, backend), S, T, array(z, backend))

    def f(x, t):
        return np.cos(x) - t * x

    def spread(x, t):
        if noise == "additive":
            return (0.5 + t) * math.sqrt(h) * z
        if noise == "general":
            return math.sqrt(h) * np.einsum("nk,ik,ni->ni", z, C, np.sin(x))
        return (np.sin(x) + t) * math.sqrt(h) * z

    there = X + f(X, S) * h + spread(X, S)
    expected = X + 0.5 * h * (f(X, S) + f(there, T)) + 0.5 * (spread(X, S) + spread(there, T))
    assert_array(found, expected, backend, 1e-12 if "64" in str(backend.dtype) else 1e-5)


def test_ito_sdes_are_converted_and_stratonovich_ones_are_not(precise):
    """On dx = s x dW the Itô mean stays, Stratonovich's grows by e^{s²/2}; 400 steps of two-point
    noise z = ±1, whose mean is exact: E x_n = (E step)ⁿ."""
    s, n = 0.8, 400
    z = array([[1.0], [-1.0]], precise)
    for make, expected in ((sp.ItoSDE, 1.0), (sp.StratonovichSDE, math.exp(s**2 / 2))):
        sde = make(lambda x, t: 0 * x, lambda x, t: s * x, "diagonal")
        ready = sp.StochasticHeun().prepare(sde, array([[1.0]], precise), 0.0, False)
        x, _ = sp.StochasticHeun().step(ready, array(np.ones((2, 1)), precise), 0.0, 1 / n, z)
        assert np.mean(host(x)) ** n == pytest.approx(expected, rel=1e-3)
