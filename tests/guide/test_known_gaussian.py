"""A known density that is Gaussian: its closed form in place of moments of too few draws, in as many runs."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from site_models import Counted

import sdeppl as sp

D = torch.float64


def pairs(n):
    """z_i ~ N(.5, 1.5²), y_i ~ N(z_i, .7²)."""

    def model():
        for i in range(n):
            z = pyro.sample(f"z_{i}", dist.Normal(torch.tensor(0.5, dtype=D), 1.5))
            pyro.sample(f"y_{i}", dist.Normal(z, 0.7))

    return Counted(model)


def series(n):
    """x_t ~ N(.9 x_{t-1}, 1.2²) from .3, y_t ~ N(x_t, .5²)."""

    def model():
        x = torch.tensor(0.3, dtype=D)
        for i in range(n):
            x = pyro.sample(f"z_{i}", dist.Normal(0.9 * x, 1.2))
            pyro.sample(f"y_{i}", dist.Normal(x, 0.5))

    return Counted(model)


def moments(kind, n):
    """Mean and covariance of the latents, and the variance of the noise."""
    if kind is pairs:
        return np.full(n, 0.5), 1.5**2 * np.eye(n), 0.7**2
    L = 1.2 * np.tril(0.9 ** (np.arange(n)[:, None] - np.arange(n)).clip(0))
    return 0.3 * 0.9 ** np.arange(1, n + 1), L @ L.T, 0.5**2


def fitted(model, draws):
    guide = sp.ScoreGuide(model, net=None)
    return sp.ScoreMatching(guide, draws=draws).fit(steps=0, progress=False).guide


@pytest.mark.parametrize("kind", [pairs, series])
def test_few_draws_are_made_up_for_by_the_closed_form_of_the_density(kind):
    """Moments of 400 draws leave 40 numbers .16 standard deviations off; ln p(y) and the means are exact.

    Means at 4.5 standard errors of 4,000 draws (1e-5 each, of 40), variances at 2% (bias) + 10%."""
    n = 40
    guide = fitted(kind(n), 400)
    assert guide.fit_check.state == "do not trust"
    mean, C, noise = moments(kind, n)
    y = np.random.default_rng(3).normal(mean, 1.5)
    posterior = guide.condition({f"y_{i}": y[i] for i in range(n)})
    run = posterior.run(4_000, seed=1)
    S = C + noise * np.eye(n)
    gain = np.linalg.solve(S, C).T
    expected, covariance = mean + gain @ (y - mean), C - gain @ C
    evidence = -0.5 * (y - mean) @ np.linalg.solve(S, y - mean) - 0.5 * np.linalg.slogdet(2 * math.pi * S)[1]
    found = np.stack([np.asarray(run.draws[f"z_{i}"]) for i in range(n)], axis=1)
    sd = np.sqrt(np.diag(covariance))
    assert run.diagnosis.trusted and run.diagnosis.prior == "known" and run.diagnosis.likelihood == "exact"
    assert "own density is known" in str(run.diagnosis)
    assert abs(run.diagnosis.log_evidence - evidence) < 1e-8 * abs(evidence)
    assert np.abs((found.mean(0) - expected) / sd).max() < 4.5 / math.sqrt(4_000)
    assert np.abs(found.var(0) / sd**2 - 1).max() < 0.12


def test_draws_of_many_sites_take_as_many_runs_as_of_few():
    """Of fitting, conditioning and drawing, where moments are doubted and where they are not."""
    for draws in (500, 30_000):
        found = []
        for n in (5, 25):
            model, y = pairs(n), np.random.default_rng(n).normal(size=n)
            guide = fitted(model, draws)
            fit = model.runs
            posterior = guide.condition({f"y_{i}": y[i] for i in range(n)})
            posterior.sample(10)
            found.append((fit, model.runs - fit))
            assert posterior.run(10).diagnosis.trusted
        assert found[1][0] <= found[0][0] + 2  # the numbers of chunks may differ
        assert found[1][1] <= found[0][1] + 2


@pytest.mark.parametrize(
    "prior",
    [
        dist.StudentT(8.0, torch.tensor(0.5, dtype=D), 1.5),
        dist.Laplace(torch.tensor(0.5, dtype=D), 1.5),
        dist.MixtureSameFamily(
            dist.Categorical(torch.tensor([0.98, 0.02], dtype=D)),
            dist.Normal(torch.tensor([0.5, 0.5], dtype=D), torch.tensor([1.5, 6.0], dtype=D)),
        ),
    ],
    ids=["student", "laplace", "contaminated"],
)
def test_what_is_not_gaussian_is_not_taken_for_it(prior):
    def model():
        z = pyro.sample("z", prior)
        pyro.sample("y", dist.Normal(z, 0.7))

    posterior = fitted(model, 20_000).condition(y=1.0)
    assert not posterior.arrays.choice.known


def test_a_file_has_no_density_and_says_so(tmp_path):
    posterior = fitted(pairs(40), 400).condition({f"y_{i}": 1.0 for i in range(40)})
    with pytest.warns(UserWarning, match="draws in closed form from the learned prior"):
        posterior.save(tmp_path / "p.safetensors")
    with pytest.warns(sp.UntrustedWarning):
        assert not sp.load_posterior(tmp_path / "p.safetensors").run(10).diagnosis.trusted
