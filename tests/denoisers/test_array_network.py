"""The network as pure array code, against the torch module that it stands for."""

import numpy as np
import pytest
import torch
from checks import array, assert_array, host

import sdeppl as sp
from sdeppl.backend import TorchFunction, place
from sdeppl.denoisers import ArrayMLP

DIM, LEVELS = 3, (-4.0, 0.3, 6.5)


def module(seed=4, dtype=torch.float64, **config):
    """A network whose every weight is far from where it starts, norms included."""
    generator = torch.Generator().manual_seed(seed)
    net = sp.ResidualMLP(DIM, width=24, depth=2, **config).to(dtype)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.4 * torch.randn(parameter.shape, generator=generator, dtype=dtype)
    return net


def array_network(net, backend):
    return ArrayMLP({name: place(value, backend) for name, value in net.state_dict().items()})


def points(backend, seed=1, rows=5):
    return array(1.0 + 2.0 * np.random.default_rng(seed).standard_normal((rows, DIM)), backend)


@pytest.mark.parametrize("level", LEVELS)
def test_value_and_pullback(level, precise):
    """Against torch's value and automatic differentiation, 1e-12."""
    net, x, v = module(), points(precise), points(precise, seed=2)
    network = array_network(net, precise)
    inputs = torch.as_tensor(host(x), dtype=torch.float64).requires_grad_()
    wanted = net(inputs, level)
    (slope,) = torch.autograd.grad(wanted, inputs, torch.as_tensor(host(v), dtype=torch.float64))
    value, pullback = network.with_pullback(x, level)
    assert_array(value, wanted.detach().numpy(), precise, 1e-12)
    assert_array(network(x, level), wanted.detach().numpy(), precise, 1e-12)
    assert_array(pullback(v), slope.numpy(), precise, 1e-12)


def test_slope_of_a_bilinear_form(precise):
    """Against torch, which differentiates twice: to 1e-9 by differences."""
    net, x = module(), points(precise)
    left, right = (
        array(np.random.default_rng(seed).standard_normal((5, DIM, 2)), precise) for seed in (7, 8)
    )
    found = array_network(net, precise).bilinear_slope(x, left, right, 0.3)
    wanted = TorchFunction(net).bilinear_slope(x, left, right, 0.3)
    assert_array(found, host(wanted), precise, 1e-9)


def test_float32_agrees_with_the_module_that_was_trained(backend):
    """In the module's own float32, 1e-5; the same weights in float64 are closer still."""
    net, x = module(dtype=torch.float32), points(backend)
    wanted, pull = TorchFunction(net).with_pullback(x, 0.3)
    value, pullback = array_network(net, backend).with_pullback(x, 0.3)
    assert_array(value, host(wanted), backend, 1e-5)
    assert_array(pullback(x), host(pull(x)), backend, 1e-5)


def test_it_serves_a_denoiser_as_the_module_does(precise):
    net, gaussian = (
        module(),
        sp.GaussianDenoiser(
            sp.VPSDE(), array([1.0, -2.0, 0.5], precise), array(np.diag([2.0, 0.3, 1.0]), precise)
        ),
    )
    by_torch = sp.NetworkDenoiser(gaussian, TorchFunction(net))
    by_arrays = sp.NetworkDenoiser(gaussian, array_network(net, precise))
    x = points(precise)
    for t in (0.05, 0.5, 1.0):
        assert_array(by_arrays.mean(x, t), host(by_torch.mean(x, t)), precise, 1e-12)
        covariance = host(by_torch(x, t).covariance.dense())
        assert_array(by_arrays(x, t).covariance.dense(), covariance, precise, 1e-12)


def test_large_activations_do_not_overflow(precise):
    net, x = module(), 1e4 * points(precise)
    with np.errstate(over="raise", invalid="raise"):
        found = array_network(net, precise)(x, 0.3)
    wanted = net(torch.as_tensor(host(x), dtype=torch.float64), 0.3)
    assert_array(found, wanted.detach().numpy(), precise, 1e-12)


def test_other_weights_are_refused(precise):
    with pytest.raises(KeyError, match="scales"):
        ArrayMLP({"enter.weight": points(precise)})
    numpy, torch_ = sp.resolve("numpy"), sp.resolve("torch")
    weights = {name: place(value, numpy) for name, value in module().state_dict().items()}
    weights["scales"] = place(weights["scales"], torch_)
    with pytest.raises(sp.BackendMismatch, match=r"ArrayMLP: enter\.weight is of numpy"):
        ArrayMLP(weights)


@pytest.mark.parametrize("kind", ["module", "arrays"])
def test_several_products_at_once(kind, precise):
    """(k, batch, dim) in one call is k calls, to 1e-13; so are the columns of a covariance, in blocks too."""
    net, x = module(), points(precise)
    network = TorchFunction(net) if kind == "module" else array_network(net, precise)
    v = array(np.random.default_rng(6).standard_normal((4, 5, DIM)), precise)
    _, pullback = network.with_pullback(x, 0.3)
    assert_array(pullback(v), np.stack([host(pullback(v[k, ...])) for k in range(4)]), precise, 1e-13)


def test_columns_come_in_blocks(precise, monkeypatch):
    net, gaussian = (
        module(),
        sp.GaussianDenoiser(sp.VPSDE(), array([1.0, -2.0, 0.5], precise), array(np.eye(3), precise)),
    )
    covariance = sp.NetworkDenoiser(gaussian, array_network(net, precise))(points(precise), 0.4).covariance
    V = array(np.random.default_rng(6).standard_normal((5, DIM, 7)), precise)
    wanted = np.stack([host(covariance @ V[:, :, k]) for k in range(7)], axis=-1)
    assert_array(covariance.matmat(V), wanted, precise, 1e-13)
    monkeypatch.setattr("sdeppl.linalg.operators.AT_ONCE", 15)  # three columns of five rows
    assert_array(covariance.matmat(V), wanted, precise, 1e-13)
