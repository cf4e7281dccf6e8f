"""All of Pyro's distributions: read as data with the density that they have, or refused by name."""

import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro_families import LIKELIHOODS, PRIORS, REFUSED, SAMPLELESS, D, s

from sdeppl.tracing import ModelError, SlowDrawsWarning, find_sites, prior_draws, read_sites

SLOWLY = {"DiscreteHMM"}  # an operation of Pyro's own that torch.func cannot take
# whose draws torch or Pyro make with loops that look at numbers
ONE_BY_ONE = {
    "MixtureOfDiagNormals",
    "MixtureOfDiagNormalsSharedCovariance",
    "OMTMultivariateNormal",
    "ProjectedNormal",
    "SineBivariateVonMises",
    "Stable",
    "Wishart",
}


def model_of(name):
    fn, y = LIKELIHOODS[name]

    def model():
        z = pyro.sample("z", dist.Normal(s(0.2), s(0.8)))
        pyro.sample("y", fn(z), obs=y if name in SAMPLELESS else None)

    return model


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_density_as_data(name):
    """The latent is drawn for all rows at once, and ln p(y | z) is the distribution's own, with its slope."""
    fn, y = LIKELIHOODS[name]
    model = model_of(name)
    if name in REFUSED:
        with pytest.raises(ModelError, match=f"site 'y': .*{REFUSED[name]}"):
            read(model, y)
        return
    site, draws = read(model, y)
    z = draws[:8, 0]
    own = torch.stack([fn(one).log_prob(y).sum() for one in z]).to(D)
    mine = torch.stack([site.log_prob(one) for one in draws[:8]])
    torch.testing.assert_close(mine, own, rtol=1e-9, atol=1e-9)
    assert float(own.std()) > 1e-3  # z matters
    assert site.vectorised == site.differentiable == (name not in SLOWLY)
    if site.differentiable:
        slope = torch.stack([torch.func.grad(site.log_prob)(one)[0] for one in draws[:8]])
        up, down = (torch.stack([fn(one + h).log_prob(y).sum() for one in z]).to(D) for h in (1e-5, -1e-5))
        torch.testing.assert_close(slope, (up - down) / 2e-5, rtol=1e-4, atol=1e-4)


def read(model, y):
    space = find_sites(model, latents=["z"]).space
    with warnings.catch_warnings():
        warnings.simplefilter("error", SlowDrawsWarning)
        draws = space.flatten(prior_draws(model, ["z"], 60, (0,)))
    (site,) = read_sites(model, space, {"y": y.to(D)}, draws)
    return site, draws


@pytest.mark.parametrize("name", ["BetaBinomial", "ExtendedBetaBinomial", "GammaPoisson", "Gamma"])
def test_far_out_a_family_is_no_error(name):
    """Where exp(η) overflows, which the quadrature's nodes try: ln p is no number larger than 0."""
    y = LIKELIHOODS[name][1]
    site, _ = read(model_of(name), y)
    far = site.log_density(torch.tensor([[-800.0], [800.0]], dtype=D), site.y)
    assert far.shape == (2, 1) and not bool((far > 0).any())


@pytest.mark.parametrize("name", PRIORS)
def test_draws_as_a_prior(name):
    """All at once, but for those that torch cannot draw so, and distributed as the distribution's draws."""
    count, many = (100, 300) if name in ONE_BY_ONE else (4_000, 1_000)

    def model():
        pyro.sample("x", PRIORS[name]())

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        x = prior_draws(model, ["x"], count, (1,))["x"]
    slow = any(issubclass(one.category, SlowDrawsWarning) for one in caught)
    assert slow == (name in ONE_BY_ONE)
    fn = PRIORS[name]()
    own = torch.stack([fn.sample() for _ in range(many)])
    level = 1.63 * (1 / len(x) + 1 / len(own)) ** 0.5  # Kolmogorov and Smirnov, p = .01
    for mine, theirs in zip(x.reshape(len(x), -1).T, own.reshape(len(own), -1).T, strict=True):
        points = torch.cat([mine, theirs]).sort().values
        ranks = [
            torch.searchsorted(part.sort().values, points, right=True) / len(part) for part in (mine, theirs)
        ]
        assert float((ranks[0] - ranks[1]).abs().max()) < 1.3 * level  # of dozens of tests
