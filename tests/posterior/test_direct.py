"""Gaussian fields seen linearly: draws by Matheron's rule and by the reverse SDE, against matrices."""

import numpy as np
import pytest
from checks import array, assert_array, host

import sdeppl as sp
from sdeppl import linalg as la
from sdeppl.likelihood import GaussianPosterior

FIELD = la.FieldShape(1, (4, 6), (True, False))
DIM, PLACES = 24, [2, 3, 10, 17, 23]
NOISE = np.array([0.1, 0.3, 0.2, 0.5, 0.05])
MEAN = np.linspace(-2.0, 3.0, DIM)
Y = np.array([[1.0, -0.5, 2.0, 0.3, 4.0], [0.0, 1.5, -2.0, 3.0, 2.0], [2.0, 2.0, 1.0, -1.0, 3.0]])


def spectrum():
    k, j = np.minimum(np.arange(4), 4 - np.arange(4)), np.arange(6)
    return (4.0 / (1 + k[:, None] ** 2 + 0.5 * j[None, :] ** 2)).reshape(-1)


def field(backend):
    covariance = la.Stationary(FIELD, array(spectrum(), backend))
    return sp.GaussianDenoiser(sp.VPSDE(), array(MEAN, backend), covariance)


def seen(backend, y=Y[0]):
    index = backend.xp.asarray(PLACES, dtype=backend.xp.int64, device=backend.device)
    H = la.Diagonal(array([1.0, 2.0, -1.0, 1.0, 0.5], backend)) @ la.Selection(
        index, DIM, array(MEAN, backend)
    )
    return sp.LinearGaussian(H, array(y, backend), array(NOISE, backend))


def exact(backend, y=Y[0]):
    """Mean, covariance and ln p(y) by matrices."""
    C, H = host(field(backend).prior_covariance.dense()), host(seen(backend).H)
    S = H @ C @ H.T + np.diag(NOISE)
    K, residual = C @ H.T @ np.linalg.inv(S), y - H @ MEAN
    evidence = -0.5 * (residual @ np.linalg.solve(S, residual) + np.linalg.slogdet(2 * np.pi * S)[1])
    return MEAN + K @ residual, C - K @ H @ C, evidence


def assert_moments(draws, mean, covariance, bound):
    """Every mean within 5 standard errors, every covariance within 5.5 of its own: 1 of 1,000 seeds fails."""
    x, n = host(draws) - mean, draws.shape[0]
    variance = np.diag(covariance)
    assert np.all(np.abs(x.mean(axis=0)) < (5 / np.sqrt(n) + bound) * np.sqrt(variance))
    error = np.sqrt((np.outer(variance, variance) + covariance**2) / n)
    assert np.all(np.abs(x.T @ x / n - covariance) < (5.5 + 2 * bound * np.sqrt(n)) * error)


def test_draws_have_the_posterior_mean_and_covariance(backend):
    """Seed 7."""
    run = sp.Posterior(field(backend), seen(backend)).run(4_000, seed=7)
    mean, covariance, evidence = exact(backend)
    assert_moments(run.draws, mean, covariance, 0.0)
    assert run.diagnosis.log_evidence == pytest.approx(evidence, rel=1e-4)
    assert run.state == "trusted" and run.diagnosis.log_evidence_error == 0.0
    assert "drawn directly (Matheron's rule), 5 numbers by one factorisation" in str(run)


def test_asked_for_the_reverse_sde_has_the_same_posterior(precise):
    """Seed 3; 100 steps leave moments within 2%."""
    posterior = sp.Posterior(field(precise), seen(precise))
    mean, covariance, evidence = exact(precise)
    for asked in ({"c": 1.0}, {"c": 0.0}, {"solver": sp.ExponentialHeun()}):
        run = posterior.run(2_000, seed=3, **asked)
        assert_moments(run.draws, mean, covariance, 0.02)
        assert "by the reverse SDE" in str(run) and "Matheron" not in str(run)
        assert run.diagnosis.log_evidence == pytest.approx(evidence)


def test_the_first_draws_are_the_same_for_any_batch(backend):
    posterior = sp.Posterior(field(backend), seen(backend))
    draws = posterior.sample(7, seed=5)
    assert_array(posterior.sample(3, seed=5), host(draws)[:3], backend)
    assert_array(posterior.sample(7, seed=5, batch=2), host(draws), backend)
    reverse = posterior.sample(5, seed=5, c=1.0)
    assert_array(posterior.sample(5, seed=5, c=1.0, batch=2), host(reverse), backend)
    for bad, error in ((0, ValueError), (1.5, TypeError)):
        with pytest.raises(error, match="batch"):
            posterior.sample(7, batch=bad)


def test_each_data_set_has_its_own_posterior_and_the_first_the_draws_of_one_alone(backend):
    """Seed 11."""
    posteriors = sp.Posteriors(field(backend), seen(backend), array(Y, backend))
    run = posteriors.run(1_500, seed=11, batch=1_000)
    for number, y in enumerate(Y):
        mean, covariance, evidence = exact(backend, y)
        assert_moments(run.draws[number, ...], mean, covariance, 0.0)
        assert run.diagnoses[number].log_evidence == pytest.approx(evidence, rel=1e-4)
    alone = sp.Posterior(field(backend), seen(backend)).sample(4, seed=11)
    assert_array(run.draws[0, :4, :], host(alone), backend)
    assert run.trusted and "closed form for each data set" in run.text


def test_the_posterior_mean_is_the_exact_one(backend):
    posterior = GaussianPosterior(field(backend), seen(backend))
    assert_array(posterior.mean, exact(backend)[0], backend)
    many = GaussianPosterior(field(backend), seen(backend).with_data(array(Y, backend)))
    assert_array(many.mean, np.stack([exact(backend, y)[0] for y in Y]), backend)


def test_without_data_draws_are_the_priors(precise):
    """Seed 2."""
    nothing = seen(precise, np.full(5, np.nan))
    C = host(field(precise).prior_covariance.dense())
    for observation in (None, nothing):
        posterior = sp.Posterior(field(precise), observation)
        assert_moments(posterior.sample(3_000, seed=2), MEAN, C, 0.0)
        assert_moments(posterior.sample(2_000, seed=2, c=1.0), MEAN, C, 0.02)


def test_a_hard_constraint_holds_in_every_draw(precise):
    index = precise.xp.asarray(PLACES, dtype=precise.xp.int64, device=precise.device)
    H = la.Selection(index, DIM, array(MEAN, precise))
    draws = sp.Posterior(field(precise), sp.LinearConstraint(H, array(Y[0], precise))).sample(5)
    np.testing.assert_allclose(host(draws)[:, PLACES], np.tile(Y[0], (5, 1)), atol=1e-9)


def test_a_gaussian_by_all_eigenvectors_goes_by_the_reverse_sde_as_before(precise):
    dense = sp.GaussianDenoiser(sp.VPSDE(), array(MEAN, precise), field(precise).prior_covariance.dense())
    posterior = sp.Posterior(dense, seen(precise))
    assert "Matheron" not in str(posterior.run(3))
    assert_array(posterior.sample(3, seed=1), host(posterior.sample(3, seed=1, c=1.0)), precise, 0.0)


def test_ln_p_of_what_is_iterated_is_estimated_by_run_and_not_by_sample(precise, monkeypatch):
    """The standard error covers the exact value; seed of the probes fixed, 4 standard errors."""
    monkeypatch.setattr("sdeppl.linalg.observed.FACTORED", 3)
    for limit in ("DIRECT", "QUICK"):
        monkeypatch.setattr(f"sdeppl.linalg.observed.{limit}", 3)
    monkeypatch.setattr(la.ObservedCovariance, "near_root", None)
    posterior = sp.Posterior(field(precise), seen(precise))
    mean, covariance, evidence = exact(precise)
    run = posterior.run(3_000, seed=4)
    assert_moments(run.draws, mean, covariance, 1e-6)
    found = run.diagnosis
    assert found.log_evidence_error > 0
    assert abs(found.log_evidence - evidence) < 4 * found.log_evidence_error
    assert "iterations of conjugate gradients" in str(run) and "±" in str(run)
    monkeypatch.setattr(GaussianPosterior, "log_evidence", property(lambda _: pytest.fail("was estimated")))
    posterior.sample(2)
