"""Mean likelihoods that integrate: nested draws, Monte Carlo and cubature, against closed forms."""

import math

import numpy as np
import pytest
from checks import array, assert_array, host
from guided_mixture import (
    COVARIANCES,
    DIM,
    MEANS,
    R_FULL,
    SDE,
    TIMES,
    H,
    R,
    X,
    Y,
    bent,
    linear,
    mixture_on,
)

import sdeppl as sp
from sdeppl.linalg import Triangular


@pytest.mark.parametrize("t", [0.2, 0.7])
def test_nested_draws_converge_to_the_exact_mean_likelihood(t):
    """4,000 draws of p(x_0 | x_t) with 40 steps against the closed form; 5 standard errors at an effective
    size of a tenth, and 0.02 for the steps."""
    numpy, sde = sp.resolve("numpy"), sp.VPSDE()
    prior, seen = mixture_on(numpy, sde), linear(numpy, noise=5 * R)
    exact = sp.exact_posterior(prior, seen)
    guided = sp.NestedDenoiser(prior, seen, samples=4_000, steps=40).guided(X, t)
    moments = exact.denoiser(X, t)
    sd = np.sqrt(np.diagonal(moments.covariance.dense(), axis1=1, axis2=2))
    assert np.all(np.abs(guided.mean - moments.mean) < sd * (5 / math.sqrt(400) + 0.02))
    log_l = exact.denoiser.log_density(X, t) - prior.log_density(X, t) + float(exact.log_evidence)
    np.testing.assert_allclose(guided.log_likelihood, log_l, atol=0.25)


def test_an_exact_conditional_sampler_is_asked_where_the_prior_has_one():
    numpy, t = sp.resolve("numpy"), 0.5
    prior = sp.GaussianDenoiser(SDE, MEANS[0], COVARIANCES[0])
    moments = prior(X, t)
    root = np.linalg.cholesky(moments.covariance.dense())
    prior.conditional = lambda x, t, z: prior(x, t).mean[:, None, :] + z @ root.T
    seen = linear(numpy, noise=5 * R)
    guided = sp.NestedDenoiser(prior, seen, samples=20_000).guided(X, t)
    exact = sp.TweedieDenoiser(prior, seen).guided(X, t)
    np.testing.assert_allclose(guided.mean, exact.mean, atol=0.06)
    np.testing.assert_allclose(guided.log_likelihood, exact.log_likelihood, atol=0.3)


@pytest.mark.parametrize("t", [0.05, 0.4, 1.0])
def test_monte_carlo_is_the_gaussian_integral(t):
    """Over N(m, C), of a linear Gaussian likelihood: the Tweedie likelihood, known exactly. 512 draws."""
    numpy = sp.resolve("numpy")
    prior, seen = mixture_on(numpy), linear(numpy, noise=0.1 * R)
    x = sp.exact_posterior(prior, seen).denoiser.marginals.sample(t, 20, seed=1)
    found = sp.MonteCarloDenoiser(prior, seen, samples=512).guided(x, t)
    exact = sp.TweedieDenoiser(prior, seen, gradient="mean").guided(x, t)
    C = exact.prior.covariance.dense()
    sd = np.sqrt(np.diagonal(C, axis1=1, axis2=2))
    assert (
        np.abs((found.mean - exact.mean) / sd).max() < 0.3
    )  # of 60 numbers, each with an error of about 0.06
    np.testing.assert_allclose(found.log_likelihood, exact.log_likelihood, atol=0.25)


def test_cubature_of_a_linear_predictor_is_tweedie(precise):
    """Any N(m, C): mean, ln l and the covariance given y."""

    def function(x):
        value = host(x) @ H.T
        return array(value, precise), array(np.broadcast_to(H, (len(value), 2, DIM)), precise)

    prior, x = mixture_on(precise), array(X, precise)
    seen = sp.NonlinearGaussian(function, DIM, array(Y, precise), array(R_FULL, precise))
    found = sp.CubatureDenoiser(prior, seen)
    exact = sp.TweedieDenoiser(prior, linear(precise, noise=R_FULL), gradient="mean")
    for t in TIMES:
        assert_array(found.mean(x, t), host(exact.mean(x, t)), precise, 1e-7)
        assert_array(found.log_likelihood(x, t), host(exact.log_likelihood(x, t)), precise, 1e-7)
        dense = host(exact(x, t).covariance.dense())
        assert_array(found(x, t).covariance.dense(), dense, precise, 1e-6)


def test_cubature_has_the_moments_of_a_quadratic_predictor_and_of_its_noise(precise):
    """E[A], Cov[x_0, A] and E[R] of A = (x₀ + 0.3 x₁², x₂ x₀), R = (0.3 + 0.1 x₁², 0.5) in closed form."""
    prior, x, t = mixture_on(precise), array(X, precise), 0.4
    seen = bent(precise, noisy=True)
    rung = sp.CubatureDenoiser(prior, seen)
    moments = prior(x, t)
    m, C = host(moments.mean), host(moments.covariance.dense())
    root = np.linalg.cholesky(C)
    linear, spread = rung._linearised(moments.mean, Triangular(array(root, precise)))
    mean, slope, noise = host(linear.predicted), np.swapaxes(host(linear.H), 1, 2), host(spread.R)
    expected = np.stack([m[:, 0] + 0.3 * (m[:, 1] ** 2 + C[:, 1, 1]), m[:, 2] * m[:, 0] + C[:, 0, 2]], axis=1)
    np.testing.assert_allclose(mean, expected, rtol=1e-10)
    cross = np.stack(
        [C[:, :, 0] + 0.6 * m[:, 1:2] * C[:, :, 1], m[:, 2:] * C[:, :, 0] + m[:, :1] * C[:, :, 2]], axis=2
    )
    np.testing.assert_allclose(root @ slope, cross, atol=1e-10)
    # Cov[A] beyond the linear part is positive, and E[R] comes on top
    average = np.stack([0.3 + 0.1 * (m[:, 1] ** 2 + C[:, 1, 1]), 0.5 + 0 * m[:, 0]], axis=1)
    bend = noise - average[:, :, None] * np.eye(2)
    assert np.linalg.eigvalsh(bend).min() > -1e-12
    assert np.abs(bend).max() > 1e-3
    offsets = math.sqrt(DIM) * np.swapaxes(root, 1, 2)
    points = np.concatenate([m[:, None, :] + offsets, m[:, None, :] - offsets], axis=1)
    values = np.stack([points[..., 0] + 0.3 * points[..., 1] ** 2, points[..., 2] * points[..., 0]], axis=-1)
    covariances = np.stack([np.cov(rows.T, bias=True) for rows in values])
    np.testing.assert_allclose(bend + np.swapaxes(slope, 1, 2) @ slope, covariances, atol=1e-12)


@pytest.mark.parametrize("noisy", [False, True])
def test_cubature_of_far_more_numbers_than_latents_is_the_same_in_few(noisy, precise):
    """40 numbers sin(a·x) + b·x with noise of their own, as variances and as a matrix, which stays whole."""
    rng, t = np.random.default_rng(4), 0.4
    slopes, y = rng.normal(size=(40, DIM)), rng.normal(size=40)

    def observation(matrix):
        def value(x):
            a = host(x)
            mean = np.sin(a @ slopes.T) + 0.4 * a @ slopes[::-1].T
            R = 0.2 + (0.3 * a[:, :1] + 0.1 * slopes[:, 0]) ** 2
            found = array(mean, precise), array(R[:, :, None] * np.eye(40) if matrix else R, precise)
            return found if noisy else found[0]

        R = None if noisy else array(np.diag(0.2 + y**2) if matrix else 0.2 + y**2, precise)
        return sp.NonlinearGaussian(None, DIM, array(y, precise), R, value=value)

    prior, x = mixture_on(precise), array(X, precise)
    few, whole = (sp.CubatureDenoiser(prior, observation(matrix)) for matrix in (False, True))
    assert few.guided(x, t).pseudo_observation.H.shape == (len(X), 2 * DIM, DIM)
    assert whole.guided(x, t).pseudo_observation.H.shape == (len(X), 40, DIM)
    assert_array(few.mean(x, t), host(whole.mean(x, t)), precise, 1e-9)
    assert_array(few.log_likelihood(x, t), host(whole.log_likelihood(x, t)), precise, 1e-10)
    assert_array(few(x, t).covariance.dense(), host(whole(x, t).covariance.dense()), precise, 1e-9)


def test_cubature_is_for_nonlinear_gaussian_observations():
    numpy = sp.resolve("numpy")
    with pytest.raises(TypeError, match="likelihood='cubature' is for a NonlinearGaussian"):
        sp.CubatureDenoiser(mixture_on(numpy), linear(numpy))
