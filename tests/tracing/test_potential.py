"""The joint density of latents and data, with its gradient, and its record."""

import math
from dataclasses import replace

import pyro
import pyro.distributions as dist
import pytest
import torch

from sdeppl.reference.given import condition_model
from sdeppl.tracing import Potential, RecordedValues, UnrecordedWarning, prior_draws
from sdeppl.tracing.potential import Recorded

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

    space, observed = condition_model(model, {"y": torch.tensor(400.0, dtype=D)})
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
    space, observed = condition_model(hierarchy, {"y": torch.tensor([1.0, 2.0, 3.0], dtype=D)})
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


def by_hand(z, y, width=80.0):
    """ln p of `gaussian`, at z (rows, 3)."""
    residual = z - MEAN
    found = -0.5 * (residual * torch.linalg.solve(COVARIANCE, residual.T).T).sum(-1)
    found = found - 0.5 * torch.logdet(2 * math.pi * COVARIANCE)
    return found + dist.Normal(z[:, 2], width).log_prob(torch.tensor(y, dtype=D))


def test_recorded_values_of_any_number_of_rows():
    space, observed = condition_model(gaussian, {"y": torch.tensor(400.0, dtype=D)})
    potential = Potential(observed, space, (), {})
    z = MEAN + SD * torch.randn((50, 3), dtype=D, generator=torch.Generator().manual_seed(0))
    values = potential.recorded_values(z[:16])
    assert isinstance(values, RecordedValues)
    for rows in (1, 7, 16, 17, 50):
        torch.testing.assert_close(values(z[:rows]), by_hand(z[:rows], 400.0), rtol=1e-12, atol=0)
    assert potential.recorded_values(z, values) is values


def test_a_record_of_values_is_made_anew_where_the_model_has_changed():
    width = [80.0]

    def model(y=None):
        x = pyro.sample("x", dist.MultivariateNormal(MEAN, COVARIANCE))
        pyro.sample("y", dist.Normal(x[..., 2], width[0]), obs=y)

    space, observed = condition_model(model, {"y": torch.tensor(400.0, dtype=D)})
    potential = Potential(observed, space, (), {})
    z = MEAN + SD * torch.randn((20, 3), dtype=D, generator=torch.Generator().manual_seed(0))
    values = potential.recorded_values(z)
    width[0] = 30.0
    again = potential.recorded_values(z, values)
    torch.testing.assert_close(values(z), by_hand(z, 400.0, 80.0), rtol=1e-12, atol=0)
    torch.testing.assert_close(again(z), by_hand(z, 400.0, 30.0), rtol=1e-12, atol=0)


def test_values_that_vmap_takes_row_by_row_are_not_recorded():
    def model(y=None):
        x = pyro.sample("x", dist.Normal(torch.tensor(2.0, dtype=D), 3.0))
        pyro.sample("y", dist.Normal(torch.empty((), dtype=D).copy_(x).lerp_(x * x, 0.5), 0.7), obs=y)

    space, observed = condition_model(model, {"y": torch.tensor(4.0, dtype=D)})
    potential = Potential(observed, space, (), {})
    z = torch.linspace(-1, 3, 9, dtype=D)[:, None]
    expected = dist.Normal(2.0, 3.0).log_prob(z[:, 0])
    expected = expected + dist.Normal(0.5 * (z + z * z)[:, 0], 0.7).log_prob(torch.tensor(4.0, dtype=D))
    with pytest.warns(UnrecordedWarning, match="performance drop"):
        values = potential.recorded_values(z)
    assert not isinstance(values, RecordedValues)
    torch.testing.assert_close(values(z), expected, rtol=1e-6, atol=1e-6)


def test_what_cannot_be_recorded_is_run_and_says_so():
    """A model whose density takes a number out of a tensor has none of its own for many chains."""

    class Outside(torch.autograd.Function):
        """x², by NumPy."""

        generate_vmap_rule = False

        @staticmethod
        def forward(x):
            return torch.as_tensor(x.detach().numpy() ** 2)

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx, gradient):
            (x,) = ctx.saved_tensors
            return 2 * x * gradient

        @staticmethod
        def vmap(info, in_dims, x):
            return Outside.apply(x), in_dims[0]

    def model(y=None):
        x = pyro.sample("x", dist.Normal(torch.tensor(0.0, dtype=D), 1.0))
        pyro.sample("y", dist.Normal(Outside.apply(x), 0.7), obs=y)

    space, observed = condition_model(model, {"y": torch.tensor(4.0, dtype=D)})
    potential = Potential(observed, space, (), {})
    z = torch.linspace(-1, 3, 9, dtype=D)[:, None]
    with pytest.warns(UnrecordedWarning, match="run at every step"):
        found = potential.recorded(z)
    assert found is potential
    expected = -z[:, 0] + 2 * z[:, 0] * (4.0 - z[:, 0] ** 2) / 0.49
    torch.testing.assert_close(found.gradient(z)[:, 0], expected)


def test_a_model_in_float32_is_recorded_to_what_float32_resolves():
    """Its gradient is near zero at some rows, where rounding is all that is left."""

    def model(y=None):
        with pyro.plate("rows", 50):
            x = pyro.sample("x", dist.Normal(torch.tensor(3.0), torch.tensor(2.0)))
        pyro.sample("y", dist.StudentT(torch.tensor(4.0), x.sum(-1), torch.tensor(0.3)), obs=y)

    space, observed = condition_model(model, {"y": torch.tensor(155.0)})
    potential = Potential(observed, space, (), {})
    x = prior_draws(model, ["x"], 300, (0,))["x"].double()
    found = potential.recorded(x)
    assert isinstance(found, Recorded)
    r = (155.0 - x.sum(-1)) / 0.3
    expected = -(x - 3.0) / 4.0 + (5 * r / (4 + r * r) / 0.3)[:, None]
    torch.testing.assert_close(found.gradient(x), expected, rtol=1e-3, atol=1e-3)
