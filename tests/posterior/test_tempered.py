"""Tempered sequential Monte Carlo: no guidance at all, and the posterior all the same.

Truth is in closed form or by a sum over a fine grid. Seeds are stated; limits are 5 standard errors where
nothing else is said, at the effective share that the runs report: a fresh seed fails in about 1e-5.
"""

import math

import numpy as np
import pytest
import scipy.stats
from checks import array, assert_array, boxed, host
from tempered_targets import (
    CENTRES,
    COVARIANCE,
    MEAN,
    SDE,
    SPREADS,
    WEIGHTS,
    gaussian_on,
    log_mixture,
    mixture_on,
    ring,
    ring_on,
    truth,
)

import sdeppl as sp
from sdeppl.backend import Noise
from sdeppl.denoisers import tweedie_covariance
from sdeppl.mcmc.smc import moved_ess_fraction, next_power
from sdeppl.posterior.kernel import MomentKernel
from sdeppl.posterior.start import start_moments
from sdeppl.posterior.tempered import Renoising

H, Y, R = np.array([[1.0, 0.5, 0.0], [0.0, -1.0, 2.0]]), np.array([1.5, 0.0]), np.array([0.2, 0.6])


def mixture_draws(count, seed):
    rng = np.random.default_rng(seed)
    chosen = rng.choice(3, size=count, p=WEIGHTS)
    z = rng.standard_normal((count, 2))
    return CENTRES[chosen] + np.einsum("nij,nj->ni", np.linalg.cholesky(SPREADS)[chosen], z)


def moving(prior, c=1.0):
    start = start_moments(prior)
    return Renoising(prior, start, MomentKernel(start.basis, start.variances), sp.log_snr_grid(SDE, 100), c)


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_next_power_of_normal_log_likelihoods(share):
    """ln p(y given x) ~ N(m, s²) has the effective share exp(-Δλ² s²); by quantiles, so without chance."""
    s = 4.0
    values = -7.0 + s * scipy.stats.norm.ppf((np.arange(200_000) + 0.5) / 200_000)
    assert next_power(values, 0.1, share) == pytest.approx(0.1 + math.sqrt(-math.log(share)) / s, rel=1e-3)
    assert next_power(values / 100, 0.1, share) == 1.0
    impossible = np.concatenate([values, np.full(300_000, -np.inf)])  # they count for nothing
    assert next_power(impossible, 0.1, share) == pytest.approx(next_power(values, 0.1, share), rel=1e-12)


@pytest.mark.parametrize("copies", [1, 4, 16])
def test_moved_share_of_copies(copies):
    """Each particle standing `copies` times: a share 1/copies of them counts. 2,000 runs of 64, seed 3: the
    share is known to 2%."""
    rng = np.random.default_rng(3)
    x = 5.0 + 0.3 * np.repeat(rng.standard_normal((2_000, 64 // copies, 3)), copies, axis=1)
    moments = np.stack([x.mean(axis=1), (x * x).mean(axis=1)], axis=1)
    assert moved_ess_fraction(moments, 64) == pytest.approx(1 / copies, rel=0.1)


@pytest.mark.parametrize("level", [0.1, 0.5, 2.0, 20.0])  # the last is cut to 2.2
@pytest.mark.once
def test_moves_leave_the_prior_where_it_is(level, precise):
    """20 moves of 4,000 exact draws of a mixture that is known by its mean and covariance alone: the shares
    of its components, mean, mean square and mean log-density stay, each to 5 standard errors; seed 8."""
    moves, stream = moving(boxed(mixture_on(precise))), Noise(8).stream(precise)
    x = array(mixture_draws(4_000, seed=9), precise)
    for j in range(20):
        x = moves.move(x, level, stream, 1 + 100 * j)
    exact = mixture_draws(100_000, seed=10)

    def figures(x):
        parts = np.stack(
            [scipy.stats.multivariate_normal(m, C).logpdf(x) for m, C in zip(CENTRES, SPREADS, strict=True)]
        )
        share = np.exp(np.log(WEIGHTS)[:, None] + parts - log_mixture(x)).T
        return np.concatenate([share, x, x * x, log_mixture(x)[:, None]], axis=1)

    found, true = figures(host(x)), figures(exact)
    errors = (found.mean(axis=0) - true.mean(axis=0)) / true.std(axis=0)
    # where draws change modes the steps, exact in two moments, leave .03 standard deviations of log-density
    slack = 0.03 if level > 1 else 0.0
    assert np.abs(errors).max() < 5 / math.sqrt(4_000) + slack


@pytest.mark.once
def test_a_mixture_known_by_its_mean_alone(precise):
    """As of a network, whose covariance takes products: a mixture seen through a half ring, seed 6."""
    mixture = mixture_on(precise)

    def covariance(x, t):
        pull = mixture(x, t).covariance
        return tweedie_covariance(1.0, lambda v: pull @ v, x)

    prior = sp.CallableDenoiser(SDE, mixture.mean, covariance, 2, precise)
    run = sp.Posterior(prior, ring_on(precise), correction=sp.TemperedSMC(64, moves=16)).run(128, seed=6)
    mean, variance, evidence = truth(ring, log_mixture)
    size = min(128, 16 * 64 * run.diagnosis.ess)
    assert np.abs(host(run.draws).mean(axis=0) - mean).max() < 5 * math.sqrt(variance.max() / size)
    assert abs(run.diagnosis.log_evidence - evidence) < min(5 * run.diagnosis.log_evidence_error, 0.4)


@pytest.mark.parametrize("c", [0.5, 1.0, 1.5])
@pytest.mark.once
def test_a_gaussian_posterior_is_drawn_exactly(c, precise):
    """Mean, each entry of the whitened covariance, and ln p(y); seed 5."""
    seen = sp.LinearGaussian(array(H, precise), array(Y, precise), array(R, precise))
    posterior = sp.Posterior(boxed(gaussian_on(precise)), seen, correction=sp.TemperedSMC(kept=256))
    run = posterior.run(8_192, seed=5, c=c)
    draws, diagnosis = host(run.draws), run.diagnosis
    S = H @ COVARIANCE @ H.T + np.diag(R)
    gain = COVARIANCE @ H.T @ np.linalg.inv(S)
    mean, covariance = MEAN + gain @ (Y - H @ MEAN), COVARIANCE - gain @ H @ COVARIANCE
    white = np.linalg.solve(np.linalg.cholesky(covariance), (draws - mean).T).T
    size = 8_192 * diagnosis.ess
    assert np.abs(white.mean(axis=0)).max() < 5 / math.sqrt(size)
    errors = (white.T @ white / len(draws) - np.eye(3)) * np.sqrt(size / (1 + np.eye(3)))
    assert np.abs(errors).max() < 5
    exact = scipy.stats.multivariate_normal(H @ MEAN, S).logpdf(Y)
    assert abs(diagnosis.log_evidence - exact) < min(5 * diagnosis.log_evidence_error, 0.1)
    assert diagnosis.trusted and diagnosis.ess > 0.1
    assert_array(run.draws, draws, precise, 0.0)


@pytest.mark.once
def test_runs_do_not_depend_on_how_many_there_are(precise):
    """One block of 16 runs is there in any case; the draws of the first block stay what they were."""
    posterior = sp.Posterior(
        mixture_on(precise), ring_on(precise), correction=sp.TemperedSMC(64, kept=8, moves=4)
    )
    few, many = posterior.run(40, seed=2), posterior.run(300, seed=2)
    assert few.draws.shape == (40, 2) and many.draws.shape == (300, 2)
    again = posterior.sample(40, seed=2)
    assert_array(again, host(few.draws), precise, 0.0)
    assert (few.diagnosis.runs, many.diagnosis.runs) == (16, 38)


def test_refusals(precise):
    for wrong, match in (
        ({"particles": 1}, "particles must be a whole number from 2 to 4096; got 1"),
        ({"particles": True}, "got True"),
        ({"moves": 0}, "moves must be a whole number from 1 to"),
        ({"kept": 300}, "kept must be a whole number from 1 to 256; got 300"),
        ({"share": 1.0}, "share lies between 0 and 1; got 1.0"),
    ):
        with pytest.raises(ValueError, match=match):
            sp.TemperedSMC(**wrong)
    prior = mixture_on(precise)
    constraint = sp.LinearConstraint(array([[1.0, 0.0]], precise), array([0.5], precise))
    with pytest.raises(TypeError, match="is a hard constraint, which has none; use TwistedSMC"):
        sp.Posterior(prior, constraint, correction=sp.TemperedSMC())
    posterior = sp.Posterior(prior, ring_on(precise), correction=sp.TemperedSMC())
    with pytest.raises(ValueError, match="needs noise, c > 0; got c=0"):
        posterior.sample(10, c=0)


def test_impossible_data_and_nan(precise):
    xp, prior = precise.xp, mixture_on(precise)
    tempered = sp.TemperedSMC(64, moves=2)
    nowhere = sp.DensityObservation(lambda x: 0 * x[:, 0] - xp.inf, 2, array([0.0], precise))
    with pytest.raises(FloatingPointError, match="no draw of the prior can have led to the data"):
        sp.Posterior(prior, nowhere, correction=tempered).sample(10)
    broken = sp.DensityObservation(
        lambda x: xp.where(x[:, 0] > 0, -x[:, 0], xp.nan * x[:, 0]), 2, array([0.0], precise)
    )
    with pytest.raises(sp.NonFiniteState, match=r"ln p\(y given x_0\) is NaN at 2\d% of 2048 draws"):
        sp.Posterior(prior, broken, correction=tempered).sample(10)
