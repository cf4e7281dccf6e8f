"""A torch module as a function with vector–Jacobian products, on arrays of every backend."""

import numpy as np
import pytest
import torch
from checks import array, assert_array, dtype_name, torch_device

import sdeppl as sp
from sdeppl.backend import TorchFunction, jvp

WEIGHT = np.array([[0.5, -1.0], [2.0, 0.25], [-0.75, 1.5]])
X = np.array([[0.3, -0.2], [1.1, 0.4], [-0.6, 0.9], [0.0, 0.0]])
SCALE = 1.7


class Nonlinear(torch.nn.Module):
    """x ↦ tanh(W x) · s + (x₀², 0, 0), whose Jacobian is known by hand; dropout shows a training mode."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(WEIGHT))
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, x, s):
        square = torch.stack([x[:, 0] ** 2, 0 * x[:, 0], 0 * x[:, 0]], dim=-1)
        return self.dropout(torch.tanh(x @ self.weight.T) * s + square)


def value_and_jacobian():
    inner = np.tanh(X @ WEIGHT.T)
    value = inner * SCALE
    value[:, 0] += X[:, 0] ** 2
    jacobian = SCALE * (1 - inner**2)[:, :, None] * WEIGHT
    jacobian[:, 0, 0] += 2 * X[:, 0]
    return value, jacobian


def module_on(backend):
    device = torch_device(backend)
    return Nonlinear().to(device)


def test_value_and_pullback_are_those_by_hand(backend):
    value, jacobian = value_and_jacobian()
    v = np.random.default_rng(0).standard_normal(value.shape)
    function = TorchFunction(module_on(backend))
    assert_array(function(array(X, backend), SCALE), value, backend)
    found, pullback = function.with_pullback(array(X, backend), SCALE)
    assert_array(found, value, backend)
    for vector in (v, -2 * v):  # a pullback may be used more than once
        expected = np.einsum("bo,boi->bi", vector, jacobian)
        assert_array(pullback(array(vector, backend)), expected, backend)


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_the_module_keeps_its_dtype_and_the_answer_has_that_of_x(precision, backend):
    module = module_on(backend).to(precision)
    value, _ = value_and_jacobian()
    found = TorchFunction(module)(array(X, backend), SCALE)
    exact = precision == torch.float64 and dtype_name(backend) == "float64"
    assert_array(found, value, backend, tolerance=1e-12 if exact else 1e-6)
    assert module.weight.dtype == precision


def test_nothing_of_a_graph_is_kept(backend):
    """Neither the answers nor the parameters hold a gradient, though the parameters need one; a tensor
    that needs one itself gets it, see test_gradients_denoiser.py."""
    function = TorchFunction(module_on(backend))
    x = array(X, backend)
    value, pullback = function.with_pullback(x, SCALE)
    for answer in (function(x, SCALE), value, pullback(value)):
        assert not getattr(answer, "requires_grad", False)
    assert function.parameter.grad is None


def test_another_device_is_refused():
    function = TorchFunction(Nonlinear().to("meta"))
    with pytest.raises(
        sp.BackendMismatch, match="got a tensor on cpu, expected an array for this module on meta"
    ):
        function(X, SCALE)


def test_forward_derivatives_pass_through_in_torch():
    """Detached they would be zero, silently: of the value, and of a product with the Jacobian."""
    backend = sp.resolve("torch")
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(2, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2)).double()
    function, x = TorchFunction(module), array(X, backend)
    v = torch.ones_like(x)
    _, tangent = torch.func.jvp(module, (x,), (v,))
    torch.testing.assert_close(jvp(function, x, v), tangent.detach())

    def product(y):
        return function.with_pullback(y)[1](v)

    h = 1e-5
    torch.testing.assert_close(jvp(product, x, v), (product(x + h * v) - product(x - h * v)) / (2 * h))
