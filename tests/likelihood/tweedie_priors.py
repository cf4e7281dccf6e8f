"""Priors in five dimensions for the Tweedie likelihood: a Gaussian, a mixture, and that as a black box."""

import numpy as np
import pytest
from checks import array, assert_array, covariance_matrix, host

import sdeppl as sp
from sdeppl.denoisers import tweedie_covariance

DIM = 5
MEAN, COVARIANCE = np.array([2.0, -1.0, 0.5, 0.0, 4.0]), covariance_matrix(DIM, seed=11, largest=3.0)
H = np.random.default_rng(12).standard_normal((3, DIM))
Y = np.array([1.0, -2.0, 3.5])
R_DIAGONAL, R_FULL = np.array([0.3, 1.1, 0.05]), covariance_matrix(3, seed=13, smallest=0.1, largest=1.0)
X = np.random.default_rng(14).standard_normal((6, DIM)) * 1.5 + 0.5
MODES = np.stack([MEAN, -MEAN])


def gaussian_on(backend, sde):
    return sp.GaussianDenoiser(sde, array(MEAN, backend), array(COVARIANCE, backend))


def mixture_on(backend, sde):
    covariances = np.stack([COVARIANCE, covariance_matrix(DIM, seed=15)])
    return sp.GaussianMixtureDenoiser(
        sde, array([0.4, 0.6], backend), array(MODES, backend), array(covariances, backend)
    )


def box_on(backend, sde):
    """The mixture as a black box whose covariance is not a matrix that is at hand."""
    mixture = mixture_on(backend, sde)

    def covariance(x, t):
        matrix = mixture(x, t).covariance
        return tweedie_covariance(1.0, lambda v: matrix @ v, x)

    return sp.CallableDenoiser(sde, mixture.mean, covariance, DIM, backend)


PRIORS = pytest.mark.parametrize("prior_on", [gaussian_on, mixture_on, box_on])


def linear(backend, rows=H, y=Y, R=R_DIAGONAL):
    return sp.LinearGaussian(array(rows, backend), array(y, backend), array(R, backend))


def assert_same(actual, expected, x, t, backend, tolerance=None):
    """Mean (both ways to it) and covariance of two denoisers."""
    moments, other = actual(x, t), expected(x, t)
    assert_array(actual.mean(x, t), host(other.mean), backend, tolerance)
    assert_array(moments.mean, host(other.mean), backend, tolerance)
    wanted = np.broadcast_to(host(other.covariance.dense()), (len(X), DIM, DIM))
    dense = host(moments.covariance.dense())
    np.testing.assert_allclose(
        np.broadcast_to(dense, wanted.shape), wanted, atol=(tolerance or 1e-9) * np.abs(wanted).max()
    )
