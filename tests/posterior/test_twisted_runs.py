"""Runs of twisted SMC: the same everywhere, the prior where data say nothing, and when not to trust them."""

import math

import numpy as np
import pytest
from checks import array, assert_array, boxed, host
from twisted_targets import H, R, mixture_on, seen_on

import sdeppl as sp


def test_a_run_does_not_depend_on_the_other_runs(backend):
    """The first draws are the same however many are asked for, in one block of runs or several."""
    correction = sp.TwistedSMC(512, kept=10)
    posterior = sp.Posterior(boxed(mixture_on(backend)), seen_on(backend), steps=20, correction=correction)
    few, many = host(posterior.sample(20, seed=2)), host(posterior.sample(200, seed=2))
    np.testing.assert_allclose(few, many[:20], rtol=2e-2 if "32" in str(backend.dtype) else 1e-10)
    assert np.abs(host(posterior.sample(20, seed=4)) - few).min() > 1e-6


def test_no_observation_gives_the_prior(precise):
    nothing = sp.LinearGaussian(array(H, precise), array([np.nan, np.nan], precise), array(R, precise))
    prior = mixture_on(precise)
    run = sp.Posterior(prior, nothing).run(30, seed=1)
    assert_array(run.draws, host(sp.Posterior(prior, None).sample(30, seed=1)), precise, 0.0)
    assert run.diagnosis.trusted


def test_noise_without_bound_gives_the_prior(precise):
    """Every weight is the same: the draws are those of any other such observation."""
    weak = [
        sp.Posterior(boxed(mixture_on(precise)), seen_on(precise, R=scale * R), steps=30).run(40, seed=1)
        for scale in (1e13, 1e14)
    ]
    np.testing.assert_allclose(host(weak[0].draws), host(weak[1].draws), rtol=0, atol=1e-8)
    assert weak[0].diagnosis.ess > 1 - 1e-6


def test_what_cannot_be_is_refused():
    numpy = sp.resolve("numpy")
    prior, seen = boxed(mixture_on(numpy)), seen_on(numpy)
    with pytest.raises(ValueError, match=r"a corrected solve needs noise, c > 0; got c=0\.0"):
        sp.Posterior(prior, seen).sample(3, c=0.0)
    with pytest.raises(ValueError, match="solver= is not for a corrected solve"):
        sp.Posterior(prior, seen).sample(3, solver=sp.ExponentialHeun())
    with pytest.raises(TypeError, match="correction='smc': use 'auto', None, a TwistedSMC, "):
        sp.Posterior(prior, seen, correction="smc")
    with pytest.raises(TypeError, match="likelihood='exact' has a closed form for Gaussian"):
        sp.Posterior(prior, seen, likelihood="exact")
    with pytest.raises(ValueError, match="likelihood was made with another prior or observation"):
        sp.Posterior(prior, seen, likelihood=sp.SDADenoiser(mixture_on(numpy), seen))
    for settings, message in [
        ({"particles": 0}, "particles must be a whole number from 1 to"),
        ({"particles": 8, "kept": 9}, "kept must be a whole number from 1 to 8; got 9"),
        ({"resample_below": 1.5}, "resample_below is a share from 0 to 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            sp.TwistedSMC(**settings)


def test_a_posterior_that_the_particles_miss_is_not_trusted():
    """A poor twist and few particles: a warning in words, and in the result."""
    numpy = sp.resolve("numpy")
    prior, seen = boxed(mixture_on(numpy)), seen_on(numpy, R=0.1 * R)
    posterior = sp.Posterior(prior, seen, "sda", correction=sp.TwistedSMC(4, kept=4))
    with pytest.warns(sp.UntrustedWarning, match="do not trust these draws"):
        run = posterior.run(200, seed=1)
    assert not run.diagnosis.trusted


def test_the_pareto_shape_of_known_tails():
    """Pareto weights with k = 0.3 and 0.9, 4,000 of each: the tail has 189 values, and k̂ a standard error of
    (1 + k)/√189; four of them. Equal weights have no tail."""
    from sdeppl.mcmc.smc import pareto_shape

    generator = np.random.default_rng(0)
    for k in (0.3, 0.9):
        weights = generator.uniform(size=4_000) ** -k
        assert abs(pareto_shape(weights.tolist()) - k) < 4 * (1 + k) / math.sqrt(189)
    assert pareto_shape([0.5] * 100) == -math.inf
    assert math.isnan(pareto_shape([1.0, 2.0]))
