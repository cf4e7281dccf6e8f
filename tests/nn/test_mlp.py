"""The residual MLP: what it starts from, what it depends on, and its shapes."""

import numpy as np
import pytest
import torch

import sdeppl as sp


def awakened(dim=3):
    """A small network whose last layer is not zero."""
    torch.manual_seed(2)
    net = sp.ResidualMLP(dim, width=8, depth=2, frequencies=4)
    torch.nn.init.normal_(net.leave.weight)
    return net.double()


@pytest.mark.parametrize("log_snr", [-5.0, 0.0, 9.0])
def test_an_untrained_network_returns_exactly_zero(log_snr):
    x = torch.randn(7, 4)
    assert torch.equal(sp.ResidualMLP(4)(x, log_snr), torch.zeros(7, 4))


def test_a_noise_level_may_be_a_float_or_one_for_each_row():
    net, x = awakened(), torch.randn(4, 3, dtype=torch.float64)
    levels = torch.tensor([[-3.0], [0.5], [2.0], [7.0]], dtype=torch.float64)
    rows = [net(x[i : i + 1], float(levels[i])) for i in range(4)]
    torch.testing.assert_close(net(x, levels), torch.cat(rows), rtol=1e-12, atol=1e-12)


def test_each_row_depends_on_itself_alone():
    net, x = awakened(), torch.randn(5, 3, dtype=torch.float64)
    torch.testing.assert_close(net(x, 1.0)[2:4], net(x[2:4], 1.0), rtol=1e-12, atol=1e-12)


def test_the_answer_depends_on_every_input_and_on_the_level():
    """No column of the Jacobian is zero, nor the derivative by ln(α/σ)."""
    net, x = awakened(), torch.randn(1, 3, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda r: net(r, 0.7)[0], x)[:, 0, :]
    assert torch.linalg.norm(jacobian, dim=0).min() > 1e-3
    level = torch.tensor([[0.7]], dtype=torch.float64)
    slope = torch.autograd.functional.jacobian(lambda h: net(x, h)[0], level)
    assert torch.linalg.norm(slope) > 1e-3


def test_levels_from_minus_8_to_14_have_distinct_embeddings():
    """The slowest sine has period 64 in ln(α/σ): no two noise levels in use look the same."""
    scales = sp.ResidualMLP(2).scales.double().numpy()
    phases = np.linspace(-8.0, 14.0, 200)[:, None] * scales
    embedding = np.concatenate([np.sin(phases), np.cos(phases)], axis=1)
    distance = np.linalg.norm(embedding[:, None] - embedding[None], axis=-1) + 10 * np.eye(200)
    assert distance.min() > 0.1


@pytest.mark.parametrize(("dim", "width"), [(2, 64), (50, 200), (1000, 512)])
def test_width_follows_the_dimension(dim, width):
    assert sp.ResidualMLP(dim).config["width"] == width


def test_config_builds_the_same_network():
    net = awakened()
    again = sp.ResidualMLP(**net.config).double()
    again.load_state_dict(net.state_dict())
    x = torch.randn(3, 3, dtype=torch.float64)
    assert torch.equal(again(x, 0.3), net(x, 0.3))
