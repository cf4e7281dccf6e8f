"""A function trained elsewhere as a denoiser: what it predicts, and Tweedie's covariance from its slope."""

import numpy as np
import pytest
import torch
from checks import array, assert_array, covariance_matrix, host

import sdeppl as sp

WEIGHTS = np.array([0.3, 0.7])
MEANS = np.array([[2.0, -1.0, 0.5], [-1.0, 0.5, 1.5]])
COVARIANCES = np.stack([covariance_matrix(3, seed=6), 0.4 * covariance_matrix(3, seed=7)])
X = np.random.default_rng(3).standard_normal((5, 3)) + np.array([0.5, 0.0, 1.0])
V = np.random.default_rng(4).standard_normal((5, 3))
SDES = [sp.VPSDE(), sp.VESDE(0.05, 5.0), sp.LinearSDE(0.6, 1.1), sp.ShiftedVPSDE(1.5)]
PREDICTIONS = ("mean", "eps", "score", "v")


def mixture(backend, sde):
    return sp.GaussianMixtureDenoiser(sde, *(array(a, backend) for a in (WEIGHTS, MEANS, COVARIANCES)))


def function(exact, predicts):
    """What a network that predicts this would have learned."""
    if predicts != "v":
        return getattr(exact, predicts)
    return lambda x, t: exact.sde.alpha(t) * exact.eps(x, t) - exact.sde.sigma(t) * exact.mean(x, t)


@pytest.mark.parametrize("predicts", PREDICTIONS)
@pytest.mark.parametrize("sde", SDES, ids=repr)
@pytest.mark.parametrize("t", [0.03, 0.5, 1.0])
def test_moments_are_those_of_the_mixture(predicts, sde, t, precise):
    """In torch exactly, elsewhere by differences, to 1e-8 of the largest entry."""
    exact = mixture(precise, sde)
    box = sp.CallableDenoiser(sde, function(exact, predicts), dim=3, backend=precise, predicts=predicts)
    x, v = array(X, precise), array(V, precise)
    found, wanted = box(x, t), exact(x, t)
    tolerance = 1e-9 if precise.name == "torch" else 1e-7
    assert_array(box.mean(x, t), host(wanted.mean), precise, 1e-9)
    assert_array(found.mean, host(wanted.mean), precise, 1e-9)
    covariance = host(wanted.covariance.dense())
    assert_array(found.covariance @ v, (covariance @ V[..., None])[..., 0], precise, tolerance)
    assert_array(found.covariance.matmat(v.T), covariance @ V.T, precise, tolerance)
    assert_array(found.covariance.dense(), covariance, precise, tolerance)


def test_a_module_behind_the_bridge_gives_its_own_products():
    """A torch module on NumPy arrays: exact products, as of the module on tensors; seed 0."""

    class Eps(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(3, 3, dtype=torch.float64)

        def forward(self, x, t):
            return torch.tanh(self.layer(x)) + t * x

    module, x, t = Eps(), array(X, sp.resolve("numpy")), 0.4
    options = {"dim": 3, "predicts": "eps"}
    bridged = sp.CallableDenoiser(sp.VPSDE(), sp.TorchFunction(module), backend="numpy", **options)
    direct = sp.CallableDenoiser(sp.VPSDE(), module, backend="torch", **options)
    found, wanted = bridged(x, t), direct(torch.tensor(X), t)
    assert_array(found.mean, wanted.mean.detach(), bridged.backend, 1e-12)
    assert_array(found.covariance.dense(), wanted.covariance.dense(), bridged.backend, 1e-12)


def test_a_posterior_from_an_eps_net_alone():
    """Corrected draws of a query with no covariance given are those with the mixture's own; seed 1."""
    backend = sp.resolve("torch")
    exact = mixture(backend, sp.VPSDE())
    seen = sp.LinearGaussian(*(array(a, backend) for a in ([[1.0, 0.5, 0.0]], [0.8])), 0.2)
    box = sp.CallableDenoiser(exact.sde, exact.eps, dim=3, backend=backend, predicts="eps")
    known = sp.CallableDenoiser(exact.sde, exact.mean, lambda x, t: exact(x, t).covariance, 3, backend)
    draws = [sp.Posterior(prior, seen, steps=30).sample(200, seed=1) for prior in (box, known)]
    assert_array(draws[0], host(draws[1]), backend, 1e-6)


def test_a_gradient_passes_through_the_mean():
    exact, t = mixture(sp.resolve("torch"), sp.VPSDE()), 0.5
    box = sp.CallableDenoiser(exact.sde, exact.eps, dim=3, backend="torch", predicts="eps")
    x = torch.tensor(X, requires_grad=True)
    (slope,) = torch.autograd.grad(box(x, t).mean[:, 0].sum(), x)
    wanted = exact.sde.alpha(t) / exact.sde.sigma(t) ** 2 * exact(x.detach(), t).covariance.dense()[:, 0, :]
    np.testing.assert_allclose(slope, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({}, r"dim, the count of numbers in x_0, must be a whole number, at least 1; got 0"),
        ({"dim": 3, "predicts": "noise"}, r"predicts must be 'mean', 'eps', 'score' or 'v'; got 'noise'"),
    ],
)
def test_wrong_options_are_named(options, error):
    with pytest.raises(ValueError, match=error):
        sp.CallableDenoiser(sp.VPSDE(), lambda x, t: x, **options)
