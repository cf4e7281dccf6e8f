"""Which sites NUTS samples, which it leaves out, and what it refuses before it runs."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import sdeppl as sp

D = torch.float64
SHORT = {"draws": 400, "warmup": 150, "chains": 2, "seed": 4, "progress": False}


def two_sites(a=None, b=None):
    x = pyro.sample("x", dist.Normal(torch.tensor(1.0, dtype=D), 2.0))
    pyro.sample("a", dist.Normal(3 * x, 0.8), obs=a)
    pyro.sample("b", dist.Normal(x - 2, 0.5), obs=b)


def agree(found, mean, sd, name="x"):
    """To 4 standard errors by the run's own effective sample size: one false alarm in 15,000."""
    assert list(found.draws) == [name]
    draws = found.draws[name]
    assert abs(float(draws.mean()) - mean) < 4 * sd / math.sqrt(found.worst_ess)
    assert abs(float(draws.std()) / sd - 1) < 4 * math.sqrt(0.5 / found.worst_ess)


def exact(precisions, values):
    precision = 1 / 4 + sum(precisions)
    return (1 / 4 + sum(p * v for p, v in zip(precisions, values, strict=True))) / precision, precision**-0.5


def test_an_observable_site_of_no_value_contributes_nothing():
    a = torch.tensor(4.5, dtype=D)
    agree(sp.reference.nuts(two_sites, {"a": a}, **SHORT), *exact([9 / 0.64], [1.5]))
    # the same where the model observes by itself, and both
    agree(sp.reference.nuts(two_sites, {}, kwargs={"a": a}, **SHORT), *exact([9 / 0.64], [1.5]))
    both = sp.reference.nuts(two_sites, {"b": 0.2}, kwargs={"a": a}, **SHORT)
    agree(both, *exact([9 / 0.64, 4.0], [1.5, 2.2]))


def test_an_observable_site_that_depends_on_an_observed_one_alone():
    """Given a, nothing links c to x, but it is no latent for that."""

    def chain(a=None, c=None):
        x = pyro.sample("x", dist.Normal(torch.tensor(1.0, dtype=D), 2.0))
        a = pyro.sample("a", dist.Normal(3 * x, 0.8), obs=a)
        pyro.sample("c", dist.Normal(a, 1.0), obs=c)

    found = sp.reference.nuts(chain, {"a": torch.tensor(4.5, dtype=D)}, **SHORT)
    agree(found, *exact([9 / 0.64], [1.5]))


def leaf(y=None):
    mu = pyro.sample("mu", dist.Normal(torch.tensor(0.0, dtype=D), 1.0))
    pyro.sample("x", dist.Normal(mu, 2.0))
    pyro.sample("y", dist.Normal(mu, 0.5), obs=y)


@pytest.mark.slow  # tests/tracing/test_sites.py has which latents these are
def test_latents_by_name():
    y = torch.tensor(1.0, dtype=D)
    agree(sp.reference.nuts(leaf, {"y": y}, **SHORT), 0.8, math.sqrt(0.2), "mu")
    found = sp.reference.nuts(leaf, {"y": y}, latents=["mu", "x"], **SHORT)
    assert list(found.draws) == ["mu", "x"]
    # x given y: N(0.8, 0.2 + 4)
    error = abs(float(found.draws["x"].mean()) - 0.8) / math.sqrt(4.2)
    assert error < 4 / math.sqrt(found.worst_ess)
    assert abs(float(found.draws["x"].std()) / math.sqrt(4.2) - 1) < 4 * math.sqrt(0.5 / found.worst_ess)


def test_masked_data_are_missing():
    def vector(y=None):
        x = pyro.sample("x", dist.Normal(torch.tensor(1.0, dtype=D), 2.0))
        pyro.sample("y", dist.Normal(x.expand(2), 0.5).to_event(1), obs=y)

    y = np.ma.masked_array([2.0, 50.0], mask=[False, True])
    agree(sp.reference.nuts(vector, {"y": y}, **SHORT), *exact([4.0], [2.0]))


def test_sites_that_cannot_be_left_out():
    def hierarchy(y=None):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        theta = pyro.sample("theta", dist.Normal(mu, 1.0))
        pyro.sample("y", dist.Normal(theta, 1.0), obs=y)

    with pytest.raises(sp.ModelError, match="'y' depends on site 'theta', which is neither latent nor obser"):
        sp.reference.nuts(hierarchy, {"y": torch.tensor(1.0)}, latents=["mu"], **SHORT)


def test_no_data_at_all():
    with pytest.raises(sp.ModelError, match=r"no data: give values for some of \['a', 'b'\]"):
        sp.reference.nuts(two_sites, {}, **SHORT)


@pytest.mark.parametrize("wrong", [{"draws": 3}, {"warmup": -1}, {"chains": 0}])
def test_counts_out_of_range(wrong):
    ((name, count),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name} must be a whole number, at least .*; got {count}$"):
        sp.reference.nuts(two_sites, {"a": torch.tensor(1.0)}, **{**SHORT, **wrong})
    with pytest.raises(TypeError, match=f"{name} must be a whole number, at least .*; got 10.0"):
        sp.reference.nuts(two_sites, {"a": torch.tensor(1.0)}, **{**SHORT, name: 10.0})


def test_a_constrained_latent_against_its_closed_form():
    """A Poisson rate, sampled in its logarithm, where nothing diverges: Gamma(2.5 + 14, 0.5 + 3)."""

    def counts(y=None):
        rate = pyro.sample("rate", dist.Gamma(torch.tensor(2.5, dtype=D), 0.5))
        pyro.sample("y", dist.Poisson(rate.expand(3)).to_event(1), obs=y)

    y = torch.tensor([4.0, 7.0, 3.0], dtype=D)
    found = sp.reference.nuts(counts, {"y": y}, **SHORT)
    agree(found, 16.5 / 3.5, math.sqrt(16.5) / 3.5, "rate")
    assert found.divergences == 0
