"""What else an observation of sites gives: Jacobians, gradients, array code, joints, constraints."""

import warnings

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from checks import array, host
from observed_models import PART, X, Z, compiled, event, expected_log_prob, log_prob
from site_models import AFFINE_FAMILIES, ALL, A, B, D, eta, nan, prior, read, t, with_likelihood

import sdeppl as sp
from sdeppl.likelihood import families
from sdeppl.query import observation_of

pytestmark = pytest.mark.filterwarnings("ignore::sdeppl.tracing.SlowDrawsWarning")


@pytest.mark.parametrize(
    "name",
    [
        "family: poisson",
        "family: censored",
        "family: mixture of shifts",
        "curved family: softplus rate",
        "curved family: squared location",
        "gaussian: multivariate",
        "gaussian: curved",
        "gaussian: lognormal",
        "latent noise: scale",
        "latent noise: covariance",
    ],
)
def test_jacobians_are_those_of_the_predictor(name, precise):
    """In standardised coordinates: ∂η/∂x = ∂η/∂z diag(scale), by automatic differentiation of the site."""
    (site,), _ = compiled(name)
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
    (site,), _ = compiled(name)
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
    found = log_prob(observation, precise)
    observation.site_approximation(observation.linearise(array(X, precise)), array(np.ones(3), precise))
    assert len(calls) == before
    assert type(observation.log_density) is ARRAY_CODE[name]
    expected = expected_log_prob(model, y=y)
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
    expected = expected_log_prob(several, **data)
    found = log_prob(observation, precise)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)
    parts = sum(log_prob(observation_of([site], PART, precise), precise) for site in sites)
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
    expected = expected_log_prob(model, **data)
    np.testing.assert_allclose(log_prob(observation, precise), expected, rtol=1e-10)


def test_nothing_observed_is_an_observation_of_nothing(precise):
    sites = read(several, latents=["x"], n=[nan] * 3, a=[nan] * 3, c=nan)
    observation = observation_of(sites, PART, precise)
    assert (observation.count, observation.dim) == (0, 3)
    np.testing.assert_array_equal(log_prob(observation, precise), np.zeros(6))


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

    def twice():
        x = prior()
        pyro.sample("one", dist.Delta(x[0]))
        pyro.sample("other", dist.Delta(1 - x[0]))

    with pytest.raises(
        sp.ModelError, match=r"sites \['one', 'other'\] together: the 2 rows of H .* depend on"
    ):
        observation_of(read(twice, one=1.0, other=0.0), PART, precise)


ROUNDED = {
    "gaussian": lambda x: dist.Normal(x.round(), 0.5).to_event(1),
    "family": lambda x: dist.Poisson(x.round().exp()).to_event(1),
    "density": lambda x: dist.StudentT(t(3.0), x.round(), x.round().exp()).to_event(1),
    "in NumPy": lambda x: dist.Normal(torch.as_tensor(np.sin(x.numpy())), 0.5).to_event(1),
}


@pytest.mark.parametrize("kind", ROUNDED)
def test_what_cannot_be_differentiated_has_its_density_only(kind, precise):
    model = with_likelihood(ROUNDED[kind])
    sites = read(model, latents=["x"], y=[1.0, 2.0, 0.0])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        observation = observation_of(sites, PART, precise)
    slow = [str(one.message) for one in said if one.category is sp.tracing.SlowDrawsWarning]
    assert [text[:8] for text in slow] == (["site 'y'"] if kind == "in NumPy" else [])
    found = log_prob(observation, precise)
    expected = expected_log_prob(model, y=[1.0, 2.0, 0.0])
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
    np.testing.assert_allclose(log_prob(observation, precise), expected.detach().numpy(), rtol=1e-10)
    np.testing.assert_allclose(host(observation.gradient(array(X, precise))), slope, rtol=1e-10, atol=1e-12)
