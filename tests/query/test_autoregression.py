"""The Gaussian part of a path against systems whose covariances are known."""

import numpy as np
import pytest
import torch

from sdeppl.query.autoregression import Autoregression, fit_autoregression

D = torch.float64


def system(seed=0, d=2, order=2):
    """A stable autoregression with a constant, and its own numbers at the first times."""
    rng = np.random.default_rng(seed)
    A = 0.25 * rng.standard_normal((order, d, d))
    A[0] += 0.5 * np.eye(d)
    root = np.tril(rng.standard_normal((d, d))) * 0.3 + np.eye(d)
    return A, rng.standard_normal(d), root @ root.T


def simulated(A, c, Q, T, n, seed):
    """Paths (n, T, d) started at 3 + 2 ε."""
    rng, d = np.random.default_rng(seed), len(c)
    L = np.linalg.cholesky(Q)
    x = [3 + 2 * rng.standard_normal((n, d))]
    for t in range(1, T):
        step = c + rng.standard_normal((n, d)) @ L.T
        for j in range(min(len(A), t)):
            step = step + x[-1 - j] @ A[j].T
        x.append(step)
    return np.stack(x, axis=1)


def exact(A, c, Q, T):
    """Mean and covariance of such a path, by its linear map of the noise."""
    d, maps, means = len(c), [], []
    L = np.linalg.cholesky(Q)
    for t in range(T):
        own = np.zeros((d, T * d))
        own[:, t * d : t * d + d] = L if t else 2 * np.eye(d)
        mean = c if t else np.full(d, 3.0)
        for j in range(min(len(A), t)):
            own, mean = own + A[j] @ maps[-1 - j], mean + A[j] @ means[-1 - j]
        maps.append(own)
        means.append(mean)
    M = np.concatenate(maps)
    return np.concatenate(means), M @ M.T


@pytest.mark.parametrize(("T", "order"), [(7, 1), (8, 2), (9, 2), (11, 3)])
def test_mean_and_covariance_of_given_numbers(T, order):
    A, c, Q = system(1, 2, order)
    constants = torch.tensor(np.stack([np.full(2, 3.0)] + [c] * order))
    coefficients = torch.zeros((order + 1, order, 2, 2), dtype=D)
    for t in range(order + 1):
        for j in range(min(order, t)):
            coefficients[t, j] = torch.tensor(A[j])
    noise = torch.tensor(np.stack([4 * np.eye(2)] + [Q] * order))
    model = Autoregression(constants, coefficients, noise).of_length(T)
    mean, covariance = exact(A, c, Q, T)
    np.testing.assert_allclose(model.mean().reshape(-1), mean, atol=1e-12)
    found = model.covariance()
    np.testing.assert_allclose(found.dense(), covariance, atol=1e-9)
    np.testing.assert_allclose(found.logdet(), np.linalg.slogdet(covariance)[1], rtol=1e-10)


@pytest.fixture(scope="module")
def fitted():
    """Of 4,000 and 4,000 paths of 40 states; order 2."""
    A, c, Q = system(2)
    scale = torch.tensor([2.0, 0.5], dtype=D)

    def batches(number):
        for k in range(4):
            yield torch.tensor(simulated(A, c, Q, 40, 1_000, 10 * number + k).reshape(1_000, -1))

    return (A, c, Q, scale), fit_autoregression(batches, scale, 40)


def test_order_and_law_are_found(fitted):
    """The start is another law than what follows; the order 2 (8,000 paths: others are chosen where noise in
    their coefficients costs less than 1e-4 nats a state, so 3 is allowed)."""
    (A, _, Q, scale), model = fitted
    assert model.order in (2, 3) and model.period == 1 and "the same" in model.words
    s = scale.numpy()
    last = model.coefficients[-1].numpy()
    for j, expected in enumerate([*A, 0 * A[0]][: model.order]):
        np.testing.assert_allclose(last[j], expected * s[None, :] / s[:, None], atol=0.02)
    np.testing.assert_allclose(model.noise[-1], Q / s[:, None] / s[None, :], rtol=0.03, atol=0.02)


def test_a_longer_path_than_was_ever_seen(fitted):
    """Length 100 from paths of 40, fitted to 4,000: means and variances within five standard errors of them,
    1/√4,000 at each time where times are not pooled."""
    (A, c, Q, scale), model = fitted
    longer = model.of_length(100)
    mean, covariance = exact(A, c, Q, 100)
    s = np.tile(scale.numpy(), 100)
    sd = np.sqrt(np.diag(covariance))
    assert np.max(np.abs(longer.mean().reshape(-1).numpy() * s - mean) / sd) < 0.08
    np.testing.assert_allclose(longer.covariance().diagonal().numpy() * s**2, sd**2, rtol=0.08)


def test_a_law_that_changes_is_not_prolonged():
    """Variance grows with time as t²."""
    rng = np.random.default_rng(0)
    ramp = (1 + np.arange(12.0))[None, :]

    def batches(number):
        del number
        yield torch.tensor(rng.standard_normal((4_000, 12)) * ramp)

    model = fit_autoregression(batches, torch.ones(1, dtype=D), 12)
    assert model.period == 0 and "at each time" in model.words
    np.testing.assert_allclose(model.covariance().diagonal(), ramp[0] ** 2, rtol=0.12)
    with pytest.raises(ValueError, match="beyond the 12 times"):
        model.of_length(13)


def test_a_season():
    """Mean and variance of period 3."""
    rng = np.random.default_rng(1)
    mean, sd = np.array([0.0, 5.0, -2.0]), np.array([1.0, 3.0, 0.5])

    def batches(number):
        del number
        yield torch.tensor(np.tile(mean, 8) + rng.standard_normal((3_000, 24)) * np.tile(sd, 8))

    model = fit_autoregression(batches, torch.ones(1, dtype=D), 24, period=3).of_length(90)
    np.testing.assert_allclose(model.mean()[:, 0], np.tile(mean, 30), atol=0.15)
    np.testing.assert_allclose(model.covariance().diagonal(), np.tile(sd**2, 30), rtol=0.1)
