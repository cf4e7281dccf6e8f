"""The joint density of latents and data, with its gradient, and its record."""

import math
from dataclasses import replace

import pyro
import pyro.distributions as dist
import torch

from sdeppl.reference.given import given
from sdeppl.tracing import Potential, prior_draws

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


def hierarchy(y=None):
    mu = pyro.sample("mu", dist.Normal(torch.tensor(1.0, dtype=D), 2.0))
    tau = pyro.sample("tau", dist.LogNormal(0.3 * mu, torch.tensor(0.5, dtype=D)))
    flat = pyro.sample("flat", dist.Normal(torch.tensor(-3.0, dtype=D), 0.1))
    with pyro.plate("groups", 3):
        a = pyro.sample("a", dist.StudentT(torch.tensor(4.0, dtype=D), mu + flat, tau))
        pyro.sample("y", dist.Normal(a, torch.tensor(1.0, dtype=D)), obs=y)


def test_the_density_of_standardised_latents_is_that_of_the_latents_in_other_coordinates():
    """ln q(u) = ln p(z) + ln |dz/du| by differences; there and back; 'flat' depends on no other."""
    space, observed = given(hierarchy, {"y": torch.tensor([1.0, 2.0, 3.0], dtype=D)})
    plain = Potential(observed, space, (), {})
    z = space.flatten(prior_draws(hierarchy, space.names, 6, (0,)))
    names = plain.standardisable(z)
    assert names == {"tau", "a"}
    other = replace(plain, standardised=names)
    u = plain.to_standardised(z, names)
    assert torch.allclose(other.from_standardised(u), z, rtol=1e-12)
    mu, tau, flat, a = z[:, 0], z[:, 1].exp(), z[:, 2], z[:, 3:]
    by_hand = torch.cat([z[:, :1], ((z[:, 1] - 0.3 * mu) / 0.5)[:, None], z[:, 2:3]], dim=1)
    assert torch.allclose(u[:, :3], by_hand) and torch.allclose(
        u[:, 3:], (a - (mu + flat)[:, None]) / tau[:, None]
    )
    steps = 1e-6 * torch.eye(space.dim, dtype=D)
    for row, latents in zip(u, z, strict=True):
        moved = other.from_standardised(row + steps) - other.from_standardised(row - steps)
        log_slope = torch.linalg.slogdet(moved / 2e-6)[1]
        assert torch.allclose(other.log_p(row), plain.log_p(latents) + log_slope, atol=1e-7)
    record = other.recorded(u)
    assert record is not other and torch.allclose(record(u.flip(0)).log_p, other(u.flip(0)).log_p)
