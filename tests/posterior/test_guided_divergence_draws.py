"""Likelihoods whose guidance goes astray say so, by name; those that do not are left alone."""

import warnings

import numpy as np
import pytest
from checks import array, host

import sdeppl as sp
from sdeppl.posterior.guided import named, one_sided

SDE = sp.VPSDE()
MEAN, COVARIANCE = np.array([0.5, -1.0]), np.array([[1.4, 0.4], [0.4, 0.8]])


def prior_on(backend):
    return sp.GaussianDenoiser(SDE, array(MEAN, backend), array(COVARIANCE, backend))


def regression(backend, count=60):
    """y ~ N(x₀ s, e^{x₁}²) of unknown scale, with its Jacobian; made at x = (1, -0.4)."""
    rng = np.random.default_rng(2)
    s = rng.normal(size=count)
    y = s + np.exp(-0.4) * rng.normal(size=count)

    def function(x):
        a = host(x)
        eta, J = a[:, :1] * s, np.zeros((len(a), count, 2))
        J[:, :, 0] = s
        with np.errstate(over="ignore"):
            R = np.exp(2 * a[:, 1:]) * np.ones(count)
        return tuple(array(part, backend) for part in (eta, J, R))

    return sp.NonlinearGaussian(function, 2, array(y, backend), None)


def counts(backend):
    """Poisson counts of about e^{10}."""
    family = sp.likelihood.families.Poisson()
    H, y = array(np.eye(2), backend), array([30_000.0, 9_000.0], backend)
    return sp.IndependentObservation(family, y, H=H, offset=10.0)


def linear(backend, noise=0.3, y=(1.2, -0.4)):
    return sp.LinearGaussian(array(np.eye(2), backend), array(y, backend), noise)


def said(posterior, draws=40, **settings):
    """Draws, and the messages of UntrustedWarnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        x = host(posterior.sample(draws, **settings))
    return x, [str(w.message) for w in caught if issubclass(w.category, sp.UntrustedWarning)]


@pytest.mark.parametrize(
    ("likelihood", "observation"), [("dps", regression), ("dps", counts), ("naive", counts), ("dps", linear)]
)
@pytest.mark.once
def test_draws_that_went_astray_are_said_to_have(likelihood, observation, precise):
    seen = observation(precise) if observation is not linear else linear(precise, 1e4, (3e3, -2e4))
    x, (message,) = said(sp.Posterior(prior_on(precise), seen, likelihood, correction=None))
    assert np.abs((x - MEAN) / np.sqrt(np.diag(COVARIANCE))).max() > 2
    assert message.startswith(f"likelihood='{likelihood}' seems to have diverged: ")
    assert "standard deviations of the prior from its mean" in message or "explain the data worse" in message


@pytest.mark.parametrize("likelihood", ["tweedie", "pigdm", "sda"])
@pytest.mark.parametrize("noise", [1e-4, 0.3, 1e6])
@pytest.mark.once
def test_draws_that_did_not_are_left_alone(likelihood, noise, precise):
    """Of data that say all, something and nothing."""
    assert not said(sp.Posterior(prior_on(precise), linear(precise, noise), likelihood, correction=None))[1]


@pytest.mark.parametrize("likelihood", ["cubature", "pigdm"])
@pytest.mark.once
def test_draws_that_follow_no_unknown_scale_are_said_to(likelihood, precise):
    """The scale of 60 rows stays as wide as in the prior, .9, where the data leave .1; nothing is far out."""
    prior = prior_on(precise)
    for seed in range(2):
        posterior = sp.Posterior(prior, regression(precise), likelihood, correction=None)
        x, (message,) = said(posterior, 200, seed=seed)
        assert x[:, 1].std() > 0.4
        assert message.startswith(f"likelihood='{likelihood}' is not the posterior: of small moves")
        assert "where half should" in message


@pytest.mark.once
def test_the_posteriors_own_draws_are_left_alone(precise):
    """Of a curved likelihood, by rejection: no false alarm in 40 looks, each at 5 standard errors."""
    rng, prior = np.random.default_rng(4), prior_on(precise)
    seen = regression(precise, 4)
    x = rng.multivariate_normal(MEAN, COVARIANCE, 400_000)
    log_p = np.asarray(host(seen.log_prob(array(x, precise))))
    kept = x[rng.uniform(size=len(x)) < np.exp(log_p - log_p.max())]
    assert len(kept) > 40 * 100
    for part in np.array_split(kept[: 40 * (len(kept) // 40)], 40):
        assert one_sided(prior, seen, array(part, precise)) is None
    assert "explain the data better" in one_sided(prior, seen, array(x[:256], precise))


def test_what_is_not_finite_names_the_likelihood(precise):
    """And leaves out advice on a drift, which the user has not written."""
    denoiser = sp.NaiveDenoiser(prior_on(precise), regression(precise))
    seen = "NaN or infinity at step 3"
    with (
        pytest.raises(sp.NonFiniteState, match=f"likelihood='naive' diverged: {seen}; use correction='auto'"),
        named(denoiser),
    ):
        raise sp.NonFiniteState(f"{seen}; check the drift")
    with pytest.raises(sp.NonFiniteState, match=f"^{seen}; check the drift$"), named(denoiser.prior):
        raise sp.NonFiniteState(f"{seen}; check the drift")


def test_a_matrix_without_a_root_names_the_likelihood(precise):
    """30 correlated numbers, whose covariance is none at x₀ < 0: no bare LinAlgError of the library."""
    rng = np.random.default_rng(0)
    y, slopes = rng.normal(size=30), rng.normal(size=(30, 2))

    def function(x):
        a = host(x)
        J = np.broadcast_to(slopes, (len(a), 30, 2))
        R = a[:, :1, None] * (np.eye(30) + 0.2)
        return tuple(array(part, precise) for part in (a @ slopes.T, J, R))

    seen = sp.NonlinearGaussian(function, 2, array(y, precise), None)
    with pytest.raises(sp.NonFiniteState, match="likelihood='sda' diverged: "):
        sp.Posterior(prior_on(precise), seen, "sda", correction=None).sample(40)


@pytest.mark.once
def test_even_weights_of_particles_that_went_astray_together_are_not_trusted(precise):
    """'naive' takes all of them to where the counts cannot be: their weights are even, and worth nothing."""
    posterior = sp.Posterior(prior_on(precise), counts(precise), "naive", correction=sp.TwistedSMC())
    with pytest.warns(sp.UntrustedWarning, match="explain the data worse than half of what the prior draws"):
        run = posterior.run(40)
    assert not run.diagnosis.trusted
    run = sp.Posterior(prior_on(precise), counts(precise), "tweedie", correction=sp.TwistedSMC()).run(40)
    assert run.diagnosis.trusted
    np.testing.assert_allclose(host(run.draws).mean(axis=0), np.log([30_000, 9_000]) - 10, atol=0.01)
