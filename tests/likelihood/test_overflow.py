"""Numbers that overflow where guidance looks, and densities that are NaN."""

import math

import checks
import numpy as np
import pytest

import sdeppl as sp
from sdeppl.likelihood.base import compressed
from sdeppl.likelihood.observation import Linearisation, SiteApproximation, bounded, positive, possible


def at(backend, numbers):
    return checks.array(numbers, backend)


def test_possible_takes_nan_alone_for_zero_density(precise):
    values = at(precise, [1.0, math.nan, -math.inf, math.inf])
    np.testing.assert_allclose(
        checks.host(possible(values)), [1.0, -math.inf, -math.inf, math.inf], rtol=1e-12
    )


def test_bounded_and_positive_leave_ordinary_numbers_as_they_are(precise):
    values = at(precise, [[1e-40, 2.0, 1e140]])
    np.testing.assert_allclose(checks.host(bounded(values)), [[1e-40, 2.0, 1e140]], rtol=1e-12)
    np.testing.assert_allclose(checks.host(positive(values)), [[1e-40, 2.0, 1e140]], rtol=1e-12)
    wrong = bounded(at(precise, [[math.nan, math.inf, -math.inf]]))
    assert bool(precise.xp.all(precise.xp.isfinite(wrong * wrong))) and float(wrong[0, 0]) == 0
    R = positive(at(precise, [[math.nan, math.inf, 0.0]]))
    assert bool(precise.xp.all(precise.xp.isfinite(1 / R)))
    assert float(R[0, 0]) == float(R[0, 1]) > 1e250 and 0 < float(R[0, 2]) < 1e-250


def test_compressed_where_nothing_is_seen_of_x(precise):
    """H = 0, as of a scale alone: the few numbers say nothing, and log_scale is the density of y itself."""
    y, R = at(precise, [[0.5, -1.2, 2.0]]), at(precise, [[0.5, 2.0, 4.0]])
    H = at(precise, [[[0.0], [0.0], [0.0]]])
    few, noise = compressed(Linearisation(0 * y, H), SiteApproximation(y, R, 0.0, True))
    assert float(precise.xp.abs(few.H[0, 0, 0])) < 1e-100
    residual = float(noise.y[0, 0])
    found = float(noise.log_scale[0]) - 0.5 * residual**2 - 0.5 * math.log(2 * math.pi)
    terms = [
        -0.5 * v * v / r - 0.5 * math.log(2 * math.pi * r)
        for v, r in zip((0.5, -1.2, 2.0), (0.5, 2, 4), strict=True)
    ]
    assert found == pytest.approx(sum(terms), rel=1e-12)


def test_noise_that_overflows_far_out(precise):
    """y = N(0, e^{-x}) at x = ±1000, where that is 0 or infinite: ln p is -infinity, guidance finite."""
    xp = precise.xp

    def value(x):
        return 0 * x, xp.exp(-x)

    y = at(precise, [0.7])
    observation = sp.NonlinearGaussian(None, 1, y, None, value=value)
    x = at(precise, [[0.0], [-1000.0], [1000.0]])
    normal = -0.5 * 0.49 - 0.5 * math.log(2 * math.pi)
    np.testing.assert_allclose(
        checks.host(observation.log_prob(x)), [normal, -math.inf, -math.inf], rtol=1e-12
    )
    mean, covariance = at(precise, [1.0]), at(precise, [[300.0**2]])
    prior = sp.GaussianDenoiser(sp.VPSDE(), mean, covariance)
    twist = sp.CubatureDenoiser(prior, observation)
    guided = twist(at(precise, [[0.3]]), prior.sde.T)
    assert bool(xp.all(xp.isfinite(guided.mean)))


def test_a_start_without_numbers_says_so(precise):
    """A network that gives NaN, as the error says; not a noise level that nobody gave."""
    prior = sp.GaussianDenoiser(sp.VPSDE(), at(precise, [math.nan]), at(precise, [[2.0]]))
    with pytest.raises(sp.NonFiniteState, match="NaN or infinite where the reverse SDE starts"):
        sp.Posterior(prior, None)
