"""A network on top of the Gaussian part: its mean, and the covariance from its Jacobian."""

import numpy as np
import pytest
import torch
from checks import array, assert_array, covariance_matrix, host, torch_device

import sdeppl as sp
from sdeppl.backend import TorchFunction
from sdeppl.linalg import Dense

MEAN = np.array([2.0, -1.0, 0.5])
X = np.random.default_rng(3).standard_normal((5, 3)) + np.array([1.0, 0.0, 0.5])
SDES = [sp.VPSDE(), sp.VESDE(0.05, 5.0), sp.LinearSDE(0.6, 1.1)]
FULL = covariance_matrix(3, seed=6)
DEGENERATE = FULL[:, :2] @ FULL[:2, :]


def random_network(rank, dtype):
    """A residual MLP whose last layer is not zero."""
    torch.manual_seed(1)
    net = sp.ResidualMLP(rank, width=16, depth=2, frequencies=4)
    torch.nn.init.normal_(net.leave.weight, std=0.3)
    torch.nn.init.normal_(net.leave.bias, std=0.3)
    return net.to(dtype)


def network_denoiser(backend, sde, covariance, dtype=torch.float64):
    gaussian = sp.GaussianDenoiser(sde, array(MEAN, backend), array(covariance, backend))
    device = torch_device(backend)
    net = random_network(gaussian.basis.shape[1], dtype).to(device)
    return sp.NetworkDenoiser(gaussian, TorchFunction(net)), net.cpu() if device == "cpu" else net


def mean_in_torch(x, denoiser, net, t):
    """m + α C V⁻¹ (x - α m) + V (scale · ρ² · net(whitened, ln α/σ)), written out again in torch."""
    gaussian, sde = denoiser.gaussian, denoiser.sde
    basis, eigenvalues = (torch.tensor(host(a)) for a in (gaussian.basis, gaussian.eigenvalues))
    mean = torch.tensor(MEAN)
    alpha, sigma = sde.alpha(t), sde.sigma(t)
    variance = alpha**2 * eigenvalues + sigma**2
    centred = (x - alpha * mean) @ basis
    output = net(centred / variance.sqrt(), sde.half_log_snr(t))
    # ρ² = α² λ/variance, times the conditional sd σ √(λ/variance)
    reach = alpha**2 * eigenvalues / variance * sigma * (eigenvalues / variance).sqrt()
    return mean + (alpha * eigenvalues / variance * centred + reach * output) @ basis.T


@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize("t", [0.05, 0.5, 1.0])
@pytest.mark.parametrize("covariance", [FULL, DEGENERATE], ids=["full", "rank 2"])
def test_mean_and_covariance_are_those_of_autograd(sde, t, covariance, precise):
    """C v is σ²/α Jᵀ v, with J by torch.autograd; `dense` is its symmetric part."""
    if precise.name == "cupy" or "cuda" in str(precise.device):
        pytest.skip("the reference is computed on the CPU")
    denoiser, net = network_denoiser(precise, sde, covariance)
    x = torch.tensor(X)
    expected = mean_in_torch(x, denoiser, net, t).detach().numpy()
    jacobian = torch.stack(
        [
            torch.autograd.functional.jacobian(lambda r: mean_in_torch(r[None], denoiser, net, t)[0], row)
            for row in x
        ]
    ).numpy()
    scaled = sde.sigma(t) ** 2 / sde.alpha(t) * jacobian
    moments = denoiser(array(X, precise), t)
    assert_array(moments.mean, expected, precise)
    assert_array(denoiser.mean(array(X, precise), t), expected, precise)
    assert not moments.covariance.shared and not moments.covariance.materialised
    v = np.random.default_rng(0).standard_normal(X.shape)
    assert_array(moments.covariance @ array(v, precise), np.einsum("bi,bij->bj", v, scaled), precise, 1e-9)
    symmetric = 0.5 * (scaled + np.swapaxes(scaled, 1, 2))
    assert_array(moments.covariance.dense(), symmetric, precise, 1e-9)


@pytest.mark.parametrize("sde", SDES)
def test_at_the_noisiest_level_an_error_of_the_network_does_not_reach_the_covariance(sde, precise):
    """Where x_t says nothing, no training makes its Jacobian small: weights at random change C by a share of
    ρ, the correlation of x_t with x_0, and not by all of it."""
    denoiser, _ = network_denoiser(precise, sde, FULL)
    x, T = array(X, precise), sde.T
    wanted = host(denoiser.gaussian(x, T).covariance.dense())
    change = np.linalg.norm(host(denoiser(x, T).covariance.dense()) - wanted, axis=(1, 2))
    ratio = np.linalg.norm(change / np.linalg.norm(wanted)) / sde.alpha(T) * sde.sigma(T)
    middle = host(denoiser(x, 0.3 * T).covariance.dense()) - host(
        denoiser.gaussian(x, 0.3 * T).covariance.dense()
    )
    assert np.linalg.norm(middle) > 1e-3 and ratio < 10


def test_a_float32_network_answers_in_the_backends_dtype(backend):
    denoiser, _ = network_denoiser(backend, sp.VPSDE(), FULL, torch.float32)
    exact, _ = network_denoiser(sp.resolve("numpy"), sp.VPSDE(), FULL)
    moments, expected = denoiser(array(X, backend), 0.3), exact(X, 0.3)
    if "32" in str(backend.dtype):
        signs = np.sign(np.sum(host(denoiser.gaussian.basis) * exact.gaussian.basis, axis=0))
        if not np.all(signs > 0):  # an eigenvector is unique up to its sign, which the network sees
            pytest.skip("the eigenbasis in float32 has other signs than that in float64")
    assert_array(moments.mean, expected.mean, backend, 1e-4)
    assert_array(moments.covariance.dense(), expected.covariance.dense(), backend, 1e-4)


def test_an_untrained_network_leaves_the_gaussian_part(backend):
    gaussian = sp.GaussianDenoiser(sp.VPSDE(), array(MEAN, backend), array(FULL, backend))
    device = torch_device(backend)
    denoiser = sp.NetworkDenoiser(gaussian, TorchFunction(sp.ResidualMLP(3).to(device)))
    x = array(X, backend)
    assert_array(denoiser.mean(x, 0.4), host(gaussian.mean(x, 0.4)), backend)
    expected = np.broadcast_to(host(gaussian(x, 0.4).covariance.dense()), (5, 3, 3))
    assert_array(denoiser(x, 0.4).covariance.dense(), expected, backend)


def test_score_and_eps_follow_from_the_mean(precise):
    """ε̂ = -σ s and s = (α E[x_0 | x_t] - x)/σ², for any denoiser."""
    sde, t = sp.VPSDE(), 0.4
    denoiser, _ = network_denoiser(precise, sde, FULL)
    x = array(X, precise)
    score = (sde.alpha(t) * host(denoiser.mean(x, t)) - X) / sde.sigma(t) ** 2
    assert_array(denoiser.score(x, t), score, precise)
    assert_array(denoiser.eps(x, t), -sde.sigma(t) * score, precise)


def test_a_black_box_gives_what_it_was_given(backend):
    x = array(X, backend)
    matrix = Dense(array(FULL, backend))
    box = sp.CallableDenoiser(sp.VPSDE(), lambda x, t: x * t, lambda x, t: matrix, 3, backend)
    assert (box.dim, box.backend) == (3, backend)
    assert_array(box.mean(x, 0.25), 0.25 * X, backend)
    assert_array(box(x, 0.25).mean, 0.25 * X, backend)
    assert box(x, 0.25).covariance is matrix
