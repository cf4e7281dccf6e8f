"""Geometric Brownian motion read as Itô's and as Stratonovich's: moments, and path by path."""

import numpy as np
import pytest

import sdeppl as sp


@pytest.mark.parametrize("written_in", ["ito", "stratonovich"])
def test_geometric_brownian_motion_in_both_readings(written_in):
    """dx = μ x dt + s x dW has E x_t = x_0 e^{μt}; read with ∘ it has e^{(μ + s²/2) t}, and the second
    moment is e^{2μt + s²t}, with μ + s²/2 for μ. The Itô drift that the conversion gives is propagated:
    Euler–Maruyama's exact moments, whose error is O(h), extrapolated to h = 0."""
    mu, s, end = 0.3, 0.8, 1.0
    kind = sp.ItoSDE if written_in == "ito" else sp.StratonovichSDE
    sde = sp.to_ito(kind(lambda x, t: mu * x, lambda x, t: s * x))
    growth = mu if written_in == "ito" else mu + s**2 / 2

    def moments(steps):
        h, first, second = end / steps, 1.0, 1.0
        one = np.ones((1, 1))
        a, b = float(sde.drift(one, 0.0)[0, 0]), float(sde.diffusion(one, 0.0)[0, 0])
        for _ in range(steps):  # E x and E x² of x + a x h + b x √h z
            first, second = first * (1 + a * h), second * ((1 + a * h) ** 2 + b**2 * h)
        return np.array([first, second])

    found = 2 * moments(4000) - moments(2000)
    exact = [np.exp(growth * end), np.exp((2 * growth + s**2) * end)]
    np.testing.assert_allclose(found, exact, rtol=1e-5)


def test_a_stratonovich_sde_solved_by_an_ito_solver_is_the_same_process():
    """x_t = x_0 exp(μ t + s W_t) for ∘, path by path. Seed 3: mean and sd of ln x over 20,000 paths within
    4.5 standard errors (false alarms: 1.4e-5 over both) plus Euler–Maruyama's bias of O(h)."""
    mu, s, paths, steps = 0.3, 0.5, 20_000, 256
    sde = sp.StratonovichSDE(lambda x, t: mu * x, lambda x, t: s * x)
    start = np.ones((paths, 1))
    end = sp.solve(sde, start, sp.uniform_grid(0.0, 1.0, steps), noise=sp.Noise(3), keep="last").states[-1]
    logarithm = np.log(end[:, 0])
    assert abs(logarithm.mean() - mu) < 4.5 * s / np.sqrt(paths) + 0.5 / steps
    assert abs(logarithm.std() - s) < 4.5 * s / np.sqrt(2 * paths) + 0.5 / steps
