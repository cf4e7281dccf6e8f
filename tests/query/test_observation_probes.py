"""Points near the posterior, before it is known."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from observed_models import PART, Z, compiled, event
from site_models import AFFINE_FAMILIES, D, nan, read, t

import sdeppl as sp
from sdeppl.linalg import Spectral
from sdeppl.query import GaussianPart, posterior_probes

NEAR = {
    "poisson": (lambda x: dist.Poisson((2 * x + 1).exp()), 9.0),
    "curved": (lambda x: dist.Normal(x + 0.2 * x**2, 0.3), 2.0),
    "latent noise": (lambda x: dist.Normal(x, 0.3 * (0.4 * x).exp()), 2.0),
    "censored": (lambda x: sp.Censored(dist.Normal(x, 0.2), high=2.0), 2.0),
}


@pytest.mark.parametrize("name", NEAR)
def test_probes_are_near_the_posterior(name):
    """One latent, prior N(0, 1), posterior by quadrature: 400 probes within a posterior sd of it."""
    fn, y = NEAR[name]

    def model():
        x = pyro.sample("x", dist.Normal(torch.zeros((), dtype=D), 1.0))
        pyro.sample("y", fn(x))

    sites = read(model, y=y)
    part = GaussianPart(t(0.0), t(1.0), Spectral(torch.ones((1, 1), dtype=D), t(1.0)), 1000)
    draws = torch.randn((400, 1), generator=torch.Generator().manual_seed(7), dtype=D)
    probes = posterior_probes(sites, part, draws, 0)
    grid = torch.linspace(-6, 6, 4001, dtype=D)
    weight = (fn(grid).log_prob(torch.tensor(y, dtype=D)) - grid**2 / 2).exp()
    weight = weight / weight.sum()
    mean = (grid * weight).sum()
    sd = ((grid - mean) ** 2 * weight).sum().sqrt()
    assert abs(probes.mean() - mean) < sd
    assert 0.5 * sd < probes.std() < 2 * sd


def test_no_probes_where_nothing_says_where():
    sites, _ = compiled("density: two parameters")
    assert posterior_probes(sites, PART, Z, 0) is None
    model = event(AFFINE_FAMILIES["poisson"][0])
    assert posterior_probes(read(model, y=[nan] * 3), PART, Z, 0) is None
