"""Denoisers under an SDE that pushes the mean: at x + m(t) they say what the plain one's say at x."""

import numpy as np
import pytest
import torch
from checks import array, assert_array, covariance_matrix, host

import sdeppl as sp
from sdeppl.backend import TorchFunction
from sdeppl.nn import ResidualMLP

MEAN, COVARIANCE = np.array([1.0, -2.0, 0.5]), covariance_matrix(3, seed=6)
MU, X, T = np.array([2.0, -1.0, 0.4]), np.random.default_rng(3).standard_normal((5, 3)), 0.6
PLAIN = sp.VPSDE(sp.LinearSchedule(0.3, 5.0))


def gaussian(sde, backend):
    return sp.GaussianDenoiser(sde, array(MEAN, backend), array(COVARIANCE, backend))


def mixture(sde, backend):
    covariances = np.stack([COVARIANCE, 0.3 * COVARIANCE])
    means = np.stack([MEAN, -MEAN])
    arrays = (array(numbers, backend) for numbers in ([0.3, 0.7], means, covariances))
    return sp.GaussianMixtureDenoiser(sde, *arrays)


def network(sde, backend):
    torch.manual_seed(5)
    net = ResidualMLP(3, width=16, depth=1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(0.0, 0.3)  # a net of zero output would show nothing
    return sp.NetworkDenoiser(gaussian(sde, backend), TorchFunction(net))


@pytest.mark.parametrize("make", [gaussian, mixture, network])
@pytest.mark.parametrize("kind", ["array", "function"])
def test_a_push_moves_where_the_denoiser_looks(make, kind, precise):
    mu = array(MU, precise)
    sde = sp.ShiftedVPSDE(mu if kind == "array" else lambda t: (1 + t) * mu, PLAIN.schedule)
    shift = host(sde.shift(T))
    assert np.abs(shift).min() > 0.1
    pushed, plain = make(sde, precise), make(PLAIN, precise)
    x, at = array(X, precise), array(X + shift, precise)
    found, expected = pushed(at, T), plain(x, T)
    tolerance = 1e-6 if make is network else 1e-12  # the net works in float32
    assert_array(found.mean, host(expected.mean), precise, tolerance)
    assert_array(pushed.mean(at, T), host(expected.mean), precise, tolerance)
    assert_array(found.covariance.dense(), host(expected.covariance.dense()), precise, tolerance)
    assert_array(pushed.score(at, T), host(plain.score(x, T)), precise, tolerance)
    assert_array(pushed.eps(at, T), host(plain.eps(x, T)), precise, tolerance)


def test_the_score_is_that_of_the_pushed_marginal(precise):
    """∂ ln N(x; α m + shift, α² C + σ² I), written out."""
    sde = sp.ShiftedVPSDE(array(MU, precise), PLAIN.schedule)
    alpha, sigma = PLAIN.alpha(T), PLAIN.sigma(T)
    centre = alpha * MEAN - (1 - alpha) * MU
    expected = -np.linalg.solve(alpha**2 * COVARIANCE + sigma**2 * np.eye(3), (X - centre).T).T
    assert_array(gaussian(sde, precise).score(array(X, precise), T), expected, precise, 1e-11)
