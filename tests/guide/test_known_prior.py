"""Pyro priors that are not Gaussian and that nothing was trained on: the model's density makes up for it."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from scipy import special, stats

import sdeppl as sp

DTYPE = torch.float64


def fitted(model):
    guide = sp.ScoreGuide(model, net=None)
    sp.ScoreMatching(guide, draws=20_000).fit(steps=0, progress=False)
    assert guide.fit_check.state == "do not trust" and guide.fit_check.density
    return guide


def test_an_exponential_rate_of_counts():
    """x ~ Exp(2), y_i ~ Poisson(x): the posterior is Gamma(1 + Σy, 2 + n). KS at 1e-5 of 2,000 draws."""

    def model(y=None):
        x = pyro.sample("x", dist.Exponential(torch.tensor(2.0, dtype=DTYPE)))
        with pyro.plate("n", 3):
            pyro.sample("y", dist.Poisson(x), obs=y)

    y = np.array([0.0, 2.0, 1.0])
    run = fitted(model).condition(y=y).run(4_000, seed=1)
    assert run.diagnosis.trusted and run.diagnosis.prior == "known"
    x = run.draws["x"].numpy()[::2]
    assert stats.kstest(x, stats.gamma(4.0, scale=1 / 5).cdf).pvalue > 1e-5
    exact = math.log(2) + special.gammaln(4.0) - 4 * math.log(5) - special.gammaln(y + 1).sum()
    assert abs(run.diagnosis.log_evidence - exact) < 4.5 * run.diagnosis.log_evidence_error


def test_a_linear_gaussian_observation_of_a_prior_that_is_not_gaussian_is_no_closed_form():
    """x ~ Laplace(1, 2), y ~ N(x, 2²): by quadrature; 'exact' would be of the fitted Gaussian."""

    def model(y=None):
        x = pyro.sample("x", dist.Laplace(torch.tensor(1.0, dtype=DTYPE), 2.0))
        pyro.sample("y", dist.Normal(x, 2.0), obs=y)

    t = np.linspace(-12, 26, 380_001)
    w = np.exp(-abs(t - 1) / 2 - 0.5 * ((11 - t) / 2) ** 2)
    cdf = np.cumsum(w) / w.sum()
    run = fitted(model).condition(y=11.0).run(4_000, seed=2)
    assert run.diagnosis.trusted and run.diagnosis.prior == "known"
    x = run.draws["x"].numpy()[::2]
    assert stats.kstest(x, lambda v: np.interp(v, t, cdf)).pvalue > 1e-5
    gaussian = stats.norm(1 + 8 / 12 * 10, math.sqrt(8 * 4 / 12))
    assert stats.kstest(x, gaussian.cdf).pvalue < 1e-5


def test_a_gaussian_prior_keeps_the_closed_form():
    def model(y=None):
        x = pyro.sample("x", dist.Normal(torch.tensor(1.0, dtype=DTYPE), 2.0))
        pyro.sample("y", dist.Normal(x, 0.8), obs=y)

    guide = sp.ScoreGuide(model, net=None)
    sp.ScoreMatching(guide, draws=100_000).fit(steps=0, progress=False)
    diagnosis = guide.condition(y=4.5).run(100).diagnosis
    assert diagnosis.likelihood == "exact" and diagnosis.trusted
