"""Masks on latents: harmless, refused, or gaps that are drawn where they are observed."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.distributions import constraints

import sdeppl as sp
from sdeppl.tracing import imputed

D = torch.float64
DRAWS = 4_000
SEEN = torch.tensor([4.8, 5.3, 5.1, 4.7], dtype=D)


def number(value):
    return torch.tensor(value, dtype=D)


def fitted(model, draws=50_000, **arguments):
    return sp.ScoreGuide(model, net=None, **arguments).fit_gaussian(draws, progress=False)


def check(draws, mean, sd):
    """50,000 prior draws know the prior to 1 in 200, and a wide one does not matter."""
    draws, error = np.asarray(draws, dtype=np.float64), 5 / math.sqrt(DRAWS) + 0.01
    assert np.all(np.abs(draws.mean(axis=0) - mean) < error * np.asarray(sd))
    assert np.all(np.abs(draws.std(axis=0) / sd - 1) < error)


def flat_prior(y=None):
    with poutine.mask(mask=False):
        x = pyro.sample("x", dist.Normal(number(3.0), 1.0))
    pyro.sample("y", dist.Normal(x, 1.0), obs=y)


def flat_by_itself(y=None):
    x = pyro.sample("x", dist.Normal(number(3.0), 1.0).mask(False))
    pyro.sample("y", dist.Normal(x, 1.0), obs=y)


def flat_in_part(y=None):
    keep = torch.tensor([True, False, True])
    with pyro.plate("n", 3), poutine.mask(mask=keep):
        x = pyro.sample("x", dist.Normal(number(3.0), 1.0))
    pyro.sample("y", dist.Normal(x.sum(), 1.0), obs=y)


def flat_above(y=None):
    """No data touch the masked latent, but another latent does."""
    mu = pyro.sample("mu", dist.Normal(number(3.0), 1.0).mask(False))
    x = pyro.sample("x", dist.Normal(mu, 2.0))
    pyro.sample("y", dist.Normal(x, 1.0), obs=y)


@pytest.mark.parametrize(
    ("model", "latent", "touched"),
    [
        (flat_prior, "x", "y"),
        (flat_by_itself, "x", "y"),
        (flat_in_part, "x", "y"),
        (flat_above, "mu", "x"),
    ],
)
def test_a_mask_that_matters_is_refused(model, latent, touched):
    with pytest.raises(sp.ModelError, match=f"latent site '{latent}' is masked.* site '{touched}' depends"):
        fitted(model).condition(y=0.5)


def test_a_mask_that_takes_a_padded_group_and_its_data_out_together():
    """Groups of 3, 2 and no rows, padded to 3 groups of 3; theta of the last is masked with its data."""
    rows = torch.tensor([[True] * 3, [True, True, False], [False] * 3])
    y = torch.tensor([[1.0, 2.0, 1.5], [-1.0, 0.5, 9.0], [9.0, 9.0, 9.0]], dtype=D)

    def model(y=None):
        mu = pyro.sample("mu", dist.Normal(number(0.5), 2.0))
        with pyro.plate("groups", 3, dim=-2):
            with poutine.mask(mask=rows.any(dim=1, keepdim=True)):
                theta = pyro.sample("theta", dist.Normal(mu, 1.5))
            with pyro.plate("rows", 3, dim=-1), poutine.mask(mask=rows):
                pyro.sample("y", dist.Normal(theta, 0.7), obs=y)

    run = fitted(model).condition(y=y, backend="numpy").run(DRAWS)
    assert run.diagnosis.text.startswith("exact")
    means, variances = np.array([1.5, -0.25]), 1.5**2 + 0.49 / np.array([3, 2])
    precision = 1 / 4 + (1 / variances).sum()
    mean = (0.5 / 4 + (means / variances).sum()) / precision
    check(run.draws["mu"], mean, precision**-0.5)
    # of what is masked the prior's draws remain, which say nothing of the others
    check(run.draws["theta"][:, 2, 0], mean, math.sqrt(1 / precision + 1.5**2))


def at_the_end():
    mu = pyro.sample("mu", dist.Normal(number(0.0), 10.0))
    gaps = pyro.sample("gaps", dist.Normal(torch.zeros(4, dtype=D), 1.0).to_event(1).mask(False))
    pyro.sample("y", dist.Normal(mu, 1.0).expand([8]).to_event(1), obs=torch.cat([gaps, SEEN], -1))


def in_place():
    mu = pyro.sample("mu", dist.Normal(number(0.0), 10.0))
    with pyro.plate("missing", 2), poutine.mask(mask=False):
        gaps = pyro.sample("gaps", dist.Normal(mu, 1.0))
    values = torch.zeros(6, dtype=D)
    values[[0, 2, 3, 5]] = SEEN
    values[[4, 1]] = gaps
    with pyro.plate("rows", 6):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=values)


def without_draws():
    mu = pyro.sample("mu", dist.Normal(number(0.0), 10.0))
    gaps = pyro.sample("gaps", dist.ImproperUniform(constraints.real, (), (3,))).to(D)
    pyro.sample("y", dist.Normal(mu, 1.0).expand([7]).to_event(1), obs=torch.cat([gaps, SEEN], -1))


@pytest.mark.filterwarnings("ignore::sdeppl.tracing.SlowDrawsWarning")
@pytest.mark.parametrize("model", [at_the_end, pytest.param(in_place, marks=pytest.mark.slow), without_draws])
def test_gaps_of_no_prior_are_as_if_they_had_not_been_observed(model):
    """mu's posterior is that of the seen numbers; each gap is a new draw of y given them."""
    # torch.func.vmap cannot assign in place: one run for each draw
    run = fitted(model, 5_000 if model is in_place else 50_000).condition(backend="numpy").run(DRAWS)
    assert run.diagnosis.text.startswith("exact")
    mean, variance = float(SEEN.sum()) / 4.01, 1 / 4.01
    check(run.draws["mu"], mean, math.sqrt(variance))
    check(run.draws["gaps"], mean, math.sqrt(1 + variance))
    covariance = np.cov(run.draws["mu"], run.draws["gaps"][:, 0])[0, 1]
    assert abs(covariance - variance) < 6 * math.sqrt(variance * (1 + 2 * variance) / DRAWS)


def test_the_references_agree_on_gaps():
    found = sp.reference.exact(at_the_end, {})
    mean, variance = float(SEEN.sum()) / 4.01, 1 / 4.01
    np.testing.assert_allclose(found.moments["mu"].mean, mean, rtol=1e-9)
    np.testing.assert_allclose(found.moments["gaps"].sd, math.sqrt(1 + variance), rtol=1e-9)


def test_an_imputed_covariate():
    """Ages with gaps explain another site: a regression on imputed numbers, by the exact reference."""
    ages, income = SEEN - 4.5, torch.tensor([1.0, 2.1, 0.4, -0.3, 0.9, 1.6], dtype=D)

    def model(income=income):
        mu = pyro.sample("mu", dist.Normal(number(0.2), 1.0))
        with pyro.plate("missing", 2):
            gaps = pyro.sample("gaps", dist.Normal(mu, 0.4).mask(False))
        alpha = pyro.sample("alpha", dist.Normal(number(0.0), 1.5))
        age = torch.cat([ages, gaps])
        with pyro.plate("people", 6):
            age = pyro.sample("age", dist.Normal(mu, 0.6), obs=age)
            pyro.sample("income", dist.Normal(alpha + 2.0 * age, 0.8), obs=income)

    guide = fitted(model)
    assert guide.moving == ("age",)
    run, found = guide.condition(backend="numpy").run(DRAWS), sp.reference.exact(model, {})
    assert run.diagnosis.text.startswith("exact")
    for site in ("mu", "alpha", "gaps"):
        check(run.draws[site], found.moments[site].mean.numpy(), found.moments[site].sd.numpy())
    # other gaps, of as many numbers, are read anew
    other = torch.flip(income, (0,))
    run = guide.condition(kwargs={"income": other}, backend="numpy").run(DRAWS)
    found = sp.reference.exact(model, {}, kwargs={"income": other})
    check(run.draws["alpha"], float(found.moments["alpha"].mean), float(found.moments["alpha"].sd))


def test_the_joint_density_stays_what_it_was():
    """Of values of all latents, whatever the distribution: positive numbers, noise of another latent."""

    def model():
        scale = pyro.sample("scale", dist.LogNormal(number(0.3), 0.4))
        gaps = pyro.sample("gaps", dist.Gamma(number(2.0), 1.0).expand([2]).to_event(1).mask(False))
        y = torch.cat([SEEN[:2], gaps, SEEN[2:]])
        pyro.sample("y", dist.Gamma(number(3.0), scale.reciprocal()).expand([6]).to_event(1), obs=y)

    values = {"scale": number(1.7), "gaps": torch.tensor([0.4, 2.2], dtype=D)}
    densities = [
        poutine.trace(poutine.condition(m, data=values)).get_trace().log_prob_sum()
        for m in (model, imputed(model, (), {}))
    ]
    assert imputed(model, (), {}) is not model
    torch.testing.assert_close(*densities)


def lagged():
    """The source's own mean depends on the gaps."""
    gaps = pyro.sample("gaps", dist.Normal(torch.zeros(2, dtype=D), 1.0).to_event(1).mask(False))
    y = torch.cat([SEEN, gaps])
    pyro.sample("y", dist.Normal(0.5 * y.roll(1), 1.0).to_event(1), obs=y)


def together():
    """The numbers of one event cannot be drawn one without another."""
    gaps = pyro.sample("gaps", dist.Normal(torch.zeros(2, dtype=D), 1.0).to_event(1).mask(False))
    mu = pyro.sample("mu", dist.Normal(number(0.0), 1.0))
    cov = torch.eye(6, dtype=D) + 0.5
    pyro.sample("y", dist.MultivariateNormal(mu.expand(6), cov), obs=torch.cat([SEEN, gaps]))


def doubled():
    gaps = pyro.sample("gaps", dist.Normal(torch.zeros(2, dtype=D), 1.0).to_event(1).mask(False))
    pyro.sample("y", dist.Normal(number(0.0), 1.0).expand([6]).to_event(1), obs=torch.cat([SEEN, 2 * gaps]))


@pytest.mark.parametrize("model", [lagged, together, doubled])
def test_other_gaps_are_refused(model):
    assert imputed(model, (), {}) is model
    with pytest.raises(sp.ModelError, match=r"latent site 'gaps' is masked.* site 'y' depends on it"):
        fitted(model).condition()
