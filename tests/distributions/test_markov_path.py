"""Paths of stochastic simulators: their law, their randomness, what they refuse."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import sdeppl as sp

D = torch.float64
START = dist.Normal(torch.tensor([1.0, -2.0], dtype=D), torch.tensor([0.5, 2.0], dtype=D)).to_event(1)
A = torch.tensor([[0.8, 0.3], [-0.1, 0.6]], dtype=D)
SD = torch.tensor([0.7, 1.5], dtype=D)


def by_numpy(x, rng):
    return x @ A.numpy().T + SD.numpy() * rng.standard_normal(x.shape)


def by_torch(x, generator):
    return x @ A.T + SD * torch.randn(x.shape, generator=generator, dtype=D)


def by_global_seed(x):
    return x @ A.T + SD * torch.randn(x.shape, dtype=D)


def moments(length):
    """Of the last state."""
    mean, C = START.mean.numpy(), np.diag(START.variance.numpy())
    for _ in range(length - 1):
        mean, C = A.numpy() @ mean, A.numpy() @ C @ A.numpy().T + np.diag(SD.numpy() ** 2)
    return mean, C


@pytest.mark.parametrize("step", [by_numpy, by_torch, by_global_seed], ids=lambda step: step.__name__)
def test_moments_of_the_last_state(step):
    """20,000 paths of 6 states, alone and inside vmap: 5 standard errors, a false alarm in 10⁵; seed 1."""
    path = sp.MarkovPath(step, START, 6)
    assert path.event_shape == (6, 2)
    torch.manual_seed(1)
    alone = path.sample((20_000,))
    torch.manual_seed(1)
    inside = torch.func.vmap(lambda _: path.sample(), randomness="different")(torch.arange(20_000))
    mean, C = moments(6)
    for draws in (alone, inside):
        last = draws[:, -1].numpy()
        sd = np.sqrt(np.diag(C))
        assert np.all(np.abs(last.mean(axis=0) - mean) < 5 * sd / math.sqrt(20_000))
        limit = 5 * np.outer(sd, sd) * math.sqrt(2 / 20_000)
        assert np.all(np.abs(np.cov(last.T) - C) < limit)
    torch.manual_seed(1)
    assert torch.equal(alone, path.sample((20_000,)))


def test_density_of_steps_and_start():
    def density(after, before):
        return dist.Normal(before @ A.T, SD).to_event(1).log_prob(after)

    path = sp.MarkovPath(by_torch, START, 4, density=density)
    x = path.sample((3,))
    expected = START.log_prob(x[:, 0])
    for k in range(3):
        expected = expected + dist.Normal(x[:, k] @ A.T, SD).to_event(1).log_prob(x[:, k + 1])
    torch.testing.assert_close(path.log_prob(x), expected)
    torch.testing.assert_close(torch.func.vmap(path.log_prob)(x), expected)
    with pytest.raises(NotImplementedError, match="has no density: give MarkovPath"):
        sp.MarkovPath(by_torch, START, 4).log_prob(x)


def test_number_of_the_step_and_other_sites():
    """x_k = k(k-1)/2 rate, each row with a rate of its own."""

    def step(x, k, rate):
        return x + k * rate

    def model():
        rate = pyro.sample("rate", dist.Uniform(torch.tensor(1.0, dtype=D), 2.0))
        pyro.sample("x", sp.MarkovPath(step, torch.zeros((), dtype=D), 5, given={"rate": rate}))

    from sdeppl.tracing import prior_draws

    draws = prior_draws(model, ["rate", "x"], 50, (0,))
    expected = draws["rate"][:, None] * torch.tensor([0.0, 0.0, 1.0, 3.0, 6.0], dtype=D)
    torch.testing.assert_close(draws["x"], expected)


def grows(x):
    return torch.cat([x, x], dim=-1)


def breaks(x, k):
    return x / (2.0 - k)


@pytest.mark.parametrize(
    ("step", "words"),
    [(grows, "step 0 gave shape \\(1, 4\\)"), (breaks, "step 2: draw 0 of 1 has 2 of 2")],
    ids=["another shape", "infinity"],
)
def test_a_step_that_goes_wrong_is_named(step, words):
    with pytest.raises(sp.SamplerError, match=words):
        sp.MarkovPath(step, torch.ones(2, dtype=D), 5).sample()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((3, START, 4), TypeError, "step must be a function"),
        ((by_torch, START, 0), ValueError, "MarkovPath: length"),
        ((by_torch, lambda n, rng: rng.standard_normal((n, 2)), 4), TypeError, "needs state="),
        ((lambda x, noise: x, START, 4), TypeError, "needs 'noise'"),
    ],
    ids=["no function", "no states", "no shape", "unknown parameter"],
)
def test_arguments_are_refused_by_name(arguments, error, words):
    with pytest.raises(error, match=words):
        sp.MarkovPath(*arguments)


def test_a_start_by_a_function():
    path = sp.MarkovPath(by_numpy, lambda n, rng: 3 + rng.standard_normal((n, 2)), 3, state=2)
    first = path.sample((4_000,))[:, 0]
    assert bool((abs(first.mean(dim=0) - 3) < 5 / math.sqrt(4_000)).all())
