"""Tempering on the known density: exact for the model's own prior, whatever was learned of it."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from checks import array
from scipy import integrate

import sdeppl as sp
from sdeppl.backend import to_host
from sdeppl.mcmc import State

SDE = sp.VPSDE()
MEAN, SD = 0.3, 0.8  # of the Gaussian that stands for the prior
WIDTH = 0.3


@dataclass
class Joint:
    """x_0 of one number: ln p(x_0) + ln p(y given x_0) by a function of xp."""

    backend: Any
    function: Any
    why_not: str = "its values alone are wanted"
    why_no_values: str = ""
    count: int = 1
    coordinates: str = ""
    others: tuple = ()

    def base(self, sde):
        return sp.GaussianDenoiser(sde, array([MEAN], self.backend), array([[SD**2]], self.backend))

    def log_prob(self, x):
        return self.function(x[:, 0], self.backend.xp)

    def recorded_log_prob(self, x):
        return self.log_prob

    def points(self, x):
        return x

    def __call__(self, x) -> State:
        raise AssertionError("a gradient was asked for")

    gradient = recorded = start = __call__


def skewed(x, xp):
    """A Gumbel prior, seen through y = 0.9 = x² + N(0, WIDTH²): two modes of unequal weight."""
    prior = -x - xp.exp(-x)
    return prior - 0.5 * ((0.9 - x * x) / WIDTH) ** 2 - math.log(WIDTH * math.sqrt(2 * math.pi))


@pytest.fixture(scope="module")
def exact():
    """p(y), and P(x > 0), E x, E x² given y, by quadrature."""

    def moment(f):
        return integrate.quad(lambda x: f(x) * math.exp(float(skewed(x, np))), -4, 6, limit=400)[0]

    total = moment(lambda x: 1.0)
    return total, *(moment(f) / total for f in (lambda x: float(x > 0), lambda x: x, lambda x: x * x))


def posterior_of(backend, **known):
    """Of the Gaussian that stands for the prior, and the same observation."""
    like = array([0.0], backend)
    observation = sp.DensityObservation(lambda x: -0.5 * ((0.9 - x[:, 0] ** 2) / WIDTH) ** 2, 1, like)
    prior = sp.GaussianDenoiser(SDE, array([MEAN], backend), array([[SD**2]], backend))
    return sp.Posterior(prior, observation, **known)


def test_draws_and_evidence_are_those_of_the_known_prior(precise, exact):
    """2,000 draws worth 1,000: false alarm 1 in 10⁵ at 4.5 standard errors for each figure."""
    posterior = posterior_of(precise, density=Joint(precise, skewed), doubt="it was not checked")
    run = posterior.run(2_000, seed=3)
    assert run.diagnosis.trusted
    assert (run.diagnosis.prior, run.diagnosis.likelihood) == ("known", "density")
    x = np.asarray(to_host(run.draws))[:, 0]
    for found, want, sd in (
        (np.mean(x > 0), exact[1], math.sqrt(exact[1] * (1 - exact[1]))),
        (np.mean(x), exact[2], math.sqrt(exact[3] - exact[2] ** 2)),
        (np.mean(x * x), exact[3], float(np.std(x * x))),
    ):
        assert abs(found - want) < 4.5 * sd / math.sqrt(1_000)
    error = run.diagnosis.log_evidence - math.log(exact[0])
    assert abs(error) < 4.5 * run.diagnosis.log_evidence_error
    assert run.diagnosis.log_evidence_error < 0.05


def test_without_doubt_a_gaussian_prior_stays_as_it_was_given(precise):
    """Then its density is the base's, and the observation alone counts."""
    kept = posterior_of(precise, density=Joint(precise, skewed)).run(100)
    plain = posterior_of(precise).run(100)
    assert kept.diagnosis.prior == "learned"
    assert np.array_equal(np.asarray(to_host(kept.draws)), np.asarray(to_host(plain.draws)))


def test_log_prob_of_a_gaussian(backend):
    """ln N(x; m, C) of a correlated covariance, as NumPy has it."""
    m, C = np.array([1.0, -2.0]), np.array([[2.0, 0.6], [0.6, 0.5]])
    x = np.array([[0.3, -1.0], [4.0, 0.0], [1.0, -2.0]])
    r = x - m
    want = -0.5 * (np.einsum("ni,ij,nj->n", r, np.linalg.inv(C), r) + np.log(np.linalg.det(C))) - math.log(
        2 * math.pi
    )
    prior = sp.GaussianDenoiser(SDE, array(m, backend), array(C, backend))
    assert np.allclose(np.asarray(to_host(prior.log_prob(array(x, backend)))), want, rtol=1e-4)
