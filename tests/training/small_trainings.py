"""Small models and trainings that the tests of training share."""

import pyro
import pyro.distributions as dist
import torch

import sdeppl as sp

D = torch.float64


def gaussian_model(y=None):
    x = pyro.sample("x", dist.Normal(torch.tensor([1.0, -2.0], dtype=D), 3.0).to_event(1))
    pyro.sample("y", dist.Normal(x, 0.5).to_event(1), obs=y)


def laplace_model(y=None):
    x = pyro.sample("x", dist.Laplace(torch.tensor([1.0, -2.0]), 3.0).to_event(1))
    pyro.sample("y", dist.Normal(x, 0.5).to_event(1), obs=y)


def small(dim):
    return sp.ResidualMLP(dim, width=16, depth=1)


def make(model=laplace_model, **arguments):
    guide = sp.ScoreGuide(model, net=small)
    return sp.ScoreMatching(guide, **{"batch": 64, "draws": 2000, "ema": 0.9, **arguments})


def weights(training):
    """Averaged weights, raw weights, and Adam's state."""
    state = training.optimiser.state_dict()["state"]
    moments = [state[i][k] for i in sorted(state) for k in ("step", "exp_avg", "exp_avg_sq")]
    return [*training.guide.net.state_dict().values(), *training.network.state_dict().values(), *moments]


def same(one, other):
    assert one.losses == other.losses
    assert all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))
