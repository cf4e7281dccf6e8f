"""SDEPath, Diffusion and WienerReparam against dense normals built from each process's covariance."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from scipy import stats

import sdeppl as sp

TIMES = [0.3, 0.45, 1.1, 2.0]
MEAN, VARIANCE = 1.7, 2.5  # of a random first state


def brownian(s, t, start):
    """Cov(x_s, x_t) for dx = 1.3 dW from variance `start` at time 0, and the mean's factor at t."""
    return start + 1.3**2 * min(s, t), 1.0


def ornstein(s, t, start):
    """The same for dx = -0.8 x dt + 1.3 dW."""
    low = min(s, t)
    at_low = math.exp(-1.6 * low) * start + 1.3**2 / 1.6 * (1 - math.exp(-1.6 * low))
    return math.exp(-0.8 * abs(t - s)) * at_low, math.exp(-0.8 * t)


def preserving(s, t, start):
    """The same for the VP SDE with constant β = 1.9."""
    low = min(s, t)
    at_low = math.exp(-1.9 * low) * start + 1 - math.exp(-1.9 * low)
    return math.exp(-0.95 * abs(t - s)) * at_low, math.exp(-0.95 * t)


PROCESSES = {
    "brownian": (sp.LinearSDE(0.0, 1.3), brownian),
    "ornstein-uhlenbeck": (sp.LinearSDE(0.8, 1.3), ornstein),
    "vp": (sp.VPSDE(sp.ConstantSchedule(1.9)), preserving),
}
each_process = pytest.mark.parametrize("name", PROCESSES)


def dense(covariance, times, origin, mean, variance):
    """Moments of the path whose state at `origin` has this mean and variance."""
    rest = [t - origin for t in times]
    matrix = [[covariance(s, t, variance)[0] for t in rest] for s in rest]
    return np.array([covariance(t, t, variance)[1] * mean for t in rest]), np.array(matrix)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@each_process
def test_random_start_scalar_density(name, dtype, tolerance):
    sde, covariance = PROCESSES[name]
    start = dist.Normal(torch.tensor(MEAN, dtype=dtype), math.sqrt(VARIANCE))
    path = sp.SDEPath(sde, start, TIMES)
    mean, matrix = dense(covariance, TIMES, TIMES[0], MEAN, VARIANCE)
    value = np.random.default_rng(1).normal(size=(5, 4)) * 2 + 1
    found = path.log_prob(torch.tensor(value, dtype=dtype))
    assert (found.shape, found.dtype) == ((5,), dtype)
    np.testing.assert_allclose(
        found, stats.multivariate_normal(mean, matrix).logpdf(value), rtol=tolerance, atol=10 * tolerance
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@each_process
def test_known_start_vector_density(name, dtype):
    sde, covariance = PROCESSES[name]
    start = np.array([2.0, -1.0, 0.4])
    path = sp.SDEPath(sde, torch.tensor(start, dtype=dtype), TIMES, t0=0.1)
    value = np.random.default_rng(2).normal(size=(5, 4, 3))
    expected = 0.0
    for column in range(3):
        mean, matrix = dense(covariance, TIMES, 0.1, start[column], 0.0)
        expected = expected + stats.multivariate_normal(mean, matrix).logpdf(value[..., column])
    found = path.log_prob(torch.tensor(value, dtype=dtype))
    assert (found.shape, found.dtype, path.event_shape, path.batch_shape) == ((5,), dtype, (4, 3), ())
    np.testing.assert_allclose(found, expected, rtol=1e-12 if dtype == torch.float64 else 2e-5)


def test_time_dependent_schedule_uses_the_absolute_time():
    sde, times = sp.VPSDE(sp.LinearSchedule(0.2, 5.0)), [0.4, 0.7]

    def integral(s, t):
        return 0.2 * (t - s) + 2.4 * (t**2 - s**2)

    keep = [math.exp(-integral(0.25, 0.4)), math.exp(-integral(0.4, 0.7))]
    first = 1 - keep[0]
    matrix = [
        [first, math.sqrt(keep[1]) * first],
        [math.sqrt(keep[1]) * first, keep[1] * first + 1 - keep[1]],
    ]
    mean = [3 * math.sqrt(keep[0]), 3 * math.sqrt(keep[0] * keep[1])]
    path = sp.SDEPath(sde, torch.tensor(3.0, dtype=torch.float64), times, t0=0.25)
    value = [1.2, -0.3]
    found = path.log_prob(torch.tensor(value, dtype=torch.float64))
    assert float(found) == pytest.approx(stats.multivariate_normal(mean, matrix).logpdf(value), rel=1e-12)


def test_random_vector_start_with_correlated_components():
    loc, C = np.array([1.0, -2.0]), np.array([[2.0, 0.9], [0.9, 1.5]])
    start = dist.MultivariateNormal(torch.tensor(loc), torch.tensor(C))
    path = sp.SDEPath(PROCESSES["ornstein-uhlenbeck"][0], start, TIMES)
    gaps = np.array(TIMES) - TIMES[0]
    low = np.minimum.outer(gaps, gaps)
    decay = np.exp(-0.8 * np.add.outer(gaps, gaps))
    noise = np.exp(-0.8 * np.abs(np.subtract.outer(gaps, gaps))) * 1.3**2 / 1.6 * (1 - np.exp(-1.6 * low))
    matrix = np.kron(decay, C) + np.kron(noise, np.eye(2))
    value = np.random.default_rng(3).normal(size=(6, 4, 2))
    expected = stats.multivariate_normal(np.kron(np.exp(-0.8 * gaps), loc), matrix).logpdf(
        value.reshape(6, 8)
    )
    np.testing.assert_allclose(path.log_prob(torch.tensor(value)), expected, rtol=1e-11)


def test_batches_expand_and_sample_shapes():
    loc = torch.tensor([0.0, 1.0, -3.0], dtype=torch.float64)
    sde = sp.LinearSDE(0.5, 0.7)
    path = sp.SDEPath(sde, dist.Normal(loc, 2.0), TIMES)
    assert (path.batch_shape, path.event_shape) == ((3,), (4,))
    wide = path.expand((2, 3))
    value = wide.rsample((5,))
    assert (value.shape, value.dtype) == ((5, 2, 3, 4), torch.float64)
    each = torch.stack(
        [sp.SDEPath(sde, dist.Normal(m, 2.0), TIMES).log_prob(value[:, :, i]) for i, m in enumerate(loc)], -1
    )
    assert wide.log_prob(value).shape == (5, 2, 3)
    torch.testing.assert_close(wide.log_prob(value), each, rtol=1e-12, atol=0)
    torch.testing.assert_close(path.log_prob(value), each, rtol=1e-12, atol=0)
    # a known vector start: the last dimension is the state, the rest a batch
    starts = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    known = sp.SDEPath(sde, starts, TIMES)
    assert (known.batch_shape, known.event_shape) == ((3,), (4, 2))
    value = known.expand((2, 3)).rsample((5,))
    assert value.shape == (5, 2, 3, 4, 2)
    one = sp.SDEPath(sde, starts[1], TIMES).log_prob(value[:, :, 1])
    torch.testing.assert_close(known.log_prob(value)[:, :, 1], one)


def test_inside_a_plate():
    def model():
        with pyro.plate("series", 6):
            return pyro.sample("x", sp.SDEPath(sp.LinearSDE(0.5, 0.7), dist.Normal(1.0, 2.0), TIMES))

    with torch.random.fork_rng():
        torch.manual_seed(4)
        trace = poutine.trace(model).get_trace()
    trace.compute_log_prob()
    node = trace.nodes["x"]
    alone = sp.SDEPath(sp.LinearSDE(0.5, 0.7), dist.Normal(1.0, 2.0), TIMES)
    assert node["value"].shape == (6, 4)
    assert len(torch.unique(node["value"], dim=0)) == 6
    torch.testing.assert_close(node["log_prob"], alone.log_prob(node["value"]))


@pytest.mark.parametrize("start", ["random", "known"])
def test_moments_of_draws(start):
    # 40 000 draws, seed 5: each of 4 means and 10 covariances within 5 standard errors, so a false
    # alarm has probability below 14 × 6e-7
    sde, covariance = PROCESSES["ornstein-uhlenbeck"]
    if start == "random":
        path = sp.SDEPath(sde, dist.Normal(torch.tensor(MEAN).double(), math.sqrt(VARIANCE)), TIMES)
        mean, matrix = dense(covariance, TIMES, TIMES[0], MEAN, VARIANCE)
    else:
        path = sp.SDEPath(sde, torch.tensor(MEAN).double(), TIMES)
        mean, matrix = dense(covariance, TIMES, 0.0, MEAN, 0.0)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        draws = path.rsample((40_000,)).numpy()
    sd = np.sqrt(np.diag(matrix))
    assert np.all(np.abs(draws.mean(0) - mean) < 5 * sd / 200)
    error = np.sqrt(np.outer(sd**2, sd**2) + matrix**2) / 200
    assert np.all(np.abs(np.cov(draws.T) - matrix) < 5 * error)


def test_gradients_in_the_start():
    loc = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    scale = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    value = torch.tensor([1.1, 0.2, 0.7, 0.0], dtype=torch.float64)
    path = sp.SDEPath(sp.LinearSDE(0.8, 1.3), dist.Normal(loc, scale), TIMES)
    found = torch.autograd.grad(path.log_prob(value), (loc, scale))
    z = (1.1 - 0.4) / 1.3
    assert float(found[0]) == pytest.approx(z / 1.3, rel=1e-12)
    assert float(found[1]) == pytest.approx((z * z - 1) / 1.3, rel=1e-12)
    # a draw moves with the start by e^{-a (t - t_0)}
    last = torch.autograd.grad(path.rsample()[-1], loc)[0]
    assert float(last) == pytest.approx(math.exp(-0.8 * 1.7), rel=1e-12)
    # and ln p with a known start by the first transition's score
    x0 = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    slope = torch.autograd.grad(sp.SDEPath(sp.LinearSDE(0.8, 1.3), x0, TIMES).log_prob(value), x0)[0]
    phi, q = math.exp(-0.24), 1.3**2 / 1.6 * (1 - math.exp(-0.48))
    assert float(slope) == pytest.approx(phi * (1.1 - phi * 0.4) / q, rel=1e-12)


def test_a_start_without_rsample_is_said_to_have_none():
    start = dist.Empirical(torch.tensor([1.0, 3.0]), torch.zeros(2))
    path = sp.SDEPath(sp.LinearSDE(0.5, 0.1), start, TIMES)
    assert not path.has_rsample
    assert set(path.sample((50,))[:, 0].tolist()) == {1.0, 3.0}
    assert sp.SDEPath(sp.LinearSDE(0.5, 0.1), dist.Normal(0.0, 1.0), TIMES).has_rsample


def test_an_integer_start_is_a_number():
    path = sp.SDEPath(sp.LinearSDE(0.0, 1.0), 3, [1.0, 2.0])
    draw = path.rsample()
    assert draw.dtype == torch.float32
    expected = stats.norm(3, 1).logpdf(2.5) + stats.norm(2.5, 1).logpdf(4.0)
    assert float(path.log_prob(torch.tensor([2.5, 4.0]))) == pytest.approx(expected, rel=1e-6)


def test_a_known_number_in_a_plate_is_a_batch_of_numbers():
    start = torch.tensor(0.7, dtype=torch.float64)

    def model():
        with pyro.plate("series", 5):
            pyro.sample("x", sp.SDEPath(sp.LinearSDE(0.8, 1.3), start, TIMES))

    trace = poutine.trace(model).get_trace()
    trace.compute_log_prob()
    value = trace.nodes["x"]["value"]
    mean, matrix = dense(ornstein, TIMES, 0.0, 0.7, 0.0)
    assert (value.shape, value.dtype) == ((5, 4), torch.float64)
    np.testing.assert_allclose(
        trace.nodes["x"]["log_prob"], stats.multivariate_normal(mean, matrix).logpdf(value), rtol=1e-10
    )
