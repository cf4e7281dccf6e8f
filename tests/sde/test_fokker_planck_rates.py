"""The Markov chain behind the Fokker–Planck equation on a grid: its rates, and the weights of its law."""

import math

import numpy as np
import pytest
from checks import array, assert_array, host

import sdeppl as sp
from sdeppl.sde.markov_chain import half_square, jumps, poisson_weights, selling

LOADING = np.linalg.cholesky(np.array([[1.0, 0.95 * 0.8], [0.95 * 0.8, 0.64]]))  # correlation 0.95
PULL = np.array([[0.5, 0.1], [-0.1, 0.4]])


def test_jumps_have_the_moments_of_the_sde(precise):
    """Mean of the jumps = f always; second moment = g gᵀ where drift is small, and never less."""
    pull, loading = array(PULL, precise), array(LOADING, precise)
    sde = sp.ItoSDE(lambda x, t: -x @ pull.T, lambda x, t: loading, "additive", 2)
    x = np.array([[0.1, -0.2], [2.0, 1.0], [-3.0, 3.5]])
    for spacing, small in (((0.02, 0.03), True), ((0.5, 0.3), False)):
        mean, second = np.zeros((3, 2)), np.zeros((3, 2, 2))
        for jump in jumps(sde, array(x, precise), 0.0, spacing, 40):
            forward, backward = host(jump.forward), host(jump.backward)
            assert np.min(forward) >= 0 and np.min(backward) >= 0
            move = np.array(jump.offset) * spacing
            mean += (forward - backward)[:, None] * move
            second += (forward + backward)[:, None, None] * np.outer(move, move)
        np.testing.assert_allclose(mean, -x @ PULL.T, atol=1e-11)
        excess = second - LOADING @ LOADING.T
        if small:
            np.testing.assert_allclose(excess, 0, atol=1e-11)
        else:
            assert np.min(np.linalg.eigvalsh(excess)) > -1e-11
            assert np.max(excess) > 1e-3


def test_half_the_square_of_each_noise_class(backend):
    """½ g gᵀ by hand; diagonal noise of two processes is not correlated, scalar noise is."""
    x = np.array([[0.5, -1.2], [2.0, 0.3]])
    a, b = x.T
    one = np.ones(2)
    matrix = np.array([[1.0, 0.2, 0.0], [0.3, 0.5, 1.0]])
    on_backend = array(matrix, backend)

    def scaled(y, t):  # diag(x) times the matrix
        return y[..., :, None] * on_backend

    for noise, m, g, expected in (
        ("additive", None, lambda y, t: 0.6, (0.18 * one, 0 * one, 0.18 * one)),
        ("additive", None, lambda y, t: array([0.6, 2.0], backend), (0.18 * one, 0 * one, 2.0 * one)),
        ("additive", 3, lambda y, t: on_backend, (0.52 * one, 0.2 * one, 0.67 * one)),
        ("diagonal", None, lambda y, t: 2 * y, (2 * a * a, 0 * one, 2 * b * b)),
        ("scalar", None, lambda y, t: 2 * y, (2 * a * a, 2 * a * b, 2 * b * b)),
        ("general", 3, scaled, (0.52 * a * a, 0.2 * a * b, 0.67 * b * b)),
    ):
        found = half_square(sp.ItoSDE(lambda y, t: y, g, noise, m), array(x, backend), 0.0)
        for entry, exact in zip(found, expected, strict=True):
            assert_array(entry, exact, backend)


def test_selling_decomposes_any_positive_matrix(backend):
    """ρ ≥ 0, integer e, Σ ρ e eᵀ = M; correlations up to 0.999 and scales apart by 10. Seed 0."""
    generator = np.random.default_rng(0)
    r = generator.uniform(-0.999, 0.999, 200)
    a, b = generator.uniform(0.3, 3.0, (2, 200))
    m = np.stack((a * a, r * a * b, b * b))
    found = selling(tuple(array(entry, backend) for entry in m), 100)
    total = np.zeros((3, 200))
    for weight, e in found:
        weight, e = host(weight), [host(entry) for entry in e]
        assert np.min(weight) >= 0
        assert all(np.all(entry == np.round(entry)) for entry in e)
        total += weight * np.stack((e[0] ** 2, e[0] * e[1], e[1] ** 2))
    tolerance = 1e-10 if "64" in str(backend.dtype) else 1e-3
    assert len(found) == 3
    np.testing.assert_allclose(total, m, atol=tolerance)


@pytest.mark.parametrize("mean", [1e-4, 0.7, 30.0, 2e4, 3e6])
def test_poisson_weights(mean):
    first, weights = poisson_weights(mean)
    k = first + np.arange(len(weights))
    assert math.fsum(weights) == pytest.approx(1.0, abs=1e-15)
    assert np.dot(weights, k) == pytest.approx(mean, rel=1e-12)
    assert np.dot(weights, (k - mean) ** 2) == pytest.approx(mean, rel=1e-10)
