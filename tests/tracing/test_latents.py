"""Latents as one unconstrained vector, and back."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from sdeppl.tracing import ModelError, find_sites, prior_draws
from sdeppl.tracing.latents import LatentSpace

PRIORS = {
    "real": lambda d: dist.Normal(torch.tensor(2.0, dtype=d), 3.0),
    "real matrix": lambda d: dist.Normal(torch.zeros(2, 3, dtype=d), 3.0).to_event(2),
    "gamma": lambda d: dist.Gamma(torch.tensor([2.0, 5.0], dtype=d), 3.0).to_event(1),
    "lognormal": lambda d: dist.LogNormal(torch.tensor(0.3, dtype=d), 0.5),
    "halfcauchy": lambda d: dist.HalfCauchy(torch.tensor(2.0, dtype=d)),
    "uniform": lambda d: dist.Uniform(torch.tensor([-5.0, 10.0], dtype=d), 20.0).to_event(1),
    "beta": lambda d: dist.Beta(torch.tensor(2.0, dtype=d), 3.0),
    "pareto": lambda d: dist.Pareto(torch.tensor(1.5, dtype=d), 3.0),
    "dirichlet": lambda d: dist.Dirichlet(torch.tensor([1.5, 2.0, 4.0], dtype=d)),
    "lkj": lambda d: dist.LKJCholesky(3, torch.tensor(2.0, dtype=d)),
    "mvn": lambda d: dist.MultivariateNormal(torch.zeros(2, dtype=d), torch.eye(2, dtype=d)),
}
REAL = {"real", "real matrix", "mvn"}
SIZES = {"real": 1, "real matrix": 6, "gamma": 2, "uniform": 2, "dirichlet": 2, "lkj": 3, "mvn": 2}


@pytest.mark.filterwarnings("ignore::sdeppl.tracing.SlowDrawsWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("prior", PRIORS)
def test_round_trip(prior, dtype):
    fn = PRIORS[prior](dtype)

    def model():
        pyro.sample("x", fn)
        with pyro.plate("rows", 2):
            pyro.sample("z", dist.Gamma(torch.tensor(2.0, dtype=dtype), 1.0))

    space = find_sites(model).space
    assert space.dim == SIZES.get(prior, 1) + 2
    assert space.sites[0].is_real == (prior in REAL)
    values = prior_draws(model, space.names, 7, (0,))
    vector = space.flatten(values)
    assert (vector.shape, vector.dtype) == ((7, space.dim), torch.float64)
    back = space.unflatten(vector)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-9
    for name in ("x", "z"):
        assert (back[name].shape, back[name].dtype) == (values[name].shape, dtype)
        torch.testing.assert_close(back[name], values[name], rtol=tolerance, atol=tolerance)
    # without a batch, as the model's traces need it
    one = space.unflatten(vector[3])
    torch.testing.assert_close(one["x"], back["x"][3])


def test_bijections_are_the_ones_of_the_support():
    def model():
        pyro.sample("positive", dist.Gamma(2.0, 1.0))
        pyro.sample("interval", dist.Uniform(2.0, 6.0))

    space = find_sites(model).space
    found = space.flatten({"positive": torch.tensor([0.5]), "interval": torch.tensor([3.0])})
    wanted = torch.tensor([[math.log(0.5), -0.6744897501960817]]).double()  # ln ½, Φ⁻¹(¼)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_onto_the_edge_is_no_outlier(dtype):
    """A float32 uniform draw is exactly its bound once in 2^24: z must stay near ln(eps)."""

    def model():
        pyro.sample("u", dist.Uniform(torch.tensor(5.0, dtype=dtype), 15.0))
        pyro.sample("d", dist.Dirichlet(torch.tensor([0.5, 0.5, 0.5], dtype=dtype)))

    space = find_sites(model).space
    edge = {
        "u": torch.tensor([5.0, 15.0], dtype=dtype),
        "d": torch.tensor([[0.6, 0.4, 0.0], [1.0, 0.0, 0.0]], dtype=dtype),
    }
    z = space.flatten(edge)
    limit = -math.log(torch.finfo(dtype).eps) + 3
    assert float(z.abs().max()) < limit
    assert z[0, 0] < -5 and z[1, 0] > 5  # standard deviations
    back = space.unflatten(z)
    for name in ("u", "d"):
        torch.testing.assert_close(back[name], edge[name], rtol=1e-5, atol=1e-6)


def test_values_outside_the_support_are_named():
    def model():
        pyro.sample("a", dist.Normal(0.0, 1.0))
        pyro.sample("rate", dist.Gamma(2.0, 1.0))

    space = find_sites(model).space
    for bad in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ModelError, match="'rate'"):
            space.flatten({"a": torch.zeros(2), "rate": torch.tensor([1.0, bad])})


def test_same_as_tells_what_differs():
    def space(**sites) -> LatentSpace:
        def model():
            for name, fn in sites.items():
                pyro.sample(name, fn)

        return find_sites(model).space

    mine = space(a=dist.Gamma(2.0, 1.0), b=dist.Normal(torch.zeros(2), 1.0).to_event(1))
    assert (
        mine.same_as(space(a=dist.LogNormal(0.0, 1.0), b=dist.Laplace(torch.zeros(2), 1.0).to_event(1)))
        is None
    )
    assert "['a', 'b'] against ['a']" in mine.same_as(space(a=dist.Gamma(2.0, 1.0)))
    other = space(a=dist.Normal(0.0, 1.0), b=dist.Normal(torch.zeros(2), 1.0).to_event(1))
    assert "'a': the support" in mine.same_as(other)
    other = space(a=dist.Gamma(2.0, 1.0), b=dist.Normal(torch.zeros(3), 1.0).to_event(1))
    assert "'b': shape (2,) against (3,)" in mine.same_as(other)
    for unit in (1e-9, 1.0, 1e9):
        one, two = (
            space(a=dist.Uniform(0.0, torch.tensor(unit * k, dtype=torch.float64))) for k in (1, 1.001)
        )
        assert one.same_as(one) is None
        ends = f"from 0.0 to {unit!r} against from 0.0 to {1.001 * unit!r}"
        assert one.same_as(two) == f"site 'a': the support {ends}"
    one, two = (space(a=dist.Uniform(0.0, torch.tensor([3.0, top])).to_event(1)) for top in (1.0, 2.0))
    assert one.same_as(two) == "site 'a': the support from 0.0 to 1.0 against from 0.0 to 2.0"
