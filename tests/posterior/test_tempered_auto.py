"""Where 'auto' tempers and where it keeps guidance; limits of 5 standard errors at the effective share."""

import dataclasses
import math

import numpy as np
import pytest
import scipy.stats
from checks import array, assert_array, boxed, host
from scipy.special import logsumexp
from tempered_targets import (
    GAUSSIAN,
    RADIUS,
    SDE,
    WIDTH,
    gaussian_on,
    log_mixture,
    mixture_on,
    ring,
    ring_on,
    truth,
)

import sdeppl as sp
from sdeppl.posterior import tempered


@pytest.mark.once
def test_auto_tempers_where_there_is_no_derivative(precise):
    """A narrow half ring, seed 4."""
    prior = sp.GaussianDenoiser(SDE, array([0.3, -0.2], precise), array(GAUSSIAN, precise))
    posterior = sp.Posterior(prior, ring_on(precise))
    assert posterior.choice.fallback == sp.TwistedSMC()
    run = posterior.run(256, seed=4)
    mean, variance, evidence = truth(ring, scipy.stats.multivariate_normal([0.3, -0.2], GAUSSIAN).logpdf)
    diagnosis, draws = run.diagnosis, host(run.draws)
    assert (diagnosis.correction, diagnosis.runs, diagnosis.particles) == ("tempered SMC", 16, 128)
    assert diagnosis.trusted
    size = min(256, 16 * 128 * diagnosis.ess)
    assert np.abs(draws.mean(axis=0) - mean).max() < 5 * math.sqrt(variance.max() / size)
    assert np.abs(draws.var(axis=0) / variance - 1).max() < 5 * math.sqrt(2 / size)
    assert abs(diagnosis.log_evidence - evidence) < min(5 * diagnosis.log_evidence_error, 0.3)
    assert np.abs(np.hypot(*draws.T) - RADIUS).max() < 5 * WIDTH
    assert_array(run.draws, draws, precise, 0.0)


@pytest.mark.once
def test_auto_tempers_without_a_derivative_whatever_the_prior(precise):
    """A prior that tells nothing of itself, as a network does: guidance would take hundreds of densities for
    each row and step. A mixture seen through a wide ring; seed 7."""

    def wide(x, xp):
        return -0.5 * ((xp.sqrt(x[..., 0] ** 2 + x[..., 1] ** 2) - RADIUS) / 0.4) ** 2

    seen = sp.DensityObservation(lambda x: wide(x, precise.xp), 2, array([0.0], precise))
    posterior = sp.Posterior(boxed(mixture_on(precise)), seen, steps=40)
    assert posterior.choice.correction == sp.TemperedSMC()
    assert posterior.choice.fallback == sp.TwistedSMC()
    settings = sp.TemperedSMC(64, moves=8)  # quicker
    quick = sp.Posterior(boxed(mixture_on(precise)), seen, steps=40, correction=settings).run(256, seed=7)
    mean, variance, evidence = truth(wide, log_mixture, edge=4.0)
    size = min(256, 16 * 64 * quick.diagnosis.ess)
    assert np.abs(host(quick.draws).mean(axis=0) - mean).max() < 5 * math.sqrt(variance.max() / size)
    assert abs(quick.diagnosis.log_evidence - evidence) < min(5 * quick.diagnosis.log_evidence_error, 0.3)


def product_truth(mean, covariance, y, sd):
    """Mean (2,), variances (2,) and ln p(y) of a Gaussian x given x_1 x_2 = y up to noise: Kalman's formulas
    for x_2 given x_1, summed over a fine grid of x_1."""
    x1 = np.arange(-4.5, 4.5, 2e-5) + 1e-5
    slope = covariance[0, 1] / covariance[0, 0]
    m, v = mean[1] + slope * (x1 - mean[0]), covariance[1, 1] - slope * covariance[0, 1]
    S = x1**2 * v + sd**2
    logs = scipy.stats.norm.logpdf(x1, mean[0], math.sqrt(covariance[0, 0]))
    logs = logs + scipy.stats.norm.logpdf(y, x1 * m, np.sqrt(S))
    evidence = logsumexp(logs) + math.log(2e-5)
    weights = np.exp(logs - logsumexp(logs))
    x2 = m + x1 * v / S * (y - x1 * m)
    found = np.array([weights @ x1, weights @ x2])
    second = np.array([weights @ x1**2, weights @ (x2**2 + v * sd**2 / S)])
    return found, second - found**2, evidence


def product_of(precise, sd):
    """A product of two numbers that is known to sd: two branches of a cross."""
    prior = sp.GaussianDenoiser(SDE, array([0.3, -0.2], precise), array(GAUSSIAN, precise))

    def product(x):
        return x[:, :1] * x[:, 1:], precise.xp.stack([x[:, 1], x[:, 0]], axis=-1)[:, None, :]

    return sp.Posterior(prior, sp.NonlinearGaussian(product, 2, array([0.05], precise), sd**2))


@pytest.mark.parametrize(("sd", "correction"), [(0.004, "twisted SMC"), (0.0005, "tempered SMC")])
@pytest.mark.once
def test_auto_tempers_where_guidance_fails(sd, correction, precise):
    """No Gaussian l(y given x_t) knows a cross: weights make up for it where it is not too narrow; where it
    is, 'auto' says how guidance failed, and tempers. Seed 4; limits at the least effective share."""
    run = product_of(precise, sd).run(512, seed=4)
    diagnosis, draws = run.diagnosis, host(run.draws)
    mean, variance, evidence = product_truth(np.array([0.3, -0.2]), GAUSSIAN, 0.05, sd)
    assert diagnosis.correction == correction
    assert ("guidance was not to be trusted" in diagnosis.why) == (correction == "tempered SMC")
    assert diagnosis.trusted
    size = min(512, diagnosis.runs * diagnosis.particles * diagnosis.ess)
    assert np.abs(draws.mean(axis=0) - mean).max() < 5 * math.sqrt(variance.max() / size)
    assert abs(diagnosis.log_evidence - evidence) < min(5 * diagnosis.log_evidence_error, 0.3)


@pytest.mark.once
def test_auto_keeps_guidance_where_it_works(precise):
    seen = sp.NonlinearGaussian(
        lambda x: (x**3, 3 * x[:, :, None] ** 2 * array(np.eye(2), precise)),
        2,
        array([1.0, 1.0], precise),
        2.0,
    )
    posterior = sp.Posterior(gaussian_on(precise, dim=2), seen, steps=40)
    assert posterior.choice.fallback == sp.TemperedSMC()
    assert posterior.run(50).diagnosis.correction == "twisted SMC"


def test_what_was_asked_for_is_kept(precise):
    prior, seen = mixture_on(precise), ring_on(precise)
    assert sp.Posterior(prior, seen, correction=sp.TwistedSMC()).choice.fallback is None
    assert sp.Posterior(prior, seen, "nested").choice.fallback is None
    many = sp.GaussianDenoiser(
        SDE, array(np.zeros(17), precise), array(np.eye(17), precise)
    )  # more than 16 numbers
    wide = sp.DensityObservation(lambda x: -precise.xp.sum(x**4, axis=-1), 17, array([0.0], precise))
    assert sp.Posterior(many, wide).choice.fallback is None


@pytest.mark.parametrize(
    ("draws", "particles"), [(5, 64), (128, 64), (129, 128), (256, 128), (400, 256), (2_000, 256)]
)
def test_the_work_is_in_proportion_to_the_draws(draws, particles):
    """16 runs, whose differences are the diagnosis, of an eighth as many draws as particles, at most."""
    settings = sp.TemperedSMC().for_draws(draws, 16)
    assert settings.particles == particles
    assert settings.keeps * 16 >= min(draws, 16 * 32)
    assert sp.TemperedSMC(particles=512).for_draws(draws, 16) == sp.TemperedSMC(particles=512)


def test_small_runs_that_are_not_to_be_trusted_give_way_to_whole_ones(monkeypatch):
    """Whatever 64 particles gave: the draws are those of 256."""
    numpy = sp.resolve("numpy")
    prior = sp.GaussianDenoiser(SDE, np.array([0.3, -0.2]), GAUSSIAN)
    posterior = sp.Posterior(prior, ring_on(numpy), correction=sp.TemperedSMC())
    inner = tempered.diagnose

    def distrusting(*arguments, **settings):
        found = inner(*arguments, **settings)
        return dataclasses.replace(found, trusted=found.particles > 64)

    monkeypatch.setattr(tempered, "diagnose", distrusting)
    assert posterior.run(20, seed=4).diagnosis.particles == 256
