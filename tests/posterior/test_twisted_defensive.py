"""Twists that never fall far below what knowing nothing of x_0 gives."""

import importlib
import math
from pathlib import Path

import numpy as np
import pytest
from checks import array, assert_array, host

import sdeppl as sp
from sdeppl.posterior.twisted import DefensiveTwist

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_the_floor_is_a_tenth_of_the_predictive_density(backend):
    """Of a Gaussian prior N(m, C) and y = H x_0 + noise: a tenth of N(y; H m, H C Hᵀ + R), up to what is
    left of x_0 in x_T; guidance stays as it is."""
    m, C, sd, y = np.array([1.0, -2.0]), np.array([[2.0, 0.3], [0.3, 0.5]]), 0.4, np.array([3.0])
    H = np.array([[1.0, -0.5]])
    sde = sp.VPSDE(sp.LinearSchedule(0.1, 30.0))
    prior = sp.GaussianDenoiser(sde, array(m, backend), array(C, backend))
    seen = sp.LinearGaussian(array(H, backend), array(y, backend), sd**2)
    twist = sp.likelihood.TweedieDenoiser(prior, seen)
    at_end = array(sde.alpha(1.0) * m, backend)
    defence = DefensiveTwist.of(twist, at_end)
    S = float((H @ C @ H.T)[0, 0]) + sd**2
    floor = math.log(0.1) - 0.5 * math.log(2 * math.pi * S) - 0.5 * float((y - H @ m)[0]) ** 2 / S
    assert_array(defence.log_floor, np.array([floor]), backend, 1e-4)
    x = array(np.array([[0.9, -1.5], [1.9, -2.4], [-30.0, 40.0]]), backend)
    guided = twist.guided(x, 0.1)
    found = defence(guided)
    expected = np.logaddexp(host(guided.log_likelihood), floor)
    assert_array(found.log_likelihood, expected, backend, 1e-4)
    assert float(host(guided.log_likelihood)[2]) < floor - 100  # so the floor is what counts in this row
    assert found.mean is guided.mean and found.prior is guided.prior


@pytest.mark.slow
def test_the_evidence_where_one_gaussian_is_far_too_narrow(monkeypatch):
    """25 modes in 8 numbers, 4 seen. Without a floor ln p(y) comes out .05 nats low with standard errors of
    .018, as few particles pass where l is e³⁵ times too small. False alarm 1e-3 for another set of seeds."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    problems, ours = importlib.import_module("mixture_problems"), importlib.import_module("mixture_ours")
    problem, numpy = problems.make((8, 4), 14), sp.resolve("numpy")
    seen = ours.observation(problem, numpy)
    exact = sp.Posterior(ours.known(problem, numpy), seen).run(10).diagnosis.log_evidence
    posterior = sp.Posterior(
        ours.mean_and_covariance(problem, numpy), seen, correction=sp.TwistedSMC(kept=17)
    )
    found = [posterior.run(1000, seed=seed).diagnosis for seed in range(6)]
    errors = np.array([f.log_evidence - exact for f in found])
    stated = np.array([f.log_evidence_error for f in found])
    assert np.abs(errors).max() < 0.1
    assert abs(errors.mean()) < 3.3 * math.sqrt(np.mean(stated**2) / len(found))
    assert abs(errors.mean()) < 0.05


def test_a_doubt_that_nothing_mends_is_no_reason_to_solve_again(monkeypatch):
    """Of a prior without a density: larger runs have the same doubt."""
    wider = []
    monkeypatch.setattr(sp.TwistedSMC, "wider", lambda *_: wider.append(1))
    rng = np.random.default_rng(0)
    slopes = rng.normal(size=(20, 20))

    def function(x):
        eta = x @ slopes.T
        return eta + 0.01 * eta**2, (1 + 0.02 * eta)[..., None] * slopes

    seen = sp.NonlinearGaussian(function, 20, rng.normal(size=20), 3.0)
    prior = sp.GaussianDenoiser(sp.VPSDE(), np.zeros(20), np.eye(20))
    found = sp.Posterior(prior, seen, doubt="it was learned from few draws").run(50).diagnosis
    assert found.trusted and found.correction == "twisted SMC" and not wider
