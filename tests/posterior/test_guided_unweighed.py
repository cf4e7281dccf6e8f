"""Black boxes of too many numbers for weights: what is drawn, at which cost, and what is said of it."""

import numpy as np
import pytest
from checks import array, host
from test_direct import DIM, MEAN, Y, assert_moments, exact, field, seen

import sdeppl as sp
from sdeppl import linalg as la
from sdeppl.posterior import start
from sdeppl.posterior.start import leading, start_moments

pytestmark = pytest.mark.filterwarnings("ignore::sdeppl.UntrustedWarning")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """As if 24 numbers were many."""
    for name, value in {"WITH_STRUCTURE": 8, "DENSE": 16, "RANK": 6, "SKETCH": 12}.items():
        monkeypatch.setattr(start, name, value)


def torch():
    """Where products with a function's slope are cheap."""
    return sp.resolve("torch")


def black_box(backend):
    """The exact mean of x_0 given x_t, and nothing else."""
    return sp.CallableDenoiser(sp.VPSDE(), field(backend).mean, dim=DIM, backend=backend)


def test_leading_directions_are_the_largest_eigenvectors_and_the_rest_has_its_mean(backend):
    C = host(field(backend).prior_covariance.dense())
    values = np.linalg.eigvalsh(C)
    rows = la.MatrixFree(lambda v: v @ array(C, backend), None, (DIM, DIM), array(C, backend), batch=1)
    found = leading(rows)
    np.testing.assert_allclose(host(found.along), values[-6:], rtol=1e-2)
    assert float(found.across[0]) == pytest.approx(values[:-6].mean(), rel=0.3)
    U = host(found.U)
    np.testing.assert_allclose(U.T @ U, np.eye(6), atol=1e-5)
    np.testing.assert_allclose(U.T @ C @ U, np.diag(host(found.along)), atol=1e-2)


def test_the_start_of_a_black_box_is_near_that_by_all_eigenvectors(precise, monkeypatch):
    found = start_moments(black_box(precise))
    monkeypatch.setattr(start, "DENSE", 100)
    by_matrices = start_moments(black_box(precise))
    np.testing.assert_allclose(host(found.mean), host(by_matrices.mean), atol=1e-4)
    np.testing.assert_allclose(host(found.root.dense()), host(by_matrices.root.dense()), atol=1e-3)


def test_a_gaussian_black_box_has_its_posterior_and_is_not_trusted_all_the_same():
    """Guidance by Tweedie's moments is exact there; seed 3, and 4% for the steps."""
    posterior = sp.Posterior(black_box(torch()), seen(torch()), steps=50)
    run = posterior.run(800, seed=3)
    mean, covariance, _ = exact(torch())
    assert_moments(run.draws, mean, covariance, 0.04)
    assert run.state == "do not trust" and np.isnan(run.diagnosis.log_evidence)
    for said in (
        "nothing has weighed them",
        "24 numbers",
        "99 evaluations of the denoiser",
        "about 200 and",
    ):
        assert said in str(run)


def test_many_data_sets_too():
    """Seed 5."""
    backend = torch()
    posteriors = sp.Posteriors(black_box(backend), seen(backend), array(Y, backend), steps=50)
    run = posteriors.run(400, seed=5)
    for number, y in enumerate(Y):
        mean, covariance, _ = exact(backend, y)
        assert_moments(run.draws[number, ...], mean, covariance, 0.05)
    assert run.state == "do not trust" and not run.trusted


def test_what_is_asked_for_is_done(precise):
    asked = sp.Posterior(black_box(precise), seen(precise), correction=sp.TwistedSMC(particles=8))
    assert asked.choice.correction is not None and not asked.choice.unweighed
    assert np.all(np.isfinite(host(asked.sample(2)))) and MEAN.shape == (DIM,)


def test_counts_of_a_large_gaussian_field_are_drawn_unweighed(monkeypatch):
    """Poisson counts, whose posterior is no Gaussian: 24 numbers stand for many. Draws explain the counts as
    the exact posterior's do, within .15 standard deviations of chains by pCN; seeds 1 and 2."""
    backend, rng = torch(), np.random.default_rng(2)
    prior, xp = field(backend), backend.xp
    H = la.Isotropic(xp.asarray(0.5, dtype=backend.dtype), DIM)
    counts = array(rng.poisson(np.exp(0.5 * MEAN + 0.5)), backend)
    observation = sp.likelihood.IndependentObservation(
        sp.likelihood.families.Poisson(), counts, H=H, offset=array(np.full(DIM, 0.5), backend)
    )
    posterior = sp.Posterior(prior, observation, steps=40)
    assert posterior.choice.unweighed and posterior.choice.name == "tweedie"
    run = posterior.run(300, seed=1)
    assert run.state == "do not trust"
    root = host(prior.prior_covariance.sqrt().dense())
    x, kept = np.tile(MEAN, (200, 1)), []
    for step in range(900):
        moved = MEAN + np.sqrt(1 - 0.09) * (x - MEAN) + 0.3 * rng.standard_normal(x.shape) @ root
        logs = [host(observation.log_prob(array(rows, backend))) for rows in (x, moved)]
        taken = np.log(rng.uniform(size=200)) < logs[1] - logs[0]
        x = np.where(taken[:, None], moved, x)
        if step >= 400 and step % 50 == 0:
            kept.append(x)
    exact_draws = np.concatenate(kept)
    off = (host(run.draws).mean(axis=0) - exact_draws.mean(axis=0)) / exact_draws.std(axis=0)
    assert np.abs(off).max() < 0.3 and np.sqrt((off**2).mean()) < 0.15
