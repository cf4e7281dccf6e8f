"""Networks in any dtype, under any default of torch; and what is no network for a guide is said."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import sdeppl as sp

D = torch.float64


def model(y=None):
    x = pyro.sample("x", dist.Laplace(torch.zeros(2, dtype=D), 1.0).to_event(1))
    pyro.sample("y", dist.Normal(x, 0.5).to_event(1), obs=y)


class Net(nn.Module):
    """(batch, dim), levels ↦ (batch, dim), of zero output before it is trained."""

    def __init__(self, dim, act=nn.SiLU):
        super().__init__()
        self.enter, self.act, self.leave = nn.Linear(dim + 1, 16), act(), nn.Linear(16, dim)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, x, level):
        level = torch.as_tensor(level, dtype=x.dtype).reshape(-1, 1).expand(len(x), 1)
        return self.leave(self.act(self.enter(torch.cat([x, level], dim=1))))


@pytest.fixture(params=[torch.float32, torch.float64])
def default(request):
    before = torch.get_default_dtype()
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(before)


@pytest.mark.parametrize("net", ["of the default", "float64", "own"])
def test_training_under_either_default(net, default):
    """The first step's loss is of zero output, so the same to rounding, whatever the dtype."""
    kinds = {"of the default": Net, "float64": lambda dim: Net(dim, nn.Mish).double(), "own": sp.ResidualMLP}
    factory = kinds[net]
    guide = sp.ScoreGuide(model, net=factory)
    training = sp.ScoreMatching(guide, draws=2_000, batch=64).fit(3, progress=False)
    dtype = {"of the default": default, "float64": torch.float64, "own": torch.float32}[net]
    assert next(guide.net.parameters()).dtype == dtype
    assert training.losses[0] == pytest.approx(0.980234, abs=1e-5)
    guide.use_net = True
    draws = guide.condition(y=[0.5, -1.0], steps=20).sample(4)["x"]
    assert draws.dtype == torch.float64 and draws.shape == (4, 2)


class Wrong(Net):
    def forward(self, x, level):
        return super().forward(x, level)[:, :1]  # which would be broadcast


def test_what_is_no_network_is_said_before_it_is_trained():
    for factory, words in (
        (Wrong, r"the network Wrong returns shape \(64, 1\) for x \(64, 2\) .* expected the shape of x"),
        (lambda dim: nn.Identity(), "the network Identity has no parameters to train; use net=None"),
    ):
        with pytest.raises(sp.ModelError, match=words):
            sp.ScoreMatching(sp.ScoreGuide(model, net=factory), draws=500, batch=64).fit(2, progress=False)
