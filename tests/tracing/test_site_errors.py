"""Likelihoods and data that cannot be taken: refused, never misread."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from site_models import D, Skewed, nan, prior, read, t, with_likelihood

import sdeppl as sp
from sdeppl.tracing import ModelError, find_sites

pytestmark = pytest.mark.filterwarnings("ignore::sdeppl.tracing.SlowDrawsWarning")


def in_a_plate(y=None):
    x = prior()
    with pyro.plate("n", 3):
        pyro.sample("y", dist.Normal(x[0], 1.0), obs=y)


def test_errors_in_the_data_name_the_site():
    model = with_likelihood(lambda x: dist.Normal(x, 1.0).to_event(1))
    with pytest.raises(ModelError, match=r"no observable site 'w'; it has \['y'\]"):
        read(model, w=1.0)
    with pytest.raises(ModelError, match=r"no observable site 'w'; it has \['y'\]"):
        read(in_a_plate, w=1.0)
    with pytest.raises(ModelError, match="'x' is a latent"):
        read(model, x=[1.0, 2.0, 3.0])
    with pytest.raises(ModelError, match=r"'y': the data have shape \(2,\), the model \(3,\)"):
        read(model, y=[1.0, 2.0])
    with pytest.raises(ModelError, match="'y': the data hold infinity"):
        read(model, y=[1.0, np.inf, nan])


def test_what_changes_the_posterior_unseen_is_refused():
    def subsampled():
        x = prior()
        with pyro.plate("data", 30, subsample_size=3):
            pyro.sample("y", dist.Normal(x, 1.0))

    def scaled_likelihood():
        x = prior()
        with poutine.scale(scale=0.5):
            pyro.sample("y", dist.Normal(x, 1.0).to_event(1))

    def scaled_prior():
        with poutine.scale(scale=0.5):
            x = prior()
        pyro.sample("y", dist.Normal(x, 1.0).to_event(1))

    def factor():
        x = prior()
        pyro.factor("potential", -(x.sum() ** 2))
        pyro.sample("y", dist.Normal(x, 1.0).to_event(1))

    data = [1.0, 2.0, 3.0]
    for model, message in [
        (subsampled, "'y' is scaled"),
        (scaled_likelihood, "'y' is scaled"),
        (scaled_prior, "'x' is scaled"),
        (factor, "'potential' is a pyro.factor"),
    ]:
        with pytest.raises(ModelError, match=message):
            read(model, latents=["x"], y=data)


@pytest.mark.parametrize(
    "fn",
    [
        dist.Normal(t(1.0), 1.0),
        dist.Poisson(t(3.0)),
        dist.StudentT(t(3.0), 0.0, 1.0),
        Skewed(t(0.3)),
        dist.Delta(t(1.0)),
    ],
    ids=lambda fn: type(fn).__name__,
)
def test_a_likelihood_of_nothing(fn):
    def model():
        prior()
        pyro.sample("y", fn)

    with pytest.raises(ModelError, match="'y' depends on no latent"):
        read(model, latents=["x"], y=[1.0])


OUTSIDE = {
    "Poisson": (lambda x: dist.Poisson(x.exp()).to_event(1), [1.0, -1.0, 2.0], "-1.0"),
    "Poisson of no count": (lambda x: dist.Poisson(x.exp()).to_event(1), [1.0, 1.5, 2.0], "1.5"),
    "Bernoulli": (lambda x: dist.Bernoulli(logits=x).to_event(1), [1.0, 0.0, 2.0], "2.0"),
    "Binomial": (lambda x: dist.Binomial(t(3.0, 9.0, 3.0), logits=x).to_event(1), [1.0, 4.0, 4.0], "4.0"),
    "LogNormal": (lambda x: dist.LogNormal(x, 1.0).to_event(1), [1.0, -0.5, 2.0], "-0.5"),
    "Beta": (lambda x: dist.Beta(x.exp(), 1.0).to_event(1), [0.1, 0.2, 1.2], "1.2"),
    "Categorical": (lambda x: dist.Categorical(logits=x).expand([2]).to_event(1), [1.0, 3.0], "3.0"),
    "Categorical, in part": (
        lambda x: dist.Categorical(logits=x).expand([2]).to_event(1),
        [1.5, nan],
        "1.5",
    ),
    "Dirichlet": (lambda x: dist.Dirichlet(x.exp()), [0.1, 0.2, 0.3], r"\[0.1, 0.2, 0.3\]"),
    "Interval": (lambda x: sp.Interval(dist.Normal(x, 1.0), -1.0, 1.0).to_event(1), [1.0, 0.0, 0.3], "0.3"),
    "Uniform": (lambda x: dist.Uniform(x - 1, x + 1).to_event(1), [1.0, 99.0, 0.3], "99.0"),
}


@pytest.mark.parametrize("case", OUTSIDE)
def test_data_outside_the_support(case):
    fn, y, wrong = OUTSIDE[case]
    family = case.split(",")[0].split()[0]
    with pytest.raises(ModelError, match=rf"'y': the data are outside the support of {family}, .*: {wrong}"):
        read(with_likelihood(fn), y=y)


COVARIANCES = {
    "no noise": lambda x: dist.Normal(x, t(1.0, 0.0, 1.0)).to_event(1),
    "negative": lambda x: dist.Normal(x, t(1.0, -1.0, 1.0)).to_event(1),
    "negative at times": lambda x: dist.Normal(x, x).to_event(1),
    "a direction without noise": lambda x: dist.LowRankMultivariateNormal(
        x, torch.ones((3, 1), dtype=D), t(1e-17, 1e-17, 1e-17)
    ),
    "two equal numbers": lambda x: dist.MultivariateNormal(
        x, scale_tril=torch.tensor([[1.0, 0, 0], [1.0, 1e-9, 0], [0, 0, 1.0]], dtype=D)
    ),
    "singular at times": lambda x: dist.LogNormal(x, torch.relu(x)).to_event(1),
}


@pytest.mark.parametrize("case", COVARIANCES)
def test_singular_covariance(case):
    with pyro.validation_enabled(False):
        model = with_likelihood(COVARIANCES[case])
        with pytest.raises(ModelError, match=r"'y': its covariance is singular or not positive.*dist.Delta"):
            read(model, y=[1.0, 2.0, 3.0])


@pytest.mark.parametrize("when", ["at once", "at times"])
def test_a_covariance_that_torch_refuses(when):
    """The distribution cannot be made, so the name of its site is not known: that of the one before is."""
    ones = torch.ones((3, 3), dtype=D)

    def fn(x):
        noise = 0.0 if when == "at once" else torch.relu(x[0] + 1.0)
        return dist.MultivariateNormal(x, ones + noise * torch.eye(3, dtype=D))

    with pytest.raises(ModelError, match="the site after 'x' has a covariance that is singular or not"):
        read(with_likelihood(fn), y=[1.0, 2.0, 3.0])


def test_what_was_not_observed_may_have_no_noise():
    with pyro.validation_enabled(False):
        (site,) = read(with_likelihood(COVARIANCES["no noise"]), y=[1.0, nan, 3.0])
    assert site.H is not None


def discrete(x):
    k = pyro.sample("k", dist.Bernoulli(torch.tensor(0.02, dtype=D)))
    return dist.Normal(x + k, 1.0).to_event(1)


def hidden_discrete(x):
    """Inspection does not see through an assignment in place; that the draws differ shows it."""
    k = pyro.sample("k", dist.Bernoulli(torch.tensor(0.5, dtype=D)))
    mean = torch.zeros(3, dtype=D)
    mean[1] = float(k)
    return dist.Poisson((x + mean).exp()).to_event(1)


def continuous(x):
    u = pyro.sample("u", dist.Normal(torch.zeros(3, dtype=D), 1.0).to_event(1))
    return dist.StudentT(3.0, x + u, 1.0).to_event(1)


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (discrete, r"\(\['x'\]\) nor given as data: site 'k', which is discrete; sum it out"),
        (hidden_discrete, r"\(\['x'\]\) nor given as data"),
        (continuous, r"\(\['x'\]\) nor given as data: site 'u'$"),
    ],
    ids=["discrete", "hidden", "continuous"],
)
@pytest.mark.filterwarnings("ignore:Converting a tensor")
def test_what_is_random_besides(fn, message):
    with pytest.raises(ModelError, match=r"'y' depends on something random that is neither .*" + message):
        read(with_likelihood(fn), latents=["x"], y=[1.0, 2.0, 3.0])
    if fn is discrete:
        with pytest.raises(ModelError, match="latent site 'k' is discrete"):
            find_sites(with_likelihood(fn))
        (site,) = read(with_likelihood(fn), latents=["x"], y=[1.0, 2.0, 3.0], k=1.0)
        torch.testing.assert_close(site.offset, t(1.0, 1.0, 1.0))


class Simulator(dist.TorchDistribution):
    """Draws can be had of it, a density not."""

    arg_constraints = {}
    support = dist.constraints.real_vector

    def __init__(self, loc):
        self.loc = loc
        super().__init__(torch.Size(), loc.shape, validate_args=False)

    def sample(self, sample_shape=()):
        return self.loc + torch.randn(self.loc.shape).to(self.loc)


class Broken(Skewed):
    def log_prob(self, value):
        return super().log_prob(value) + torch.sqrt(self.loc)


class Never(Skewed):
    def log_prob(self, value):
        return -torch.inf + super().log_prob(value)


NO_DENSITY = {
    "no log_prob": (lambda x: Simulator(x), "'y': Simulator has no log_prob"),
    "nan": (lambda x: Broken(x).to_event(1), r"'y': its log_prob is NaN at 88 of 100 draws.*such as x = \["),
    "impossible": (
        lambda x: Never(x).to_event(1),
        "'y': the density of the data is zero, or infinite, at all of 100 draws",
    ),
    "curved delta": (
        lambda x: dist.Delta(x**2, event_dim=1),
        "'y' is a Delta of something that is not affine",
    ),
    "rounded delta": (lambda x: dist.Delta(x.round(), event_dim=1), "'y' is a Delta of something"),
    "weighted delta": (
        lambda x: dist.Delta(x, log_density=-(x.sum() ** 2), event_dim=1),
        "'y' is a Delta with a log_density",
    ),
    "latent mask": (
        lambda x: dist.Normal(x, 1.0).mask(x > 0.2).to_event(1),
        "'y': its mask depends on the latents",
    ),
}


@pytest.mark.parametrize("case", NO_DENSITY)
def test_what_has_no_density_to_condition_on(case):
    fn, message = NO_DENSITY[case]
    with pytest.raises(ModelError, match=message):
        read(with_likelihood(fn), y=[1.0, 2.0, 3.0])
