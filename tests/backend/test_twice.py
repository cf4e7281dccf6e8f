"""Networks of users: every layer differentiates as often as guidance needs, to the right numbers."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import sdeppl as sp
from sdeppl.backend import TorchFunction, jvp
from sdeppl.backend.twice import TwiceDifferentiable, forward_derivative

D = torch.float64
WIDTH = 16


class Shaped(nn.Module):
    """A layer on (batch, 2, 8)."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, h):
        found = self.layer(h.reshape(-1, 2, 8))
        return (found[0] if isinstance(found, tuple) else found).reshape(h.shape)


class Attention(nn.MultiheadAttention):
    def __init__(self, **options):
        super().__init__(8, 2, batch_first=True)
        self.options = options

    def forward(self, h):
        return super().forward(h, h, h, **self.options)


class Fused(nn.Module):
    def forward(self, h):
        return F.scaled_dot_product_attention(h, 2 * h, h, is_causal=True)


@torch.jit.script
def scripted_mish(h: torch.Tensor) -> torch.Tensor:
    return F.mish(h)


class Scripted(nn.Module):
    def forward(self, h):
        return scripted_mish(h)


LAYERS = {
    "SiLU": nn.SiLU,
    "SiLU in place": lambda: nn.SiLU(inplace=True),
    "Mish": nn.Mish,
    "Mish in place": lambda: nn.Mish(inplace=True),
    "Mish in a script": Scripted,
    "hard sigmoid": nn.Hardsigmoid,
    "hard swish": nn.Hardswish,
    "GELU": nn.GELU,
    "GELU by tanh": lambda: nn.GELU("tanh"),
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
    "ELU": nn.ELU,
    "ELU in place": lambda: nn.ELU(inplace=True),
    "ReLU in place": lambda: nn.ReLU(inplace=True),
    "layer norm": lambda: nn.Sequential(nn.LayerNorm(WIDTH), nn.SiLU()),
    "group norm": lambda: nn.Sequential(nn.GroupNorm(4, WIDTH), nn.Mish()),
    "batch norm": lambda: nn.Sequential(nn.BatchNorm1d(WIDTH), nn.SiLU()),
    "dropout": lambda: nn.Sequential(nn.Dropout(0.5), nn.SiLU()),
    "attention": lambda: Shaped(Attention()),
    "attention without weights": lambda: Shaped(Attention(need_weights=False)),
    "fused attention": lambda: Shaped(Fused()),
    "transformer": lambda: Shaped(nn.TransformerEncoderLayer(8, 2, 8, batch_first=True, activation="gelu")),
    "convolution": lambda: nn.Sequential(Shaped(nn.Conv1d(2, 2, 3, padding=1)), nn.SiLU()),
    "recurrent": lambda: Shaped(nn.GRU(8, 8, batch_first=True)),
}


class Net(nn.Module):
    def __init__(self, layer, dim=3):
        super().__init__()
        self.enter, self.layer, self.leave = nn.Linear(dim + 1, WIDTH), layer, nn.Linear(WIDTH, dim)

    def forward(self, x, level):
        level = torch.as_tensor(level, dtype=x.dtype).reshape(-1, 1).expand(len(x), 1)
        return self.leave(self.layer(self.enter(torch.cat([x, level], dim=1))))


def made(name):
    torch.manual_seed(3)
    return TorchFunction(Net(LAYERS[name]()).to(D))


def slope(function, x, v, step=1e-4):
    """∂/∂s function(x + s v), by differences of order 4."""
    near, far = (function(x + h * v) - function(x - h * v) for h in (step, 2 * step))
    return (8 * near - far) / (12 * step)


@pytest.mark.parametrize("name", LAYERS)
def test_derivatives_are_right_forward_and_twice(name):
    net = made(name)
    x, v, w = torch.randn((3, 4, 3), dtype=D, generator=torch.Generator().manual_seed(1))
    value = net(x, 0.4)
    torch.testing.assert_close(
        jvp(lambda z: net(z, 0.4), x, v), slope(lambda z: net(z, 0.4), x, v), rtol=1e-7, atol=1e-9
    )

    def pulled(z):
        return net.with_pullback(z, 0.4)[1](w)

    expected = slope(pulled, x, v)
    torch.testing.assert_close(jvp(pulled, x, v), expected, rtol=1e-6, atol=1e-8)
    # ∂/∂x of wᵀ (∂net/∂x) v is the same, as second derivatives are symmetric
    torch.testing.assert_close(
        net.bilinear_slope(x, w[..., None], v[..., None], 0.4), expected, rtol=1e-6, atol=1e-8
    )
    torch.testing.assert_close(net(x, 0.4), value, rtol=0, atol=0)


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("function", [F.silu, F.mish, F.hardsigmoid])
def test_compositions_are_the_functions(function, inplace):
    x = torch.linspace(-30.0, 30.0, 601, dtype=D)
    expected = function(x)
    with TwiceDifferentiable():
        given = x.clone()
        found = function(given, inplace=inplace)
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-15)
    assert (given is found) == inplace and torch.equal(given, found if inplace else x)


def test_what_fails_otherwise_still_does():
    def own(z):
        raise NotImplementedError("not written yet")

    with pytest.raises(NotImplementedError, match="not written yet"):
        forward_derivative(own, torch.ones(2, dtype=D), torch.ones(2, dtype=D))


class Composed(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, h):
        return self.function(h)


@pytest.mark.parametrize(
    ("layer", "same"),
    [(nn.SiLU(), lambda h: h * torch.sigmoid(h)), (nn.Mish(), lambda h: h * torch.tanh(F.softplus(h)))],
)
def test_a_network_of_another_hand_is_a_prior(layer, same):
    """Guided by Tweedie's full gradient, which differentiates the slope of the mean forward: the draws are
    those of the same network in operations that torch differentiates."""
    sde, draws = sp.VPSDE(), []
    for one in (layer, Composed(same)):
        torch.manual_seed(3)
        net = TorchFunction(Net(one).to(D))

        def mean(x, t, net=net):  # of x_0: the best linear one of a standard normal, and a bend
            return sde.alpha(t) * x + 0.02 * sde.sigma(t) ** 2 * net(x, 0.4)

        seen = sp.LinearGaussian(torch.eye(3, dtype=D)[:2], torch.tensor([0.5, -1.0], dtype=D), 0.25)
        prior = sp.CallableDenoiser(sde, mean, dim=3, backend="torch")
        draws.append(sp.Posterior(prior, seen, "tweedie", 20, correction=None).sample(5, seed=2))
    torch.testing.assert_close(*draws, rtol=0, atol=1e-10)
    assert draws[0].abs().max() > 0.5
