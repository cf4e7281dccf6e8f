"""The Tweedie likelihood: exact for a Gaussian prior, and what any mean likelihood must keep to."""

import numpy as np
import pytest
from checks import array, assert_array, host
from tweedie_priors import (
    COVARIANCE,
    DIM,
    MEAN,
    PRIORS,
    R_DIAGONAL,
    R_FULL,
    H,
    X,
    Y,
    assert_same,
    gaussian_on,
    linear,
)

import sdeppl as sp

SDES = [sp.VPSDE(), sp.VESDE(0.05, 10.0), sp.LinearSDE(a=0.5, b=1.3)]


def posterior_moments(R):
    R = np.diag(R) if R.ndim == 1 else R
    gain = COVARIANCE @ H.T @ np.linalg.inv(H @ COVARIANCE @ H.T + R)
    return MEAN + gain @ (Y - H @ MEAN), COVARIANCE - gain @ H @ COVARIANCE


@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize("t", [0.01, 0.2, 0.6, 1.0])
@pytest.mark.parametrize("R", [R_DIAGONAL, R_FULL], ids=["diagonal", "full"])
@pytest.mark.parametrize("method", ["dense", "matrix-free"])
def test_a_gaussian_prior_gives_the_exact_posterior(sde, t, R, method, precise):
    """Scores agree with those of the exact posterior's own denoiser to 1e-9 of the largest."""
    guided = sp.TweedieDenoiser(gaussian_on(precise, sde), linear(precise, R=R), method, tolerance=1e-13)
    exact = sp.GaussianDenoiser(sde, *(array(a, precise) for a in posterior_moments(R)))
    x = array(X, precise)
    assert_array(guided.score(x, t), host(exact.score(x, t)), precise, 1e-9)
    assert_array(guided(x, t).mean, host(exact.mean(x, t)), precise, 1e-9)
    assert_array(guided(x, t).covariance.dense(), host(exact(x, t).covariance.dense()), precise, 1e-9)


@pytest.mark.parametrize("sde", SDES)
def test_the_exact_posterior_in_every_dtype(sde, backend):
    guided = sp.TweedieDenoiser(gaussian_on(backend, sde), linear(backend))
    exact = sp.GaussianDenoiser(sde, *(array(a, backend) for a in posterior_moments(R_DIAGONAL)))
    assert_array(guided.mean(array(X, backend), 0.4), host(exact.mean(array(X, backend), 0.4)), backend)


@PRIORS
def test_no_observation_gives_the_prior(prior_on, precise):
    prior, x = prior_on(precise, sp.VPSDE()), array(X, precise)
    guided = sp.TweedieDenoiser(prior, linear(precise, y=np.full(3, np.nan)))
    assert_same(guided, prior, x, 0.4, precise, 1e-15)


@PRIORS
def test_noise_without_bound_gives_the_prior(prior_on, precise):
    prior, x = prior_on(precise, sp.VPSDE()), array(X, precise)
    guided = sp.TweedieDenoiser(prior, linear(precise, R=np.full(3, 1e14)))
    assert_same(guided, prior, x, 0.4, precise, 1e-11)


@PRIORS
def test_a_row_seen_twice_has_half_its_variance(prior_on, precise):
    prior, x = prior_on(precise, sp.VPSDE()), array(X, precise)
    again = [0, 1, 2, 1]
    twice = sp.TweedieDenoiser(prior, linear(precise, H[again], Y[again], R_DIAGONAL[again]))
    half = sp.TweedieDenoiser(prior, linear(precise, R=R_DIAGONAL * np.array([1.0, 0.5, 1.0])))
    assert_same(twice, half, x, 0.4, precise, 1e-9)


@PRIORS
def test_two_observations_one_after_the_other_are_their_joint(prior_on, precise):
    prior, x = prior_on(precise, sp.VPSDE()), array(X, precise)
    first = sp.TweedieDenoiser(prior, linear(precise, H[:1], Y[:1], R_DIAGONAL[:1]), gradient="mean")
    second = sp.TweedieDenoiser(first, linear(precise, H[1:], Y[1:], R_DIAGONAL[1:]), gradient="mean")
    assert_same(second, sp.TweedieDenoiser(prior, linear(precise), gradient="mean"), x, 0.4, precise, 1e-9)


@PRIORS
def test_a_missing_row_is_a_row_left_out(prior_on, precise):
    """In y as NaN, with its row and column of a full R."""
    prior, x = prior_on(precise, sp.VPSDE()), array(X, precise)
    missing = linear(precise, y=np.array([1.0, np.nan, 3.5]), R=R_FULL)
    keep = [0, 2]
    fewer = linear(precise, H[keep], Y[keep], R_FULL[np.ix_(keep, keep)])
    assert missing.count == 2
    assert_same(sp.TweedieDenoiser(prior, missing), sp.TweedieDenoiser(prior, fewer), x, 0.4, precise, 1e-12)


@PRIORS
@pytest.mark.parametrize("method", ["dense", "matrix-free"])
def test_guidance_of_a_draw_does_not_depend_on_its_batch(prior_on, method, precise):
    guided = sp.TweedieDenoiser(prior_on(precise, sp.VPSDE()), linear(precise, R=R_FULL), method)
    together = host(guided.mean(array(X, precise), 0.4))
    far = np.concatenate([X[:2], 1e3 * X])
    for batch in (X[:2], far):
        alone = host(guided.mean(array(batch, precise), 0.4))[:2]
        np.testing.assert_allclose(alone, together[:2], rtol=1e-11)


def test_one_variance_for_all_may_be_a_number(backend):
    """For both kinds of observation."""
    prior, x = gaussian_on(backend, sp.VPSDE()), array(X, backend)
    expected = host(sp.TweedieDenoiser(prior, linear(backend, R=np.full(3, 0.25))).mean(x, 0.4))
    matrix = array(H, backend)
    same = sp.LinearGaussian(matrix, array(Y, backend), 0.25)

    def function(x):
        return x @ matrix.T, backend.xp.broadcast_to(matrix, (x.shape[0], 3, DIM))

    for seen in (same, sp.NonlinearGaussian(function, DIM, array(Y, backend), 0.25)):
        assert_array(sp.TweedieDenoiser(prior, seen).mean(x, 0.4), expected, backend)
