"""References where the prior is zero outside bounds that torch does not state, or that move with the latents.

Truth by quadrature. Bars of .06 posterior standard deviations in the mean and 8% in the sd; the chains give
over 2,000 effective draws, whose own errors are .022 and 1.6%.
"""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions.transforms import AffineTransform, ExpTransform

import sdeppl as sp

D = torch.float64
SHORT = {"draws": 60, "warmup": 100, "chains": 128, "seed": 3, "progress": False}


def t(*numbers):
    return torch.tensor(numbers[0] if len(numbers) == 1 else numbers, dtype=D)


def of(base, *parts):
    return dist.TransformedDistribution(base, list(parts))


def moments(log_p, low, high):
    x = np.linspace(low, high, 400_001)[1:-1]
    log_w = log_p(x)
    w = np.exp(log_w - log_w.max())
    w /= w.sum()
    mean = (w * x).sum()
    return mean, np.sqrt((w * (x - mean) ** 2).sum())


PRIORS = {
    "shifted exponential": (
        lambda: of(dist.Exponential(t(1.0)), AffineTransform(2.0, 1.0)),
        lambda x: 2 - x,
        2,
        20,
    ),
    "below one": (
        lambda: of(dist.HalfNormal(t(2.0)), AffineTransform(2.5, -1.0)),
        lambda x: -((2.5 - x) ** 2) / 8,
        -20,
        2.5,
    ),
    "log-uniform": (
        lambda: of(dist.Uniform(t(0.4), 2.0), ExpTransform()),
        lambda x: -np.log(x),
        np.exp(0.4),
        np.exp(2.0),
    ),
    "one turn": (lambda: dist.VonMises(t(3.0), 1.0), lambda x: np.cos(x - 3), -np.pi, np.pi),
}


@pytest.mark.parametrize("name", PRIORS)
def test_hmc_stays_where_the_prior_is(name):
    prior, log_prior, low, high = PRIORS[name]

    def model(y=None):
        x = pyro.sample("x", prior())
        pyro.sample("y", dist.Normal(x, 0.8), obs=y)

    mean, sd = moments(lambda x: log_prior(x) - 0.5 * ((1.8 - x) / 0.8) ** 2, low, high)
    found = sp.reference.hmc(model, {"y": t(1.8)}, **SHORT)
    x = found.draws["x"].reshape(-1)
    assert low <= float(x.min()) and float(x.max()) <= high
    assert abs(float(x.mean()) - mean) < 0.06 * sd
    assert abs(float(x.std()) / sd - 1) < 0.08


def onset(y=None):
    """The data lie above the latent; without bounds their density would draw it upwards without end."""
    x = pyro.sample("x", dist.Normal(t(1.0), 1.0))
    with pyro.plate("rows", 3):
        pyro.sample("y", of(dist.Exponential(t(1.0)).expand([3]), AffineTransform(x, 1.0)), obs=y)


def pareto(y=None):
    x = pyro.sample("x", dist.Gamma(t(2.0), 1.0))
    with pyro.plate("rows", 3):
        pyro.sample("y", dist.Pareto(x, t(3.0)), obs=y)


LATE = {
    onset: moments(lambda x: -0.5 * (x - 1) ** 2 + 3 * x, -6, 1.8),
    pareto: moments(lambda x: np.log(x) - x + 9 * np.log(x), 0, 1.8),
}


@pytest.mark.filterwarnings("ignore::sdeppl.reference.ChainWarning")
@pytest.mark.parametrize("model", LATE)
def test_data_bound_the_latent(model):
    """The posterior ends at the least of the data; a sampler may say that it does not like that edge."""
    mean, sd = LATE[model]
    data = {"y": t(1.8, 2.5, 3.0)}
    x = sp.reference.hmc(model, data, **SHORT).draws["x"].reshape(-1)
    assert float(x.max()) <= 1.8
    assert abs(float(x.mean()) - mean) < 0.1 * sd
    nuts = sp.reference.nuts(model, data, draws=30, warmup=30, chains=1, progress=False, seed=1)
    assert float(nuts.draws["x"].max()) <= 1.8


@pytest.mark.filterwarnings("ignore::sdeppl.UntrustedWarning")
@pytest.mark.parametrize("model", LATE)
def test_guide_keeps_to_the_bound_that_data_set(model):
    """With the prior fitted as a Gaussian alone: no draw is above the least of the data."""
    guide = sp.ScoreGuide(model)
    sp.ScoreMatching(guide, draws=5_000).fit(steps=0, progress=False)
    run = guide.condition(y=t(1.8, 2.5, 3.0), steps=30).run(100)
    assert float(run.draws["x"].max()) <= 1.8
    mean, sd = LATE[model]
    assert abs(float(run.draws["x"].mean()) - mean) < 0.5 * sd  # 100 draws, and a Gaussian for a Gamma
