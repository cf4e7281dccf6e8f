"""The guide where the model's density is known: against quadrature, across parametrisations, and refusals."""

import math
import warnings

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

import sdeppl as sp

D = torch.float64
N = 1_000


def t(value):
    return torch.as_tensor(value, dtype=D)


def fitted(model, **options):
    """The Gaussian part alone, which is not these priors, and says so."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sp.ScoreGuide(model, **options).fit_gaussian(4_000, progress=False)


def moments_on_a_grid(log_density, *axes):
    """Means and standard deviations of two numbers by their joint density on a grid."""
    grids = np.meshgrid(*axes, indexing="ij")
    logs = log_density(*grids)
    weights = np.exp(logs - logs.max())
    weights /= weights.sum()
    means = [float((weights * g).sum()) for g in grids]
    return [(m, math.sqrt(float((weights * (g - m) ** 2).sum()))) for m, g in zip(means, grids, strict=True)]


def agrees(run, truth, draws=N):
    """Means within 5 standard errors of as many independent draws as they are worth, deviations alike."""
    size = draws * run.diagnosis.ess
    for name, (mean, sd) in truth.items():
        found = np.asarray(run.draws[name], dtype=float)
        assert abs(found.mean() - mean) < 5 * sd / math.sqrt(size), name
        assert abs(found.std() / sd - 1) < 5 * math.sqrt(1.5 / size), name


Y = np.random.default_rng(0).normal(1.4, 0.8, 40)


def noisy(y=None):
    m = pyro.sample("m", dist.Normal(t(0.0), 3.0))
    s = pyro.sample("s", dist.HalfCauchy(t(2.0)))
    with pyro.plate("n", 40):
        pyro.sample("y", dist.Normal(m, s), obs=y)


@pytest.mark.parametrize("backend", ["torch", "numpy"])
def test_a_normal_of_unknown_mean_and_width_against_quadrature(backend):
    run = fitted(noisy).condition(y=Y, backend=backend).run(N, seed=2)
    found = run.diagnosis
    assert found.trusted and found.prior == "known" and "the prior's own density is known" in found.why
    assert "reference.hmc makes the same moves" in found.text

    def log_density(m, s):
        likelihood = -40 * np.log(s) - ((Y[:, None, None] - m) ** 2).sum(0) / (2 * s**2)
        return likelihood + stats.norm(0, 3).logpdf(m) + stats.halfcauchy(0, 2).logpdf(s)

    axes = np.linspace(0.3, 2.6, 401), np.linspace(0.3, 2.0, 401)
    agrees(run, dict(zip(("m", "s"), moments_on_a_grid(log_density, *axes), strict=True)))
    logs = log_density(*np.meshgrid(*axes, indexing="ij")) - 20 * math.log(2 * math.pi)
    evidence = logs.max() + math.log(np.exp(logs - logs.max()).sum() * np.prod([a[1] - a[0] for a in axes]))
    assert found.log_evidence_error < 0.02
    assert abs(found.log_evidence - evidence) < 5 * found.log_evidence_error
    assert type(run.draws["m"]).__module__.split(".")[0] == backend


def funnel(centred):
    """Three groups that say little: a funnel where they are centred."""
    sd, y = t([1.0, 1.5, 2.0]), t([0.5, -1.0, 2.0])

    def model():
        tau = pyro.sample("tau", dist.HalfNormal(t(3.0)))
        with pyro.plate("groups", 3):
            if centred:
                a = pyro.sample("a", dist.Normal(t(0.0), tau))
            else:
                a = tau * pyro.sample("e", dist.Normal(t(0.0), 1.0))
            pyro.sample("y", dist.Normal(a, sd), obs=y)

    return model, sd.numpy(), y.numpy()


@pytest.mark.parametrize("centred", [True, False])
def test_a_funnel_is_drawn_in_either_parametrisation(centred):
    """p(tau given y) and p(y) by quadrature, the groups integrated out."""
    model, sd, y = funnel(centred)
    run = fitted(model).condition(correction=sp.HamiltonianMC()).run(N, seed=1)
    assert run.diagnosis.trusted, run.diagnosis.text
    if centred:
        assert "['a'] less their locations" in run.diagnosis.text
    tau = np.linspace(0, 20, 20_001)
    likelihood = stats.norm(0, np.sqrt(sd**2 + tau[:, None] ** 2)).pdf(y).prod(axis=1)
    weights = stats.halfnorm(0, 3).pdf(tau) * likelihood
    evidence = math.log(weights.sum() * tau[1])
    assert abs(run.diagnosis.log_evidence - evidence) < 5 * run.diagnosis.log_evidence_error < 0.1
    weights /= weights.sum()
    mean = weights @ tau
    agrees(run, {"tau": (mean, math.sqrt(weights @ (tau - mean) ** 2))})
    small = float((np.asarray(run.draws["tau"]) < 0.3).mean())
    share = weights[tau < 0.3].sum()
    assert abs(small - share) < 5 * math.sqrt(share * (1 - share) / (N * run.diagnosis.ess))


def test_two_modes_far_apart_are_not_trusted():
    def model(y=None):
        x = pyro.sample("x", dist.Normal(t([1.0, 0.0]), 2.0).to_event(1))
        pyro.sample("y", dist.Normal(x[0] ** 2, 0.2), obs=y)

    posterior = fitted(model).condition(y=9.0, correction=sp.HamiltonianMC(warmup=60, max_steps=20))
    with pytest.warns(sp.UntrustedWarning, match="R-hat"):
        assert not posterior.run(100).diagnosis.trusted


def test_modes_of_few_numbers_fall_to_tempering():
    """x of a prior that no Gaussian is, |x| near 1 by the data: P(x > 0 given y) by quadrature; seed 5."""

    def model(y=None):
        x = pyro.sample("x", dist.Gumbel(t(0.5), 1.0))
        with pyro.plate("n", 20):
            pyro.sample("y", dist.Normal(4 * x**2, 1.0), obs=y)

    y = np.random.default_rng(5).normal(4.0, 1.0, 20)
    run = fitted(model).condition(y=y).run(N, seed=5)
    assert run.diagnosis.trusted and run.diagnosis.correction == "tempered SMC"
    assert "its moves were not to be trusted" in run.diagnosis.why
    x = np.linspace(-2, 2, 40_001)
    logs = stats.gumbel_r(0.5, 1.0).logpdf(x) + stats.norm(4 * x[:, None] ** 2, 1.0).logpdf(y).sum(axis=1)
    weights = np.exp(logs - logs.max())
    share = weights[x > 0].sum() / weights.sum()
    positive = float((np.asarray(run.draws["x"]) > 0).mean())
    assert abs(positive - share) < 5 * math.sqrt(share * (1 - share) / (N * run.diagnosis.ess))


@pytest.mark.parametrize(
    ("observe", "reason"),
    [
        (lambda x: dist.Delta(x.sum()), "hard constraint"),
        (lambda x: dist.Normal(torch.round(x).sum(), 0.5), "no derivative"),
        (lambda x: dist.Normal(float(x.sum()), 0.5), "no derivative"),
    ],
)
def test_what_chains_cannot_follow_is_refused_in_words(observe, reason):
    def model(y=None):
        x = pyro.sample("x", dist.Gamma(t([2.0, 3.0]), 1.0).to_event(1))
        pyro.sample("y", observe(x.log()), obs=y)

    guide = fitted(model, latents=["x"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match=f"HamiltonianMC needs.*{reason}"):
            guide.condition(y=1.0, correction=sp.HamiltonianMC())
        assert guide.condition(y=1.0).arrays.choice.hamiltonian is None
