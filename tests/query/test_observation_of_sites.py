"""Every kind of observed site, compiled: ln p(y | x) is that of the model's own trace."""

import numpy as np
import pytest
from checks import array, assert_array
from observed_models import PART, X, compiled, log_prob
from site_models import ALL

from sdeppl.query import observation_of

pytestmark = pytest.mark.filterwarnings("ignore::sdeppl.tracing.SlowDrawsWarning")


@pytest.mark.parametrize("name", ALL)
def test_log_prob_is_that_of_the_trace(name, precise):
    sites, expected = compiled(name)
    observation = observation_of(sites, PART, precise)
    found, finite = log_prob(observation, precise), np.isfinite(expected)
    assert finite.any()
    np.testing.assert_array_equal(found[~finite], expected[~finite])
    np.testing.assert_allclose(found[finite], expected[finite], rtol=1e-10, atol=1e-10)
    # of one row alone, as an array of the backend
    alone = observation.log_prob(array(X[2:3], precise))
    if finite[2]:
        assert_array(alone, found[2:3], precise, 1e-12)
    kind = name.partition(": ")[0]
    assert observation.is_linear == (kind == "gaussian" and "curved" not in name)
    assert observation.is_gaussian == (kind in ("gaussian", "latent noise"))
    assert observation.has_jacobian == (kind != "density")


SOME = [
    "family: poisson",
    "family: censored",
    "family: interval",
    "family: student",
    "family: binomial",
    "family: heavy-tailed mixture",
    "family: von mises",
    "curved family: squared location",
    "gaussian: multivariate",
    "gaussian: curved",
    "gaussian: lognormal",
    "latent noise: scale",
    "latent noise: covariance",
    "density: two parameters",
]


@pytest.mark.parametrize("name", SOME)
def test_what_was_not_observed_is_left_out(name, precise):
    sites, expected = compiled(name, missing=True)
    observation = observation_of(sites, PART, precise)
    np.testing.assert_allclose(log_prob(observation, precise), expected, rtol=1e-9, atol=1e-9)
    if observation.has_jacobian:
        linear = observation.linearise(array(X, precise))
        assert (observation.count, linear.predicted.shape) == (2, (6, 2))
