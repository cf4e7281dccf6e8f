"""Differences of ln p_t by the line integral of the score, against the density of a mixture."""

import numpy as np
import pytest
from checks import array, fitted_slope, host
from langevin_targets import gaussian_on, mixture_on, time_of

from sdeppl.posterior.langevin import lobatto, score_integral


@pytest.mark.parametrize("inner", [1, 2, 3, 4])
def test_the_rule_integrates_the_polynomials_it_states(inner):
    """u^k from 0 to 1 up to degree 2 inner + 1, and not the next."""
    nodes, weights = np.array(lobatto(inner))
    degrees = np.arange(2 * inner + 3)
    errors = np.abs((nodes ** degrees[:, None]) @ weights - 1 / (degrees + 1))
    assert errors[:-1].max() < 1e-14 < 1e-6 < errors[-1]


@pytest.mark.parametrize("inner", [1, 2, 3])
def test_the_line_integral_has_the_order_it_states(inner, precise):
    """ln p_t(x') - ln p_t(x) of a mixture with an error of order |x' - x|^{2 inner + 3}."""
    prior, _ = mixture_on(precise)
    t, rng = time_of(1.0), np.random.default_rng(12)
    x, direction = rng.standard_normal((50, 2)), rng.standard_normal((50, 2))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    sizes, errors = np.array([0.7, 0.5, 0.35]), []
    for size in sizes:
        start, stop = array(x - size / 2 * direction, precise), array(x + size / 2 * direction, precise)
        errors.append(np.abs(integral_error(prior, t, start, stop, inner)).mean())
    assert fitted_slope(sizes, errors) == pytest.approx(2 * inner + 3, abs=0.2)


def integral_error(prior, t, start, stop, inner):
    ends = prior.score(start, t), prior.score(stop, t)
    value = score_integral(lambda x: prior.score(x, t), start, stop, *ends, inner)
    return host(value) - host(prior.log_density(stop, t) - prior.log_density(start, t))


def test_the_line_integral_of_a_gaussian_is_exact_and_changes_sign(precise):
    prior, _ = gaussian_on(precise)
    rng, t = np.random.default_rng(13), time_of(0.1)
    start, stop = array(rng.standard_normal((20, 3)), precise), array(rng.standard_normal((20, 3)), precise)
    assert np.abs(integral_error(prior, t, start, stop, 1)).max() < 1e-10
    mixture, _ = mixture_on(precise)
    start, stop = start[:, :2], stop[:, :2]
    errors = [integral_error(mixture, t, *ends, 3) for ends in ((start, stop), (stop, start))]
    assert np.abs(errors[0]).max() > 1e-4  # not for want of an error
    np.testing.assert_allclose(errors[0], -errors[1], atol=1e-11)
