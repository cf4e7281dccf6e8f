"""Models whose sites change from run to run, or never do, and priors without draws: refused by name."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.distributions import constraints
from pyro.infer.reparam import SplitReparam
from site_models import D, t

import sdeppl as sp
from sdeppl.tracing import ModelError, SlowDrawsWarning, find_sites, prior_draws

pytestmark = pytest.mark.filterwarnings("ignore::sdeppl.tracing.SlowDrawsWarning")


def normal(name, loc=0.0):
    return pyro.sample(name, dist.Normal(torch.tensor(loc, dtype=D), 1.0))


def rejection(y=None):
    i = 0
    while (x := normal(f"x_{i}")) < 0:
        i += 1
    pyro.sample("y", dist.Normal(x, 1.0), obs=y)


def branch(y=None):
    a = normal("a")
    x = pyro.sample("low" if a < 0 else "high", dist.Normal(a, 1.0))
    pyro.sample("y", dist.Normal(x, 1.0), obs=y)


def recursion(y=None):
    def more(depth):
        x = normal(f"x_{depth}")
        return x if x > -0.3 else more(depth + 1)

    pyro.sample("y", dist.Normal(more(0), 1.0), obs=y)


def by_number(y=None):
    """A number of groups that is drawn."""
    count = int(1 + 3 * torch.rand(()))
    x = sum(normal(f"x_{i}") for i in range(count))
    pyro.sample("y", dist.Normal(x, 1.0), obs=y)


def often(y=None):
    """Most runs have the same sites: the first two do."""
    a = normal("a")
    x = normal("extra") if a > 1.5 else 0.0
    pyro.sample("y", dist.Normal(a + x, 1.0), obs=y)


@pytest.mark.parametrize("model", [rejection, branch, recursion, by_number, often])
def test_sites_that_change_from_run_to_run(model):
    with pytest.raises(ModelError, match=r"site '\w+' is not in every run of the model: one run samples"):
        sp.ScoreGuide(model, net=None).fit_gaussian(2_000, progress=False)


@pytest.mark.parametrize("model", [rejection, branch, recursion, by_number, often])
def test_the_references_refuse_them_too(model):
    for reference in (sp.reference.nuts, sp.reference.exact):
        with pytest.raises(ModelError, match=r"site '\w+' is not in every run of the model"):
            reference(model, {"y": 0.7}, **({"progress": False} if reference is sp.reference.nuts else {}))


def test_long_lists_of_sites_are_cut():
    def model():
        for i in range(int(20 + 9 * torch.rand(()))):
            normal(f"x_{i}")

    with pytest.raises(ModelError, match=r"'x_0', 'x_1', 'x_2', 'x_3', 'x_4', 'x_5' and 1[4-9] more sites"):
        find_sites(model)


def test_sites_that_appear_under_some_data_alone():
    def model(y=None, extra=False):
        x = normal("x")
        loc = x + (normal("offset") if extra else 0.0)
        pyro.sample("y", dist.Normal(loc, 1.0), obs=y)

    guide = sp.ScoreGuide(model, net=None).fit_gaussian(2_000, progress=False)
    with pytest.raises(ModelError, match=r"'y' depends on something random .* site 'offset'"):
        guide.condition(y=1.0, kwargs={"extra": True})
    other = sp.ScoreGuide(model, net=None, kwargs={"extra": True}).fit_gaussian(2_000, progress=False)
    with pytest.raises(ModelError, match="'offset'"):
        other.condition(y=1.0, kwargs={})


def test_a_model_with_static_sites_is_taken_whatever_it_branches_on():
    def model():
        a = normal("a")
        pyro.sample("y", dist.Normal(2 * a if a > 0 else a, 1.0))

    with pytest.warns(SlowDrawsWarning):
        draws = prior_draws(model, ["a"], 400, (0,))["a"]
    assert abs(float(draws.mean())) < 5 / 400**0.5


def chain(y=None):
    x = pyro.sample("x", dist.Normal(normal("mu"), 2.0))
    pyro.sample("y", dist.Normal(x, 1.0), obs=y)


def own_seed(y=None):
    generator = torch.Generator().manual_seed(3)
    x = pyro.sample("x", dist.Normal(normal("mu") + torch.randn((), generator=generator), 2.0))
    x0 = normal("x0")
    pyro.sample("y", dist.Normal(x + x0, 1.0), obs=y)


def test_latents_that_never_change():
    replayed = poutine.replay(chain, trace=poutine.trace(chain).get_trace())
    for model in (replayed, poutine.seed(chain, 5)):
        with pytest.raises(ModelError, match="latent site 'mu' has the same value in 10 runs"):
            find_sites(model)
    assert find_sites(own_seed).space.names == ["mu", "x", "x0"]


def test_a_latent_of_few_values_is_no_constant():
    """Two runs give the same number: that of 2 is drawn in each with probability .8."""
    values = torch.tensor([0.0, 1.0], dtype=D)

    def model():
        x = pyro.sample("x", dist.Empirical(values, t(0.8, 0.2).log()))
        pyro.sample("y", dist.Normal(x, 1.0))

    def same(seed):
        with sp.tracing.randomness.seeded(seed):
            return float(poutine.trace(model).get_trace().nodes["x"]["value"])

    assert same(0) == same(1) and len({same(seed) for seed in range(10)}) == 2
    assert find_sites(model).space.names == ["x"]


class NoDraws(dist.Normal):
    def sample(self, sample_shape=()):
        raise NotImplementedError("no sampler")

    rsample = sample


def improper(y=None):
    x = pyro.sample("x", dist.ImproperUniform(constraints.real, (), ()))
    pyro.sample("y", dist.Normal(x, 1.0), obs=y)


def unsampled_prior(y=None):
    x = pyro.sample("x", NoDraws(torch.tensor(0.0, dtype=D), 1.0))
    pyro.sample("y", dist.Normal(x, 1.0), obs=y)


def unsampled_data(y=None):
    pyro.sample("y", NoDraws(normal("x"), 1.0), obs=y)


def split(y=None):
    def model(y=None):
        x = pyro.sample("x", dist.Normal(torch.zeros(3, dtype=D), 1.0).to_event(1))
        pyro.sample("y", dist.Normal(x, 1.0).to_event(1), obs=y)

    return poutine.reparam(model, config={"x": SplitReparam([1, 2], -1)})(y)


@pytest.mark.parametrize(
    ("model", "site"),
    [(improper, "x"), (unsampled_prior, "x"), (unsampled_data, "y"), (split, "x_split_0")],
)
def test_priors_without_draws_are_named(model, site):
    with pytest.raises(ModelError, match=rf"site '{site}' cannot be drawn from: \w+ has no"):
        find_sites(model)


def test_what_has_no_draws_may_be_observed():
    guide = sp.ScoreGuide(unsampled_data, net=None, kwargs={"y": torch.tensor(3.0, dtype=D)})
    run = guide.fit_gaussian(20_000, progress=False).condition(backend="numpy").run(2_000)
    assert abs(float(run.draws["x"].mean()) - 1.5) < 5 * 0.5**0.5 / 2_000**0.5 + 0.01


def test_a_collapsed_model_is_refused_by_name():
    """Pyro 1.9.2 with funsor 0.4.8 ends in a KeyError under any trace; without it none runs."""
    funsor = pytest.importorskip("funsor")
    funsor.set_backend("torch")

    @poutine.collapse
    def model(y=None):
        p = pyro.sample("p", dist.Beta(2.0, 3.0))
        pyro.sample("y", dist.Bernoulli(p), obs=y)

    with pytest.raises(ModelError, match=r"runs under poutine\.collapse"):
        sp.ScoreGuide(model)
    with pytest.raises(ModelError, match=r"runs under poutine\.collapse"):
        sp.reference.hmc(model, {"y": torch.tensor(1.0)})
