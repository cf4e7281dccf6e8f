"""Data on the edge of a support, or outside: the same error from the guide's reading and the references."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import AffineTransform

from sdeppl.reference.given import condition_model
from sdeppl.tracing import ModelError, find_sites, read_sites

D = torch.float64


def t(*numbers):
    return torch.tensor(numbers[0] if len(numbers) == 1 else numbers, dtype=D)


def in_plate(family):
    def model(y=None):
        a = pyro.sample("a", dist.LogNormal(t(0.0), 1.0))
        with pyro.plate("n", 3):
            pyro.sample("y", family(a), obs=y)

    return model


def scaled(a):
    return dist.TransformedDistribution(dist.Beta(a, 2.0).expand([3]), [AffineTransform(1.0, 2.0)])


def shares(a):
    return dist.Dirichlet(torch.stack([a, a + 1, 2 * a]))


EDGE = {
    "beta": (lambda a: dist.Beta(a, 2.0), t(0.0, 0.5, 1.0), r"Beta.*: 0.0 \(number 0\), 1.0 \(number 2\)"),
    "gamma": (lambda a: dist.Gamma(a, 2.0), t(0.3, 0.0, 1.0), r"Gamma.*: 0.0 \(number 1\)"),
    "kumaraswamy": (lambda a: dist.Kumaraswamy(a, 2.0), t(0.3, 1.0, 0.2), r": 1.0 \(number 1\)"),
    "scaled beta": (scaled, t(1.2, 3.0, 2.0), r": 3.0 \(number 1\)"),
    "shares": (shares, t((0.2, 0.3, 0.5), (0, 0.5, 0.5), (0.1, 0.1, 0.8)), r"\[0.0, 0.5, 0.5\] \(number 1\)"),
    "the end of a uniform": (lambda a: dist.Uniform(0 * a, t(1.0)), t(0.5, 1.0, 0.0), r": 1.0 \(number 1\)"),
}
OUTSIDE = {
    "exponential": (lambda a: dist.Exponential(a), t(0.0, 0.5, -1.0), r"Exponential.*: -1.0 \(number 2\)"),
    "log-normal": (lambda a: dist.LogNormal(a, 1.0), t(0.0, 0.5, 1.0), r"LogNormal.*: 0.0 \(number 0\)"),
    "counts": (
        lambda a: dist.Poisson(a),
        t(1.0, 2.5, -1.0),
        r"Poisson.*: 2.5 \(number 1\), -1.0 \(number 2\)",
    ),
    "coin": (lambda a: dist.Bernoulli(a / (1 + a)), t(1.0, 0.3, 0.0), r"Bernoulli.*: 0.3 \(number 1\)"),
    "moving": (lambda a: dist.Uniform(0.0, a), t(-1.0, 0.5, 1.0), r"Uniform.*: -1.0 \(number 0\)"),
    "pareto": (lambda a: dist.Pareto(t(1.0), a), t(0.9, 1.5, 2.0), r"Pareto.*: 0.9 \(number 0\)"),
}
INSIDE = {
    "exponential at 0": (lambda a: dist.Exponential(a), t(0.0, 0.5, 1.0)),
    "half-normal at 0": (lambda a: dist.HalfNormal(a), t(0.0, 0.5, 1.0)),
    "the bound of a Pareto": (lambda a: dist.Pareto(t(1.0), a), t(1.0, 1.5, 2.0)),
    "an angle in another turn": (lambda a: dist.VonMises(a, 2.0), t(1.0, 0.3, 6.0)),
    "no counts": (lambda a: dist.Poisson(a), t(0.0, 0.0, 2.0)),
}


def read(model, y):
    space = find_sites(model).space
    z = torch.randn(64, space.dim, dtype=D, generator=torch.Generator().manual_seed(0))
    return read_sites(model, space, {"y": y}, z)


@pytest.mark.parametrize("name", EDGE)
def test_on_the_edge(name):
    family, y, words = EDGE[name]
    for reading in (read, lambda model, y: condition_model(model, {"y": y})):
        with pytest.raises(ModelError, match=rf"'y': the data are on the edge.*{words}"):
            reading(in_plate(family), y)


@pytest.mark.parametrize("name", OUTSIDE)
def test_outside(name):
    family, y, words = OUTSIDE[name]
    for reading in (read, lambda model, y: condition_model(model, {"y": y})):
        with pytest.raises(ModelError, match=rf"'y': the data are outside the support of {words}"):
            reading(in_plate(family), y)


@pytest.mark.parametrize("name", INSIDE)
def test_an_edge_with_a_density_is_inside(name):
    family, y = INSIDE[name]
    (site,) = read(in_plate(family), y)
    z = t(0.4).reshape(1)
    with pyro.validation_enabled(False):
        expected = family(torch.exp(z[0])).log_prob(y).sum()
    torch.testing.assert_close(site.log_prob(z), expected)
    condition_model(in_plate(family), {"y": y})


def test_what_was_not_observed_is_not_looked_at():
    model = in_plate(lambda a: dist.Beta(a, 2.0))
    y = t(0.5, float("nan"), 0.25)
    condition_model(model, {"y": y})
    read(model, y)
    with pytest.raises(ModelError, match=r"1.0 \(number 2\)"):
        condition_model(model, {"y": t(0.5, float("nan"), 1.0)})


def test_a_distribution_of_another_shape_than_its_data_is_refused_by_name():
    y = torch.tensor([0.4, 0.1, -0.3, 0.9])

    def model():
        z = pyro.sample("z", dist.Normal(0.2, 1.3))
        groups = torch.tensor([0, 0, 1, 1])
        fn = dist.GroupedNormalNormal(z.expand(2), torch.tensor([0.8, 1.1]), torch.tensor(0.6), groups)
        pyro.sample("y", fn, obs=y)

    with pytest.raises(ModelError, match=r"site .y.: the data have the batch shape \(4,\), Grouped"):
        condition_model(model, {}, latents=["z"])
