"""Networks on the grid: the mean, the covariance and its slope against autograd, for every structure."""

import numpy as np
import pytest
import torch
from checks import array, assert_array, covariance_matrix, host, torch_device

import sdeppl as sp
from sdeppl.backend import TorchFunction
from sdeppl.denoisers import OnGrid
from sdeppl.linalg import DiagonalisableBlocks, Spectral, Stationary

FIELD = sp.FieldShape(2, (4, 3), (True, False))
RNG = np.random.default_rng(5)
MEAN = RNG.standard_normal(26)
X = RNG.standard_normal((3, 26)) + 0.5
SDES = [sp.VPSDE(), sp.VESDE(0.05, 5.0), sp.LinearSDE(0.6, 1.1)]


def spectrum():
    """Variances of two channels, the same at k and -k along the periodic axis."""
    rows = np.array([3.0, 1.0, 0.4, 1.0])[:, None] / np.array([1.0, 2.0, 6.0])
    return np.concatenate([rows.reshape(-1), 0.5 * rows.reshape(-1)])


def covariance(backend):
    """A field of two channels, and two plain numbers."""
    plain = covariance_matrix(2, seed=1)
    values, basis = np.linalg.eigh(plain)
    field = Stationary(FIELD, array(spectrum(), backend))
    numbers = Spectral(array(basis, backend), array(values, backend))
    return DiagonalisableBlocks([field, numbers], [[slice(0, 24)], [slice(24, 26)]])


DENSE = covariance(sp.resolve("torch")).dense()


def network(dtype=torch.float64):
    torch.manual_seed(1)
    net = sp.FieldNetwork([FIELD, 2], sp.UNet(width=4, depth=1))
    for parameter in net.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    return net.to(dtype)


NET = network()


def on_grid(backend, sde, dtype=torch.float64):
    gaussian = sp.GaussianDenoiser(sde, array(MEAN, backend), covariance(backend))
    net = network(dtype).to(torch_device(backend))
    return sp.NetworkDenoiser(gaussian, TorchFunction(net), OnGrid)


def mean_in_torch(x, sde, t):
    """The formula with dense matrices: sd and ρ² of each number from the diagonals."""
    alpha, sigma, eye = sde.alpha(t), sde.sigma(t), torch.eye(26, dtype=torch.float64)
    C = DENSE
    inverse = torch.linalg.inv(alpha**2 * C + sigma**2 * eye)
    values, basis = torch.linalg.eigh(inverse)
    root = basis * values.sqrt() @ basis.T
    centred = x - alpha * torch.tensor(MEAN)
    left = (C - alpha**2 * C @ inverse @ C).diagonal()
    sd, explained = left.sqrt(), 1 - left / C.diagonal()
    output = NET(torch.cat([centred @ root, x], dim=-1), sde.half_log_snr(t))
    return torch.tensor(MEAN) + alpha * centred @ inverse @ C + sd * explained * output


@pytest.mark.parametrize("sde", SDES, ids=str)
@pytest.mark.parametrize("t", [0.05, 0.5, 1.0])
def test_mean_covariance_and_slope_are_those_of_autograd(sde, t, precise):
    """Also the adjoint identity: <C v, w> by the pullback is <v, J w> by jvp, where autograd has J."""
    denoiser, x = on_grid(precise, sde), torch.tensor(X)
    jacobian = torch.autograd.functional.jacobian(lambda r: mean_in_torch(r, sde, t).sum(dim=0), x)
    scaled = sde.sigma(t) ** 2 / sde.alpha(t) * jacobian.movedim(1, 0).numpy()
    moments = denoiser(array(X, precise), t)
    assert_array(moments.mean, mean_in_torch(x, sde, t).detach().numpy(), precise)
    assert_array(denoiser.mean(array(X, precise), t), host(moments.mean), precise)
    v = np.random.default_rng(0).standard_normal((2, *X.shape))
    wanted = np.einsum("kbi,bij->kbj", v, scaled)
    assert_array(moments.covariance.matvec(array(v, precise)), wanted, precise, 1e-9)
    assert moments.covariance.near is not None and moments.covariance.may_be_indefinite


def test_the_covariances_slope(precise):
    """Against autograd of v_aᵀ C v_b contracted with the weights."""
    sde, t = sp.VPSDE(), 0.4
    V, w = RNG.standard_normal((3, 26, 2)), RNG.standard_normal((3, 2))

    def contracted(z):
        rows = torch.func.vmap(torch.func.jacrev(lambda r: mean_in_torch(r[None], sde, t)[0]))(z)
        own = sde.sigma(t) ** 2 / sde.alpha(t) * rows
        return torch.einsum("bia,bij,bja,ba->", torch.tensor(V), own, torch.tensor(V), torch.tensor(w))

    wanted = torch.autograd.functional.jacobian(contracted, torch.tensor(X)).numpy()
    found = on_grid(precise, sde).covariance_slope(array(X, precise), t, array(V, precise), array(w, precise))
    assert_array(found, wanted, precise, 1e-8)


def test_an_untrained_network_leaves_the_best_linear_denoiser(backend):
    gaussian = sp.GaussianDenoiser(sp.VPSDE(), array(MEAN, backend), covariance(backend))
    net = sp.FieldNetwork([FIELD, 2]).to(torch_device(backend))
    denoiser, x = sp.NetworkDenoiser(gaussian, TorchFunction(net), OnGrid), array(X, backend)
    assert_array(denoiser.mean(x, 0.4), host(gaussian.mean(x, 0.4)), backend)
    assert_array(denoiser(x, 0.4).covariance @ x, host(gaussian(x, 0.4).covariance @ x), backend)


def test_a_number_that_does_not_vary_stays(precise):
    """Where the prior has no variance the mean does not move, and nothing is divided by 0."""
    basis = np.eye(4)[:, :3]
    held = Spectral(array(basis, precise), array(np.array([1.0, 2.0, 0.5]), precise))
    sde, x = sp.VPSDE(), array(RNG.standard_normal((2, 4)), precise)
    gaussian = sp.GaussianDenoiser(sde, array(np.arange(4.0), precise), held)
    here = OnGrid(gaussian, 0.3)
    assert_array(here.outputs(x)[:, 3], np.zeros(2), precise)
    assert_array(here.target(x)[:, 3], np.zeros(2), precise)
    assert bool(precise.xp.all(precise.xp.isfinite(here.inputs(x))))


def test_coordinates_of_many_times_are_those_of_each():
    """As the training asks for them."""
    backend = sp.resolve("torch")
    gaussian = sp.GaussianDenoiser(sp.VPSDE(), array(MEAN, backend), covariance(backend))
    times, x = [0.05, 0.5, 0.9], torch.tensor(X)
    together = OnGrid(gaussian, torch.tensor(times, dtype=torch.float64)[:, None])
    for row, t in enumerate(times):
        alone = OnGrid(gaussian, t)
        torch.testing.assert_close(together.inputs(x)[row], alone.inputs(x)[row])
        torch.testing.assert_close(together.target(x)[row], alone.target(x)[row])
        torch.testing.assert_close(together.reach[row], alone.reach)


def test_many_rows_are_taken_in_parts(precise, monkeypatch):
    """With the same mean, covariance and products, several at once too."""
    denoiser = on_grid(precise, sp.VPSDE())
    x, v = array(X, precise), array(np.random.default_rng(0).standard_normal((2, *X.shape)), precise)
    whole = denoiser(x, 0.4)
    monkeypatch.setattr("sdeppl.denoisers.network.AT_ONCE", 2 * 26)
    parts = denoiser(x, 0.4)
    assert_array(denoiser.mean(x, 0.4), host(whole.mean), precise)
    assert_array(parts.mean, host(whole.mean), precise)
    assert_array(parts.covariance.matvec(v), host(whole.covariance.matvec(v)), precise)
    assert_array(parts.covariance.matvec(x), host(whole.covariance.matvec(x)), precise)
