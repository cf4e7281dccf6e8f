"""Posteriors of models whose observations are not affine and Gaussian, against quadrature.

The prior is Gaussian and known to 1 in 500; 1,000 draws, seed 0. The limits are five standard errors at the
effective size that the run reports; a fresh seed fails in about 1e-5 of the cases.
"""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

import sdeppl as sp

D = torch.float64
A = np.array([[1.0, 0.5], [0.3, -1.0], [0.7, 0.2]])
Y = np.array([1.2, 1.5, 0.4])
COUNTS = np.array([4.0, 1.0, 3.0])
CENTRE = np.array([0.5, -0.5])


def model_of(site):
    def model(y=None):
        x = pyro.sample("x", dist.Normal(torch.tensor(CENTRE), 1.0).to_event(1))
        pyro.sample("y", site(x, torch.tensor(A) @ x), obs=y)

    return model


CASES = {
    "noise of the latents": (
        lambda x, eta: dist.Normal(eta, torch.exp(x[1])).to_event(1),
        lambda x, eta: stats.norm(eta, np.exp(x[:, 1:])).logpdf(Y),
        Y,
    ),
    "curved mean": (
        lambda x, eta: dist.Normal(eta**2, 0.5).to_event(1),
        lambda x, eta: stats.norm(eta**2, 0.5).logpdf(Y),
        Y,
    ),
    "rounded mean": (
        lambda x, eta: dist.Normal(torch.round(2 * eta), 0.5).to_event(1),
        lambda x, eta: stats.norm(np.round(2 * eta), 0.5).logpdf(Y),
        Y,
    ),
    "poisson": (
        lambda x, eta: dist.Poisson(torch.exp(eta)).to_event(1),
        lambda x, eta: stats.poisson(np.exp(eta)).logpmf(COUNTS),
        COUNTS,
    ),
    "student t": (
        lambda x, eta: dist.StudentT(3.0, eta, 0.3).to_event(1),
        lambda x, eta: stats.t(3.0, eta, 0.3).logpdf(Y),
        Y,
    ),
}


def by_quadrature(log_likelihood):
    """Mean, standard deviation and ln p(y)."""
    axis = np.linspace(-6.0, 6.0, 601)
    x = np.stack(np.meshgrid(axis + CENTRE[0], axis + CENTRE[1], indexing="ij"), axis=-1).reshape(-1, 2)
    log_p = stats.norm(CENTRE, 1.0).logpdf(x).sum(axis=1) + log_likelihood(x, x @ A.T).sum(axis=1)
    weights = np.exp(log_p - log_p.max())
    evidence = math.log(weights.sum() * (axis[1] - axis[0]) ** 2) + log_p.max()
    weights /= weights.sum()
    mean = weights @ x
    return mean, np.sqrt(weights @ x**2 - mean**2), evidence


@pytest.mark.parametrize("case", CASES)
def test_the_posterior_is_that_of_quadrature(case):
    site, log_likelihood, data = CASES[case]
    mean, sd, evidence = by_quadrature(log_likelihood)
    guide = sp.ScoreGuide(model_of(site), net=None).fit_gaussian(200_000, progress=False)
    posterior = guide.condition(y=data, backend="numpy")
    run = posterior.run(1_000)
    assert run.diagnosis.trusted
    size = min(1_000, run.diagnosis.ess * run.diagnosis.runs * run.diagnosis.particles)
    draws = run.draws["x"]
    assert np.all(np.abs(draws.mean(axis=0) - mean) < 5 * sd / math.sqrt(size))
    assert np.all(np.abs(draws.std(axis=0) / sd - 1) < 5 / math.sqrt(size))
    assert abs(run.diagnosis.log_evidence - evidence) < 5 * run.diagnosis.log_evidence_error + 0.01
