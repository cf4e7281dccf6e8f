"""NUTS against exact posteriors.

Seed 4. Errors are held to 4 standard errors of the mean by the run's own effective sample size: one
false alarm in 15,000 for each number.
"""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import sdeppl as sp

MEAN = torch.tensor([1.0, -2.0], dtype=torch.float64)
COVARIANCE = torch.tensor([[2.0, 0.9], [0.9, 1.5]], dtype=torch.float64)
OPERATOR = torch.tensor([[1.0, 0.5], [0.0, 2.0], [1.0, -1.0]], dtype=torch.float64)
NOISE = 0.7


def model(y=None):
    x = pyro.sample("x", dist.MultivariateNormal(MEAN, COVARIANCE))
    pyro.sample("x_t", sp.Diffusion(sp.VPSDE(), x, [0.3, 0.8]))
    pyro.sample("y", dist.Normal(OPERATOR @ x, NOISE).to_event(1), obs=y)


def exact(y):
    """Mean and standard deviations by conditioning on what is not NaN."""
    seen = ~np.isnan(y)
    H, prior = OPERATOR.numpy()[seen], COVARIANCE.numpy()
    gain = prior @ H.T @ np.linalg.inv(H @ prior @ H.T + NOISE**2 * np.eye(seen.sum()))
    covariance = prior - gain @ H @ prior
    return MEAN.numpy() + gain @ (y[seen] - H @ MEAN.numpy()), np.sqrt(covariance.diagonal())


@pytest.mark.parametrize("y", [[2.0, -3.0, 1.0], [2.0, math.nan, 1.0]])
def test_nuts_samples_the_exact_posterior_and_leaves_out_nan(y):
    y = np.array(y)
    found = sp.reference.nuts(model, {"y": y}, draws=250, warmup=150, chains=2, seed=4, progress=False)
    mean, sd = exact(y)
    assert list(found.draws) == ["x"]
    assert found.draws["x"].shape == (500, 2)
    error = (found.draws["x"].mean(0).numpy() - mean) / sd
    assert (np.abs(error) < 4 / np.sqrt(found.ess["x"].numpy())).all()
    assert np.abs(found.draws["x"].std(0).numpy() / sd - 1).max() < 4 * math.sqrt(0.5 / found.worst_ess)
    assert found.worst_r_hat < 1.05
    assert 100 < found.worst_ess < 1_500
    assert found.seconds > found.warmup_seconds > 0


@pytest.mark.slow  # tests/distributions/test_path_reparam.py has the density of the noise
def test_wiener_reparam_has_the_same_posterior():
    def path_model(y=None):
        start = dist.Normal(torch.tensor(3.0, dtype=torch.float64), 2.0)
        x = pyro.sample("x", sp.SDEPath(sp.LinearSDE(a=0.4, b=1.2), start, [0.0, 0.5, 2.0]))
        pyro.sample("y", dist.Normal(x[..., -1], 0.5), obs=y)

    found = sp.reference.nuts(
        path_model,
        {"y": torch.tensor(0.7, dtype=torch.float64)},
        draws=400,
        warmup=200,
        chains=2,
        seed=4,
        progress=False,
        reparam={"x": sp.WienerReparam()},
    )
    times = np.array([0.0, 0.5, 2.0])
    mean = 3 * np.exp(-0.4 * times)
    start, stationary = 4.0, 1.2**2 / 0.8
    both = np.add.outer(times, times)
    apart = np.abs(np.subtract.outer(times, times))
    prior = start * np.exp(-0.4 * both) + stationary * (np.exp(-0.4 * apart) - np.exp(-0.4 * both))
    gain = prior[:, 2] / (prior[2, 2] + 0.25)
    sd = np.sqrt((prior - np.outer(gain, prior[2])).diagonal())
    draws = found.draws["x"].numpy()
    error = (draws.mean(0) - mean - gain * (0.7 - mean[2])) / sd
    assert draws.shape == (800, 3)
    assert (np.abs(error) < 4 / np.sqrt(found.ess["x"].numpy())).all()
    assert np.abs(draws.std(0) / sd - 1).max() < 4 * math.sqrt(0.5 / found.worst_ess)


def test_the_same_seed_gives_the_same_chain_and_leaves_torch_alone():
    y = np.array([2.0, -3.0, 1.0])
    torch.manual_seed(11)
    expected = torch.randn(3)
    torch.manual_seed(11)
    one, other = (
        sp.reference.nuts(model, {"y": y}, draws=8, warmup=8, chains=1, seed=5, progress=False)
        for _ in range(2)
    )
    assert torch.equal(one.draws["x"], other.draws["x"])
    assert torch.equal(torch.randn(3), expected)


def test_chains_in_two_modes_are_reported():
    """A mixture that one chain cannot cross: chains from different modes have R-hat far above 1."""

    def far_apart(y=None):
        x = pyro.sample("x", dist.Normal(torch.tensor(0.0, dtype=torch.float64), 10.0))
        pyro.sample("y", dist.Normal(x * x, 1.0), obs=y)

    y = torch.tensor(64.0, dtype=torch.float64)
    with pytest.warns(sp.reference.ChainWarning, match="split R-hat up to"):
        sp.reference.nuts(far_apart, {"y": y}, draws=50, warmup=50, chains=4, seed=1, progress=False)


def test_wrong_use_is_named():
    with pytest.raises(sp.ModelError, match="no site 'z'"):
        sp.reference.nuts(model, {"z": 1.0}, progress=False)
    with pytest.raises(sp.ModelError, match=r"site 'y': the data have shape \(2,\), the model \(3,\)"):
        sp.reference.nuts(model, {"y": torch.zeros(2)}, progress=False)

    def discrete(y=None):
        k = pyro.sample("k", dist.Poisson(2.0))
        pyro.sample("y", dist.Normal(k, 1.0), obs=y)

    with pytest.raises(sp.ModelError, match="latent site 'k' is discrete"):
        sp.reference.nuts(discrete, {"y": torch.tensor(1.0)}, progress=False)


def test_a_mixture_as_the_prior_against_quadrature():
    """Pyro alone has no bijection for a mixture's support."""
    weights = torch.tensor([0.3, 0.7], dtype=torch.float64)
    means, sds = torch.tensor([[-1.0, 1.5], [0.8, 1.2]], dtype=torch.float64)

    def mixture(y=None):
        components = dist.Normal(means, sds)
        x = pyro.sample("x", dist.MixtureSameFamily(dist.Categorical(weights), components))
        pyro.sample("y", dist.Normal(x, 0.9), obs=y)

    found = sp.reference.nuts(
        mixture, {"y": torch.tensor(0.4)}, draws=400, warmup=150, chains=2, seed=4, progress=False
    )
    grid = torch.linspace(-8, 8, 20_001, dtype=torch.float64)
    log_joint = torch.logsumexp(dist.Normal(means, sds).log_prob(grid[:, None]) + weights.log(), -1)
    density = torch.softmax(log_joint + dist.Normal(grid, 0.9).log_prob(torch.tensor(0.4)), 0)
    mean = float((density * grid).sum())
    sd = math.sqrt(float((density * (grid - mean) ** 2).sum()))
    draws = found.draws["x"]
    assert draws.shape == (800,)
    assert abs(float(draws.mean()) - mean) < 4 * sd / math.sqrt(found.worst_ess)
    assert abs(float(draws.std()) / sd - 1) < 4 * math.sqrt(0.5 / found.worst_ess)
