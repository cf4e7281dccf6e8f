"""The joint density of latents and data, with its gradient, and its record."""

import math

import pyro
import pyro.distributions as dist
import torch

from sdeppl.reference.given import given
from sdeppl.tracing import Potential

D = torch.float64
MEAN = torch.tensor([1.0, -20.0, 300.0], dtype=D)
SD = torch.tensor([2.0, 0.1, 50.0], dtype=D)
CORRELATION = torch.tensor([[1.0, 0.9, -0.3], [0.9, 1.0, 0.0], [-0.3, 0.0, 1.0]], dtype=D)
COVARIANCE = SD[:, None] * CORRELATION * SD


def gaussian(y=None):
    x = pyro.sample("x", dist.MultivariateNormal(MEAN, COVARIANCE))
    pyro.sample("y", dist.Normal(x[..., 2], 80.0), obs=y)


def test_the_model_runs_once_and_its_record_has_the_same_density():
    calls = []

    def model(y=None):
        calls.append(1)
        gaussian(y)

    space, observed = given(model, {"y": torch.tensor(400.0, dtype=D)})
    potential = Potential(observed, space, (), {})
    z = MEAN + SD * torch.randn((5, 3), dtype=D, generator=torch.Generator().manual_seed(0))
    record = potential.recorded(z)
    before = len(calls)
    one, other = record(z + 0.1 * SD), potential(z + 0.1 * SD)
    assert len(calls) == before + 1
    assert torch.allclose(one.log_p, other.log_p, rtol=1e-13)
    for gradient in (one.gradient, record.gradient(one.z)):
        assert torch.allclose(gradient, other.gradient, rtol=1e-12)
    # ln p(x) + ln p(y | x), and its gradient, by hand
    residual = z + 0.1 * SD - MEAN
    solved = torch.linalg.solve(COVARIANCE, residual.T).T
    by_hand = -0.5 * (residual * solved).sum(-1) - 0.5 * torch.logdet(2 * math.pi * COVARIANCE)
    by_hand = by_hand + dist.Normal(z[:, 2] + 0.1 * SD[2], 80.0).log_prob(torch.tensor(400.0, dtype=D))
    gradient = -solved
    gradient[:, 2] += (400.0 - z[:, 2] - 0.1 * SD[2]) / 80.0**2
    assert torch.allclose(one.log_p, by_hand) and torch.allclose(one.gradient, gradient)
