"""How an observation's Jacobian and noise change with the latents: by one product, against differences."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from checks import array, host
from observed_models import PART, X, compiled
from site_models import nan, prior, read, t

import sdeppl as sp
from sdeppl.likelihood import Observation
from sdeppl.query import observation_of

pytestmark = pytest.mark.filterwarnings("ignore::sdeppl.tracing.SlowDrawsWarning")

CURVED = [
    "curved family: softplus rate",
    "curved family: squared location",
    "gaussian: curved",
    "latent noise: scale",
    "latent noise: covariance",
]


def weights(linear, seed=3):
    """Some for the Jacobian, and for R where it depends on the latents."""
    rng = np.random.default_rng(seed)
    of_H = rng.normal(size=(len(X), linear.predicted.shape[1], X.shape[1]))
    if linear.R is None:
        return of_H, None
    of_R = rng.normal(size=tuple(linear.R.shape))
    return of_H, of_R + np.swapaxes(of_R, -1, -2) if linear.R.ndim == 3 else of_R


def on(backend, *arrays):
    return [None if one is None else array(one, backend) for one in arrays]


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("name", CURVED)
def test_the_product_is_the_slope_of_the_weighted_jacobian_and_noise(name, missing, precise):
    """Against differences of order 4 of `linearise` (1e-10), for all weights and for those of R alone."""
    if "covariance" in name and missing:
        pytest.skip("a row of a multivariate normal is observed whole")
    (site,), _ = compiled(name, missing)
    observation = observation_of([site], PART, precise)
    x = array(X, precise)
    of_H, of_R = on(precise, *weights(observation.linearise(x)))
    by_hand = Observation.bend(observation, x, of_H, of_R)
    np.testing.assert_allclose(host(observation.bend(x, of_H, of_R)), host(by_hand), rtol=1e-7, atol=1e-7)
    assert np.abs(host(by_hand)).max() > 1e-2
    if of_R is not None:
        alone, by_hand = observation.bend(x, None, of_R), Observation.bend(observation, x, None, of_R)
        np.testing.assert_allclose(host(alone), host(by_hand), rtol=1e-7, atol=1e-7)


def mixed(y=None, k=None, w=None):
    x = prior()
    pyro.sample("y", dist.Normal(torch.stack([x[0] * x[1], x[2]]), x[:2].exp()).to_event(1), obs=y)
    pyro.sample("k", dist.Poisson(torch.nn.functional.softplus(x)).to_event(1), obs=k)
    pyro.sample("w", dist.Normal(x.sum() ** 2, 0.3), obs=w)


def test_parts_of_a_joint_add_up(precise):
    sites = read(mixed, y=[0.3, nan], k=[1.0, 0.0, nan], w=0.7)
    observation, x = observation_of(sites, PART, precise), array(X, precise)
    of_H, of_R = on(precise, *weights(observation.linearise(x)))
    by_hand = Observation.bend(observation, x, of_H, of_R)
    np.testing.assert_allclose(host(observation.bend(x, of_H, of_R)), host(by_hand), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", ["latent noise: scale", "latent noise: covariance"])
def test_the_gradient_of_a_density_with_noise_of_its_own(name, precise):
    """∂ ln N(y; A(x), R(x))/∂x against torch's own through the site's density."""
    (site,), _ = compiled(name)
    observation = observation_of([site], PART, precise)
    z = PART.location + PART.scale * torch.tensor(X)
    wanted = torch.stack([torch.func.grad(site.log_prob)(row) * PART.scale for row in z]).numpy()
    found = host(observation.log_prob_gradient(array(X, precise)))
    np.testing.assert_allclose(found, wanted, rtol=1e-8, atol=1e-8)


class Once(torch.autograd.Function):
    """z², with one derivative and no second."""

    generate_vmap_rule = True

    @staticmethod
    def forward(z):
        return z * z

    @staticmethod
    def setup_context(context, inputs, output):
        context.save_for_backward(*inputs)

    @staticmethod
    def backward(context, slope):
        return Twice.apply(slope, context.saved_tensors[0])


class Twice(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(slope, z):
        return 2 * slope * z

    @staticmethod
    def setup_context(context, inputs, output):
        pass

    @staticmethod
    def backward(context, slope):
        raise NotImplementedError("no second derivative")


def test_what_torch_differentiates_once_takes_differences():
    """Of y ~ N(z², 1) elementwise: H = 2 diag(z scale), so Σ W ∘ H has the slope 2 scale² diag(W)."""
    backend = sp.resolve("torch")

    def model(y=None):
        pyro.sample("y", dist.Normal(Once.apply(prior()), 1.0).to_event(1), obs=y)

    (site,) = read(model, y=[0.3, -0.2, 1.0])
    observation, x = observation_of([site], PART, backend), array(X, backend)
    of_H, _ = on(backend, *weights(observation.linearise(x)))
    assert observation.slopes(x, of_H, None) is None
    wanted = 2 * (PART.scale**2 * of_H.diagonal(dim1=-2, dim2=-1)).numpy()
    np.testing.assert_allclose(host(observation.bend(x, of_H)), wanted, rtol=1e-7, atol=1e-7)


def test_a_step_of_the_full_gradient_takes_a_few_jacobians_and_not_four_of_each_latent(monkeypatch):
    backend, rows = sp.resolve("torch"), []
    (site,), _ = compiled("latent noise: scale")
    observation = observation_of([site], PART, backend)
    linearise = type(observation).linearise
    monkeypatch.setattr(
        type(observation), "linearise", lambda self, x: rows.append(x.shape[0]) or linearise(self, x)
    )
    gaussian = sp.GaussianDenoiser(sp.VPSDE(), t(0.0, 0.1, 0.2), torch.eye(3, dtype=torch.float64))
    sp.TweedieDenoiser(gaussian, observation).mean(array(X, backend), 0.5)
    assert sum(rows) <= 2 * len(X)
