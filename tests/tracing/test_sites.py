"""Which sites are latent, observable, or the forward SDE."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import sdeppl as sp
from sdeppl.tracing import ModelError, find_sites


def one_latent(y=None):
    x = pyro.sample("x", dist.Normal(torch.zeros(3), 2.0).to_event(1))
    return pyro.sample("y", dist.Normal(2 * x, 0.5).to_event(1), obs=y)


def hierarchical(y=None):
    mu = pyro.sample("mu", dist.Normal(1.0, 3.0))
    tau = pyro.sample("tau", dist.LogNormal(0.0, 0.3))
    with pyro.plate("groups", 4):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("y", dist.Normal(theta, 0.7), obs=y)


def prior_only():
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    pyro.sample("b", dist.Normal(0.0, 2.0))
    pyro.sample("y", dist.Normal(a, 1.0))


@pytest.mark.parametrize("observed", [None, torch.ones(3)])
def test_one_latent(observed):
    sites = find_sites(one_latent, kwargs={"y": observed})
    assert (sites.space.names, sites.observable, sites.diffusion) == (["x"], ("y",), None)
    assert (sites.space.dim, sites.space.sites[0].shape) == (3, (3,))


@pytest.mark.parametrize("observed", [None, torch.ones(4)])
def test_hierarchical(observed):
    sites = find_sites(hierarchical, args=(observed,))
    assert (sites.space.names, sites.observable) == (["mu", "tau", "theta"], ("y",))
    assert [(s.start, s.stop) for s in sites.space.sites] == [(0, 1), (1, 2), (2, 6)]


def test_a_leaf_of_the_prior_alone_is_latent():
    sites = find_sites(prior_only)
    assert (sites.space.names, sites.observable) == (["a", "b"], ("y",))


def test_latents_by_name():
    sites = find_sites(hierarchical, latents=["mu", "tau"])
    assert (sites.space.names, sites.observable) == (["mu", "tau"], ("theta", "y"))
    with pytest.raises(ModelError, match=r"no site 'nu', only \['mu', 'tau', 'theta', 'y'\]"):
        find_sites(hierarchical, latents=["nu"])


def test_a_latent_leaf_needs_to_be_named():
    def prior():
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(mu, 1.0))

    assert find_sites(prior).observable == ("x",)
    assert find_sites(prior, latents=["mu", "x"]).space.names == ["mu", "x"]


def test_deterministic_and_subsample_sites_are_neither():
    def model():
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        twice = pyro.deterministic("twice", 2 * x)
        with pyro.plate("data", 10, subsample_size=3):
            pyro.sample("y", dist.Normal(twice, 1.0))

    sites = find_sites(model)
    assert (sites.space.names, sites.observable) == (["x"], ("y",))


def test_diffusion_is_found_and_is_no_child():
    sde = sp.VPSDE(sp.LinearSchedule(0.2, 15.0))

    def model():
        x = pyro.sample("x", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x_t", sp.Diffusion(sde, x, [0.1, 1.0]))
        pyro.sample("y", dist.Normal(x, 1.0).to_event(1))

    sites = find_sites(model)
    assert (sites.space.names, sites.observable, sites.diffusion) == (["x"], ("y",), sde)


def test_the_global_random_state_is_left_alone():
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    find_sites(hierarchical)
    assert torch.equal(torch.rand(3), expected)


def error_of(model, **arguments):
    with pytest.raises(ModelError) as caught:
        find_sites(model, **arguments)
    return str(caught.value)


def test_no_latent():
    def model():
        pyro.sample("y", dist.Normal(0.0, 1.0), obs=torch.tensor(1.0))

    assert "no latent site" in error_of(model)
    assert "['y']" in error_of(model)


@pytest.mark.parametrize("fn", [dist.Bernoulli(0.3), dist.Poisson(2.0), dist.Categorical(torch.ones(3))])
def test_discrete_latent(fn):
    def model():
        k = pyro.sample("k", fn)
        pyro.sample("y", dist.Normal(k.float(), 1.0))

    assert f"'k' is discrete ({type(fn).__name__})" in error_of(model)


def test_nan_latent():
    def model():
        x = pyro.sample("x", dist.Normal(torch.tensor(torch.nan), 1.0, validate_args=False))
        pyro.sample("y", dist.Normal(x, 1.0, validate_args=False))

    with pyro.validation_enabled(False):
        assert "'x' drew NaN" in error_of(model)


def test_moving_support():
    def model():
        low = pyro.sample("low", dist.Normal(0.0, 1.0))
        x = pyro.sample("x", dist.Uniform(low, low + 1.0))
        pyro.sample("y", dist.Normal(x, 1.0))

    assert "'x'" in error_of(model) and "changes from draw to draw" in error_of(model)


def test_random_presence():
    def model():
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        pyro.sample(f"b{torch.rand(()) * 1e6:.0f}", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(a, 1.0))

    assert "is not in every run" in error_of(model)


def test_diffusion_errors():
    def several_latents():
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        b = pyro.sample("b", dist.Normal(0.0, 1.0))
        pyro.sample("a_t", sp.Diffusion(sp.VPSDE(), a, [1.0]))
        pyro.sample("y", dist.Normal(a + b, 1.0))

    def child():
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        x_t = pyro.sample("x_t", sp.Diffusion(sp.VPSDE(), x, [1.0]))
        pyro.sample("y", dist.Normal(x_t[0], 1.0))

    def two():
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        pyro.sample("u", sp.Diffusion(sp.VPSDE(), x, [1.0]))
        pyro.sample("v", sp.Diffusion(sp.VPSDE(), x, [1.0]))
        pyro.sample("y", dist.Normal(x, 1.0))

    assert "'a_t'" in error_of(several_latents) and "sde=" in error_of(several_latents)
    assert "site 'y' depends on the Diffusion site 'x_t'" in error_of(child)
    assert "['u', 'v']" in error_of(two)
