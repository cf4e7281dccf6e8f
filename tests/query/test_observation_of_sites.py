"""Observed sites compiled to an observation of the standardised latents: ln p is the model's own."""

from functools import cache

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from checks import array, assert_array, host
from site_models import AFFINE_FAMILIES, ALL, A, B, D, eta, nan, own_log_prob, prior, read, t, with_likelihood

import sdeppl as sp
from sdeppl.likelihood import families
from sdeppl.query import GaussianPart, observation_of, posterior_probes

pytestmark = pytest.mark.filterwarnings("ignore::sdeppl.tracing.SlowDrawsWarning")
C = torch.tensor([[1.0, 0.3, -0.2], [0.3, 1.0, 0.4], [-0.2, 0.4, 1.0]], dtype=D)
values, vectors = torch.linalg.eigh(C)
PART = GaussianPart(t(0.4, -0.3, 0.2), t(0.7, 1.5, 0.3), vectors, values, 1000)
X = np.random.default_rng(5).normal(size=(6, 3))
Z = PART.location + PART.scale * torch.tensor(X)


def event(fn):
    """Independent numbers as one event."""
    return with_likelihood(lambda x: fn(x).to_event(len(fn(x).batch_shape)))


@cache
def compiled(name, missing=False):
    """The model, its data, and its site."""
    fn, y = ALL[name]
    y = [y[0], nan, y[2]] if missing else y
    model = event(fn)
    return model, y, read(model, y=y)


@pytest.mark.parametrize("name", ALL)
def test_log_prob_is_that_of_the_trace(name, precise):
    model, y, sites = compiled(name)
    observation = observation_of(sites, PART, precise)
    expected = torch.stack([own_log_prob(model, z, y=y) for z in Z]).numpy()
    found = host(observation.log_prob(array(X, precise)))
    finite = np.isfinite(expected)
    assert finite.any()
    np.testing.assert_array_equal(found[~finite], expected[~finite])
    np.testing.assert_allclose(found[finite], expected[finite], rtol=1e-10, atol=1e-10)
    assert_array(observation.log_prob(array(X, precise))[1:2], found[1:2], precise)
    alone = host(observation.log_prob(array(X[2:3], precise)))
    np.testing.assert_allclose(alone, found[2:3], rtol=1e-12)
    kind = name.partition(": ")[0]
    assert observation.is_linear == (kind == "gaussian" and "curved" not in name)
    assert observation.is_gaussian == (kind in ("gaussian", "latent noise"))
    assert observation.has_jacobian == (kind != "density")


SOME = [
    "family: poisson",
    "family: censored",
    "family: interval",
    "family: student",
    "family: binomial",
    "family: heavy-tailed mixture",
    "family: von mises",
    "curved family: squared location",
    "gaussian: multivariate",
    "gaussian: curved",
    "gaussian: lognormal",
    "latent noise: scale",
    "latent noise: covariance",
    "density: two parameters",
]


@pytest.mark.parametrize("name", SOME)
def test_what_was_not_observed_is_left_out(name, precise):
    model, y, sites = compiled(name, missing=True)
    observation = observation_of(sites, PART, precise)
    expected = torch.stack([own_log_prob(model, z, y=y) for z in Z]).numpy()
    found = host(observation.log_prob(array(X, precise)))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    if observation.has_jacobian:
        assert (observation.count, observation.linearise(array(X, precise)).predicted.shape) == (2, (6, 2))


@pytest.mark.parametrize("name", [name for name in ALL if not name.startswith("density")])
def test_jacobians_are_those_of_the_predictor(name, precise):
    """In standardised coordinates: ∂η/∂x = ∂η/∂z diag(scale), by automatic differentiation of the site."""
    _, _, (site,) = compiled(name)
    linear = observation_of([site], PART, precise).linearise(array(X, precise))
    function = getattr(site, "predictor", None) or site.mean
    predicted = torch.stack([function(z) for z in Z]).numpy()
    slopes = torch.stack([torch.func.jacrev(function)(z) * PART.scale for z in Z]).numpy()
    H = host(linear.H)
    if getattr(site, "H", None) is not None:
        # a Gaussian's offset is in its data, since only y - predicted counts
        shift = host(linear.predicted) - predicted
        np.testing.assert_allclose(shift, np.broadcast_to(shift[:1], shift.shape), atol=1e-9)
        np.testing.assert_allclose(np.broadcast_to(H, slopes.shape), slopes, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(host(linear.predicted) - shift[0], predicted, rtol=1e-9, atol=1e-9)
    else:
        np.testing.assert_allclose(host(linear.predicted), predicted, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(H, slopes, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", [name for name in ALL if name.startswith("density")])
def test_gradients_of_densities(name, precise):
    _, _, (site,) = compiled(name)
    observation = observation_of([site], PART, precise)
    found = host(observation.gradient(array(X, precise)))
    expected = torch.stack([torch.func.grad(site.log_prob)(z) * PART.scale for z in Z]).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


ARRAY_CODE = {
    "poisson": families.Poisson,
    "bernoulli by logits": families.Bernoulli,
    "bernoulli by probs": families.Bernoulli,
    "binomial": families.Binomial,
    "binomial by logits": families.Binomial,
    "negative binomial": families.NegativeBinomial,
    "student": families.StudentT,
    "laplace": families.Laplace,
    "censored": families.Censored,
    "heavy-tailed mixture": families.NormalMixture,
    "ordered": families.Ordinal,
    "intervals": families.Interval,
}
MORE = {
    "ordered": (lambda x: dist.OrderedLogistic(eta(x), t(-1.0, 0.5, 1.5)), [3.0, 0.0, 1.0]),
    "intervals": (
        lambda x: sp.Interval(dist.Normal(eta(x), 0.5), t(-1.0, -9.0, 0.0), t(2.0, 0.3, torch.inf)),
        [1.0, 1.0, 1.0],
    ),
}


@pytest.mark.filterwarnings("ignore:Converting a tensor")
@pytest.mark.parametrize("name", ARRAY_CODE)
def test_affine_families_of_array_code_never_run_the_model(name, precise):
    calls = []
    fn, y = {**AFFINE_FAMILIES, **MORE}[name]

    def counted(x):
        calls.append(1)
        return fn(x)

    model = event(counted)
    observation = observation_of(read(model, y=y), PART, precise)
    before = len(calls)
    found = host(observation.log_prob(array(X, precise)))
    observation.surrogate(observation.linearise(array(X, precise)), array(np.ones(3), precise))
    assert len(calls) == before
    assert type(observation.log_density) is ARRAY_CODE[name]
    expected = torch.stack([own_log_prob(model, z, y=y) for z in Z]).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


def several():
    x = prior()
    n = pyro.sample("n", dist.Poisson(eta(x).exp()).to_event(1))
    pyro.sample("a", dist.Normal(A @ x, 0.5).to_event(1))
    pyro.sample("b", dist.Normal(B + n * x**2, x.exp()).to_event(1))
    pyro.sample("c", dist.Categorical(logits=A @ x))


def test_several_sites_are_their_joint(precise):
    data = {"n": [3.0, 1.0, 4.0], "a": [0.2, nan, 0.7], "b": [1.0, 2.0, nan], "c": 2.0}
    sites = read(several, latents=["x"], **data)
    observation = observation_of(sites, PART, precise)
    expected = torch.stack([own_log_prob(several, z, **data) for z in Z]).numpy()
    found = host(observation.log_prob(array(X, precise)))
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)
    parts = sum(host(observation_of([site], PART, precise).log_prob(array(X, precise))) for site in sites)
    np.testing.assert_allclose(found, parts, rtol=1e-10, atol=1e-10)
    assert not observation.has_jacobian
    assert observation_of(sites[:3], PART, precise).has_jacobian


def test_affine_gaussian_sites_become_one(precise):
    def model():
        x = prior()
        pyro.sample("a", dist.Normal(A @ x + B, 0.5).to_event(1))
        pyro.sample("b", dist.MultivariateNormal(x, A @ A.T + torch.eye(3, dtype=D)))
        pyro.sample("u", dist.StudentT(t(3.0), x, 1.0).to_event(1))

    data = {"a": [0.2, nan, 0.7], "b": [1.0, 2.0, -0.4], "u": [nan, nan, nan]}
    sites = read(model, **data)
    observation = observation_of(sites, PART, precise)
    assert isinstance(observation, sp.LinearGaussian)
    assert (observation.count, observation.is_linear) == (5, True)
    expected = torch.stack([own_log_prob(model, z, **data) for z in Z]).numpy()
    np.testing.assert_allclose(host(observation.log_prob(array(X, precise))), expected, rtol=1e-10)


def test_nothing_observed_is_an_observation_of_nothing(precise):
    sites = read(several, latents=["x"], n=[nan] * 3, a=[nan] * 3, c=nan)
    observation = observation_of(sites, PART, precise)
    assert (observation.count, observation.dim) == (0, 3)
    np.testing.assert_array_equal(host(observation.log_prob(array(X, precise))), np.zeros(6))


def test_constraints(precise):
    def model():
        x = prior()
        pyro.sample("total", dist.Delta((A @ x + B)[:2], event_dim=1))

    observation = observation_of(read(model, total=[1.0, 2.0]), PART, precise)
    assert observation.hard and observation.is_linear
    linear = observation.linearise(array(X, precise))
    residual = host(observation.y) - host(linear.predicted)
    np.testing.assert_allclose(residual, t(1.0, 2.0) - (Z @ A.T + B)[:, :2], rtol=1e-12, atol=1e-12)

    def dependent():
        x = prior()
        pyro.sample("total", dist.Delta(torch.stack([x[0], 2 * x[0] + 1]), event_dim=1))

    with pytest.raises(sp.ModelError, match=r"site 'total': the 2 rows of H .* depend on one"):
        observation_of(read(dependent, total=[1.0, 3.0]), PART, precise)


ROUNDED = {
    "gaussian": lambda x: dist.Normal(x.round(), 0.5).to_event(1),
    "family": lambda x: dist.Poisson(x.round().exp()).to_event(1),
    "density": lambda x: dist.StudentT(t(3.0), x.round(), x.round().exp()).to_event(1),
    "in NumPy": lambda x: dist.Normal(torch.as_tensor(np.sin(x.numpy())), 0.5).to_event(1),
}


@pytest.mark.parametrize("kind", ROUNDED)
def test_what_cannot_be_differentiated_has_its_density_only(kind, precise):
    model = with_likelihood(ROUNDED[kind])
    observation = observation_of(read(model, latents=["x"], y=[1.0, 2.0, 0.0]), PART, precise)
    found = host(observation.log_prob(array(X, precise)))
    expected = torch.stack([own_log_prob(model, z, y=[1.0, 2.0, 0.0]) for z in Z]).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)
    assert not observation.has_jacobian
    with pytest.raises(sp.NotDifferentiable, match="monte-carlo"):
        observation.linearise(array(X, precise))


def test_a_classifier_on_the_latent(precise):
    """Classifier guidance: ∂ ln p(class 2 | x)/∂x of a torch network."""
    generator = torch.Generator().manual_seed(5)
    net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 4)).double()
    for parameter in net.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=D)

    def model():
        pyro.sample("y", dist.Categorical(logits=net(prior())))

    observation = observation_of(read(model, y=2), PART, precise)
    x = torch.tensor(X, requires_grad=True)
    expected = torch.log_softmax(net(PART.location + PART.scale * x), dim=-1)[:, 2]
    (slope,) = torch.autograd.grad(expected.sum(), x)
    np.testing.assert_allclose(
        host(observation.log_prob(array(X, precise))), expected.detach().numpy(), rtol=1e-10
    )
    np.testing.assert_allclose(host(observation.gradient(array(X, precise))), slope, rtol=1e-10, atol=1e-12)


# ---- points near the posterior ------------------------------------------------------------------

NEAR = {
    "poisson": (lambda x: dist.Poisson((2 * x + 1).exp()), 9.0),
    "curved": (lambda x: dist.Normal(x + 0.2 * x**2, 0.3), 2.0),
    "latent noise": (lambda x: dist.Normal(x, 0.3 * (0.4 * x).exp()), 2.0),
    "censored": (lambda x: sp.Censored(dist.Normal(x, 0.2), high=2.0), 2.0),
}


@pytest.mark.parametrize("name", NEAR)
def test_probes_are_near_the_posterior(name):
    """One latent, prior N(0, 1), posterior by quadrature: 400 probes within half a posterior sd of it."""
    fn, y = NEAR[name]

    def model():
        x = pyro.sample("x", dist.Normal(torch.zeros((), dtype=D), 1.0))
        pyro.sample("y", fn(x))

    sites = read(model, y=y)
    part = GaussianPart(t(0.0), t(1.0), torch.ones((1, 1), dtype=D), t(1.0), 1000)
    draws = torch.randn((400, 1), generator=torch.Generator().manual_seed(7), dtype=D)
    probes = posterior_probes(sites, part, draws, 0)
    grid = torch.linspace(-6, 6, 4001, dtype=D)
    weight = (fn(grid).log_prob(torch.tensor(y, dtype=D)) - grid**2 / 2).exp()
    weight = weight / weight.sum()
    mean = (grid * weight).sum()
    sd = ((grid - mean) ** 2 * weight).sum().sqrt()
    assert abs(probes.mean() - mean) < 0.5 * sd
    assert 0.5 * sd < probes.std() < 2 * sd


def test_no_probes_where_nothing_says_where():
    _, _, sites = compiled("density: two parameters")
    assert posterior_probes(sites, PART, Z, 0) is None
    model = event(AFFINE_FAMILIES["poisson"][0])
    assert posterior_probes(read(model, y=[nan] * 3), PART, Z, 0) is None
