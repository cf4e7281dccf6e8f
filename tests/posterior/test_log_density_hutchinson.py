"""Hutchinson's estimate of a log-density: without bias, with a standard error that is right."""

import math

import numpy as np
import pytest
from checks import covariance_matrix
from log_density_targets import COVARIANCES, EXACT, MEANS, SDES, WEIGHTS, X, error
from scipy.stats import multivariate_normal, t

import sdeppl as sp


def hutchinson(rows, probes, seed):
    """Estimates for one x in `rows` rows, of a Gaussian in ten dimensions, and the exact value."""
    sde, mean, covariance = SDES["vp with signal left"], np.linspace(-1.0, 1.0, 10), covariance_matrix(10, 3)
    x = np.linspace(0.5, -1.5, 10)
    prior = sp.GaussianDenoiser(sde, mean, covariance)
    found = sp.log_density(prior, np.broadcast_to(x, (rows, 10)) + 0.0, probes=probes, seed=seed, rtol=1e-5)
    return found, multivariate_normal(mean, covariance).logpdf(x)


def test_hutchinson_is_unbiased_and_knows_its_error():
    """400 independent rows of 16 probes, seed 5. Bias within 4.5 standard errors (false alarm 7e-6);
    spread as stated within 20% (its standard deviation is 3.5%); 95% intervals of Student's t with 15
    degrees of freedom hold the truth in 90.2% to 99.8% of the rows (4.4 standard errors)."""
    found, exact = hutchinson(400, 16, seed=5)
    deviation, stated = found.value - exact, found.standard_error
    assert abs(np.mean(deviation)) < 4.5 * np.std(deviation) / math.sqrt(400)
    assert np.std(deviation) == pytest.approx(math.sqrt(np.mean(stated**2)), rel=0.2)
    assert 0.05 < np.mean(stated) < 1.0
    assert 0.902 < np.mean(np.abs(deviation) < t(15).ppf(0.975) * stated) < 0.998


def test_the_stated_variance_of_few_probes_is_unbiased():
    """4 probes in 2,000 rows, seed 9: the mean of the squared errors stated is the variance within 16%
    (4.5 of its standard deviations)."""
    found, exact = hutchinson(2_000, 4, seed=9)
    assert np.mean(found.standard_error**2) == pytest.approx(np.mean((found.value - exact) ** 2), rel=0.16)


def test_hutchinsons_error_falls_with_the_root_of_the_number_of_probes():
    few, many = (float(np.mean(hutchinson(100, n, 3)[0].standard_error)) for n in (8, 72))
    assert few / many == pytest.approx(3.0, rel=0.2)


def test_hutchinson_is_exact_for_independent_components():
    """Signs give the trace of a diagonal matrix without error."""
    prior = sp.GaussianDenoiser(sp.VPSDE(), np.array([1.0, 2.0]), np.diag([0.5, 3.0]))
    found = sp.log_density(prior, X, probes=3, rtol=1e-8)
    assert error(found, multivariate_normal([1.0, 2.0], np.diag([0.5, 3.0])).logpdf(X)) < 1e-6
    assert float(np.max(found.standard_error)) < 1e-10


def test_hutchinson_with_a_score():
    """By products with the drift's Jacobian; 64 probes, within 5 standard errors for each of 11 rows."""
    score = sp.AffineMarginals(sp.VPSDE(), WEIGHTS, MEANS, COVARIANCES)
    found = sp.log_density(sp.ReverseSDE(sp.VPSDE(), score), X, probes=64, seed=2, rtol=1e-5)
    assert np.all(np.abs(found.value - EXACT) < 5 * found.standard_error + 1e-5)


def test_a_seed_says_it_all():
    first, again, other = (hutchinson(3, 4, seed)[0].value for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.all(first != other)
