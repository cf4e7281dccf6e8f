"""The densities of the sbibm tasks: normalised, those of their Pyro models, and of known evidence."""

import importlib
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from pyro import poutine
from scipy import stats

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
COUNTS = {
    "gaussian_linear": 10,
    "gaussian_linear_uniform": 10,
    "gaussian_mixture": 2,
    "two_moons": 2,
    "slcp": 8,
    "bernoulli_glm": 100,
}


@pytest.fixture(autouse=True)
def folder(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def simulated(task, theta):
    """y (count,) from the task's Pyro model at θ."""
    model = importlib.import_module("sbibm_models").pyro_model(task)
    fixed = poutine.condition(model, {"theta": torch.as_tensor(theta)})
    return poutine.trace(fixed).get_trace().nodes["y"]["value"].reshape(-1).numpy()


@pytest.mark.parametrize("name", COUNTS)
def test_densities_are_those_of_the_pyro_models(name):
    """On both libraries, prior and likelihood, to rounding."""
    models = importlib.import_module("sbibm_models")
    task = importlib.import_module("sbibm_tasks").TASKS[name]
    theta = task.prior_draws(5, np.random.default_rng(3))
    for row in theta:
        y = simulated(task, row)
        assert y.shape == (COUNTS[name],)
        fixed = poutine.condition(models.pyro_model(task), {"theta": torch.as_tensor(row)})
        nodes = poutine.trace(fixed).get_trace(models.data(task, y))
        nodes.compute_log_prob()
        expected = float(nodes.nodes["y"]["log_prob_sum"])
        assert task.log_likelihood(row[None, :], y)[0] == pytest.approx(expected, rel=1e-9)
        on_torch = task.log_likelihood(torch.as_tensor(row[None, :]), torch.as_tensor(y))
        assert float(on_torch[0]) == pytest.approx(expected, rel=1e-9)
        prior = float(nodes.nodes["theta"]["log_prob_sum"])
        assert task.log_prior(row[None, :])[0] == pytest.approx(prior, rel=1e-9)


@pytest.mark.parametrize(("name", "theta"), [("gaussian_mixture", (3.0, -1.0)), ("two_moons", (0.3, -0.6))])
def test_likelihoods_in_two_dimensions_integrate_to_one(name, theta):
    """By sums over a grid of 1,500², which is exact for smooth densities; two_moons' ends are edges."""
    task = importlib.import_module("sbibm_tasks").TASKS[name]
    width = 8.0 if name == "gaussian_mixture" else 0.3
    centre = np.median([simulated(task, np.array(theta)) for _ in range(50)], axis=0)
    axis = np.linspace(-width, width, 1501)
    step, total = axis[1] - axis[0], 0.0
    for first in axis:
        y = np.stack([np.full_like(axis, first), axis], axis=-1) + centre
        total += np.exp(task.log_likelihood(np.array([theta]), y)).sum() * step**2
    assert total == pytest.approx(1.0, abs=1e-6 if name == "gaussian_mixture" else 3e-3)


def test_slcp_is_a_normal_of_four_points():
    task = importlib.import_module("sbibm_tasks").TASKS["slcp"]
    theta = task.prior_draws(1, np.random.default_rng(4))[0]
    y = simulated(task, theta)
    s, q, correlation = theta[2] ** 2, theta[3] ** 2, math.tanh(theta[4])
    covariance = np.array([[s * s, correlation * s * q], [correlation * s * q, q * q]]) + 1e-6 * np.eye(2)
    expected = stats.multivariate_normal(theta[:2], covariance).logpdf(y.reshape(4, 2)).sum()
    assert task.log_likelihood(theta[None, :], y)[0] == pytest.approx(expected, rel=1e-9)


def test_prior_draws_have_the_priors_moments():
    """bernoulli_glm, 1e5 draws: entries of the covariance have standard errors ≤ .45% √(C_ii C_jj)."""
    task = importlib.import_module("sbibm_tasks").TASKS["bernoulli_glm"]
    draws, C = task.prior_draws(100_000, np.random.default_rng(0)), task.covariance()
    sd = np.sqrt(np.diag(C))
    assert np.all(np.abs(np.cov(draws.T) - C) < 5 * 0.0045 * np.outer(sd, sd))
    assert C[0, 0] == pytest.approx(2.0)


def test_importance_draws_have_the_exact_posterior():
    """gaussian_linear: the posterior is N(y/2, .05 I), the evidence N(y; 0, .2 I); 4 standard errors."""
    exact = importlib.import_module("sbibm_exact")
    task = importlib.import_module("sbibm_tasks").TASKS["gaussian_linear"]
    y = np.random.default_rng(8).normal(0.0, math.sqrt(0.2), 10)
    reference = np.random.default_rng(9).normal(y / 2, math.sqrt(0.05), (6_000, 10))
    found = exact.importance_draws(task, y, reference, draws=2_000, proposals=40_000)
    evidence = stats.norm(0.0, math.sqrt(0.2)).logpdf(y).sum()
    assert abs(found.log_evidence - evidence) < 4 * found.log_evidence_error < 0.05
    error = (found.draws.mean(axis=0) - y / 2) / math.sqrt(0.05 / 2_000)
    assert np.all(np.abs(error) < 4.5)
    assert np.all(np.abs(found.draws.std(axis=0) / math.sqrt(0.05) - 1) < 4.5 / math.sqrt(4_000))
    with pytest.raises(ValueError, match="use more proposals"):
        exact.importance_draws(task, y, reference, draws=2_000, proposals=2_000)
