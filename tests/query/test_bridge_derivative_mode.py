"""Jacobians of a predictor: forward where the latents are fewer, backward where there is no forward mode."""

import torch

import sdeppl as sp
from sdeppl.linalg import Spectral
from sdeppl.query.bridge import Bridge, cheaper_mode
from sdeppl.query.gaussian_part import GaussianPart


def predictor(z):
    """Seven numbers of two: z_0 k + sin(k z_1), with one more tensor beside them."""
    k = torch.arange(1.0, 8.0, dtype=torch.float64)
    return z[0] * k + torch.sin(k * z[1]), z.sum()


class Backward(torch.autograd.Function):
    """The identity, without a forward mode."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x.clone()

    @staticmethod
    def setup_context(context, inputs, output):
        pass

    @staticmethod
    def backward(context, slope):
        return slope


def with_aux(function):
    return lambda z: (function(z)[0], function(z))


def test_fewer_latents_than_numbers_go_forward():
    z = torch.tensor([0.3, -1.2], dtype=torch.float64)
    assert cheaper_mode(with_aux(predictor), z) is torch.func.jacfwd
    assert cheaper_mode(with_aux(lambda z: (predictor(z)[0][:2],)), z) is torch.func.jacrev


def test_what_has_no_forward_mode_goes_backward():
    z = torch.tensor([0.3, -1.2], dtype=torch.float64)
    assert cheaper_mode(with_aux(lambda z: (Backward.apply(predictor(z)[0]),)), z) is torch.func.jacrev


def test_the_jacobian_is_in_standardised_units_either_way():
    part = GaussianPart(
        location=torch.tensor([0.5, -1.0], dtype=torch.float64),
        scale=torch.tensor([2.0, 0.3], dtype=torch.float64),
        covariance=Spectral(torch.eye(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)),
        draws=10,
    )
    bridge = Bridge(part, sp.resolve("torch"), True)
    x = torch.tensor([[0.4, 1.1], [-2.0, 0.6], [0.0, -0.9]], dtype=torch.float64)
    k = torch.arange(1.0, 8.0, dtype=torch.float64)
    wanted = torch.stack([2.0 * k.expand(3, 7), 0.3 * k * torch.cos(k * (-1.0 + 0.3 * x[:, 1:]))], dim=-1)
    for function in (predictor, lambda z: (Backward.apply(predictor(z)[0]), z.sum())):
        predicted, jacobian, total = bridge.with_jacobian(function)(x)
        torch.testing.assert_close(jacobian, wanted, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(total, (part.location + part.scale * x).sum(1))
        torch.testing.assert_close(predicted[1], predictor(part.location + part.scale * x[1])[0])
