"""Draws from p(x_0 | y) of a Gaussian prior under every isotropic SDE, against exact conditioning."""

import math

import numpy as np
import pytest
from checks import array, covariance_matrix, host

import sdeppl as sp
from sdeppl.posterior import start_moments

DRAWS = 2_000
MEAN, COVARIANCE = np.array([2.0, -1.0, 0.5]), covariance_matrix(3, seed=41, largest=1.5)
H, Y = np.array([[1.0, 0.5, 0.0], [0.0, -1.0, 2.0]]), np.array([1.0, -2.0])
R = covariance_matrix(2, seed=43, smallest=0.05, largest=0.8)
SDES = {
    "vp cosine": sp.VPSDE(sp.CosineSchedule()),
    "vp callable": sp.VPSDE(sp.CallableSchedule(lambda t: 0.2 + 30.0 * t * t)),
    "ve callable": sp.CallableVESDE(lambda t: (0.3 + 4.0 * t) ** 2),
    "sub-vp": sp.SubVPSDE(),
    "edm": sp.EDMSDE(),
    "shifted": sp.ShiftedVPSDE(-6.0),
    "shifted in time": sp.ShiftedVPSDE(lambda t: 3.0 * math.cos(5 * t)),
    "anchored": sp.DataAnchoredSDE(),
    "anchored at a point": sp.DataAnchoredSDE().given(-5.0),
}
EACH_SDE = pytest.mark.parametrize("sde", SDES.values(), ids=SDES)


def exact_moments():
    gain = COVARIANCE @ H.T @ np.linalg.inv(H @ COVARIANCE @ H.T + R)
    return MEAN + gain @ (Y - H @ MEAN), COVARIANCE - gain @ H @ COVARIANCE


def assert_within_4_standard_errors(draws, mean, covariance):
    """Each entry of mean and covariance, in the basis where the covariance is the identity."""
    white = np.linalg.solve(np.linalg.cholesky(covariance), (draws - mean).T).T
    assert np.abs(white.mean(axis=0)).max() * math.sqrt(len(draws)) < 4
    errors = (white.T @ white / len(draws) - np.eye(len(mean))) * np.sqrt(
        len(draws) / (1 + np.eye(len(mean)))
    )
    assert np.abs(errors).max() < 4


@EACH_SDE
@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("c", [0.0, 1.0])
@pytest.mark.filterwarnings("ignore::sdeppl.SignalLeftWarning")  # the anchored one ends at σ = 1
def test_draws_have_the_exact_moments(sde, guided, c):
    """2,000 draws, seed 7 (host noise: the same numbers everywhere). With another seed one of the nine
    entries would leave its 4 standard errors by chance in 6e-4 of the cases."""
    prior = sp.GaussianDenoiser(sde, MEAN, COVARIANCE)
    seen = sp.LinearGaussian(H, Y, R) if guided else None
    draws = sp.Posterior(prior, seen, steps=100).sample(DRAWS, seed=7, c=c)
    assert_within_4_standard_errors(draws, *(exact_moments() if guided else (MEAN, COVARIANCE)))


def test_a_push_of_each_component_on_each_backend(precise):
    sde = sp.ShiftedVPSDE(array([4.0, -3.0, 1.0], precise))
    prior = sp.GaussianDenoiser(sde, array(MEAN, precise), array(COVARIANCE, precise))
    seen = sp.LinearGaussian(array(H, precise), array(Y, precise), array(R, precise))
    draws = host(sp.Posterior(prior, seen, steps=60).sample(DRAWS, seed=8))
    assert_within_4_standard_errors(draws, *exact_moments())


@EACH_SDE
@pytest.mark.filterwarnings("ignore::sdeppl.SignalLeftWarning")
def test_the_start_is_the_exact_end_of_the_forward_sde(sde):
    """α m + shift and α² C + σ² I."""
    start = start_moments(sp.GaussianDenoiser(sde, MEAN, COVARIANCE))
    alpha, sigma = sde.alpha(sde.T), sde.sigma(sde.T)
    np.testing.assert_allclose(start.mean, alpha * MEAN + sde.shift(sde.T), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(
        (start.root @ start.root).dense(),
        alpha**2 * COVARIANCE + sigma**2 * np.eye(3),
        rtol=1e-10,
        atol=1e-12,
    )
