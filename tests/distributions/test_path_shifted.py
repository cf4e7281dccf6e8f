"""SDEPath and Diffusion of SDEs that push the mean, and of sub-VP, EDM and the anchored process."""

import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from scipy.integrate import quad

import sdeppl as sp

TIMES, BETA = [0.3, 0.45, 1.1, 2.0], 1.9
SCHEDULE = sp.ConstantSchedule(BETA)
MU = np.array([2.0, -1.0, 0.4])


def pushed(mu, t):
    """m(t) of dx = -β/2 (x + μ(t)) dt with a constant β, by quadrature."""
    return quad(lambda r: -math.exp(-BETA / 2 * (t - r)) * BETA / 2 * mu(r), 0.0, t, epsabs=1e-13)[0]


def path_covariance(variance, origin=0.0):
    """Cov(x_s, x_t) of the VP SDE with a constant β, from this variance at `origin`."""
    rest = np.array(TIMES) - origin
    low = np.minimum.outer(rest, rest)
    at_low = np.exp(-BETA * low) * variance + 1 - np.exp(-BETA * low)
    return np.exp(-BETA / 2 * np.abs(np.subtract.outer(rest, rest))) * at_low


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 1e-5)])
@pytest.mark.parametrize("mu", [lambda t: -1.3, lambda t: 0.5 + math.sin(4 * t)], ids=["constant", "wave"])
def test_density_of_a_pushed_number(mu, dtype, tolerance):
    """From a known start: mean α x_0 + m(t), covariance as without a push."""
    sde = sp.ShiftedVPSDE(mu, SCHEDULE, T=2.0)
    path = sp.SDEPath(sde, torch.tensor(0.7, dtype=dtype), TIMES)
    mean = [math.exp(-BETA / 2 * t) * 0.7 + pushed(mu, t) for t in TIMES]
    value = np.random.default_rng(1).normal(size=(5, 4))
    found = path.log_prob(torch.tensor(value, dtype=dtype))
    expected = stats.multivariate_normal(mean, path_covariance(0.0)).logpdf(value)
    assert (found.shape, found.dtype) == ((5,), dtype)
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=10 * tolerance)


@pytest.mark.parametrize("kind", ["numpy", "torch", "function"])
def test_density_of_a_pushed_vector_from_a_random_start(kind):
    """Each component goes to its own -μ; the path begins at TIMES[0] with the start's moments."""
    mu = {"numpy": MU, "torch": torch.tensor(MU), "function": lambda t: torch.tensor(MU)}[kind]
    start = dist.Normal(torch.zeros(3, dtype=torch.float64) + 1.5, 1.2).to_event(1)
    path = sp.SDEPath(sp.ShiftedVPSDE(mu, SCHEDULE, T=2.0), start, TIMES)
    value = np.random.default_rng(2).normal(size=(6, 4, 3))
    kept = np.exp(-BETA / 2 * (np.array(TIMES) - TIMES[0]))
    expected = sum(
        stats.multivariate_normal(kept * (1.5 + m) - m, path_covariance(1.44, TIMES[0])).logpdf(value[..., i])
        for i, m in enumerate(MU)
    )
    np.testing.assert_allclose(path.log_prob(torch.tensor(value)), expected, rtol=1e-11)


def test_moments_of_draws_of_a_pushed_vector():
    # 40 000 draws, seed 6: 8 means and 2 × 10 covariances within 5 standard errors; a false alarm has
    # probability below 28 × 6e-7 = 1.7e-5 for another seed
    mu = np.array([3.0, -2.0])
    path = sp.SDEPath(sp.ShiftedVPSDE(mu, SCHEDULE, T=2.0), torch.tensor([0.5, 1.0]).double(), TIMES)
    with torch.random.fork_rng():
        torch.manual_seed(6)
        draws = path.rsample((40_000,)).numpy()
    matrix = path_covariance(0.0)
    sd, kept = np.sqrt(np.diag(matrix)), np.exp(-BETA / 2 * np.array(TIMES))
    error = np.sqrt(np.outer(sd**2, sd**2) + matrix**2) / 200
    for i, start in enumerate((0.5, 1.0)):
        mean = kept * (start + mu[i]) - mu[i]
        assert np.all(np.abs(draws[..., i].mean(0) - mean) < 5 * sd / 200)
        assert np.all(np.abs(np.cov(draws[..., i].T) - matrix) < 5 * error)


def test_float32_states_stay_float32():
    path = sp.SDEPath(sp.ShiftedVPSDE(MU, SCHEDULE), torch.zeros(3), TIMES)
    assert path.rsample((2,)).dtype == path.log_prob(torch.zeros(4, 3)).dtype == torch.float32


def test_gradients_reach_the_push():
    """A draw moves with μ by -(1 - e^{-β t/2})."""
    mu = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    path = sp.SDEPath(sp.ShiftedVPSDE(mu, SCHEDULE), torch.zeros(2, dtype=torch.float64), TIMES)
    slope = torch.autograd.grad(path.rsample()[-1, 0], mu)[0]
    np.testing.assert_allclose(slope, [-(1 - math.exp(-BETA)), 0.0], rtol=1e-12)


def test_the_anchored_path_given_its_start():
    """Mean x_0 at every time, and e^{-β|t-s|/2} - e^{-β(t+s)/2} between two."""
    sde = sp.DataAnchoredSDE(SCHEDULE, T=2.0).given(1.3)
    path = sp.SDEPath(sde, torch.tensor(1.3, dtype=torch.float64), TIMES)
    times = np.array(TIMES)
    matrix = np.exp(-BETA / 2 * np.abs(np.subtract.outer(times, times)))
    matrix -= np.exp(-BETA / 2 * np.add.outer(times, times))
    value = np.array([1.0, 1.2, 0.3, 2.0])
    expected = stats.multivariate_normal(np.full(4, 1.3), matrix).logpdf(value)
    assert float(path.log_prob(torch.tensor(value))) == pytest.approx(expected, rel=1e-11)


ONE = sp.LinearSchedule(0.2, 5.0)


def sub_vp(t):
    B = 0.2 * t + 2.4 * t * t
    return math.exp(-B / 2), (1 - math.exp(-B)) ** 2


DIFFUSIONS = {
    "sub-vp": (sp.SubVPSDE(ONE), sub_vp),
    "edm": (sp.EDMSDE(), lambda t: (1.0, t * t)),
    "anchored": (sp.DataAnchoredSDE(ONE), lambda t: (1.0, 1 - math.exp(-0.2 * t - 2.4 * t * t))),
}


@pytest.mark.parametrize("name", DIFFUSIONS)
def test_density_of_a_diffusion(name):
    """Cov(x_s, x_t) = σ_s² α_t/α_s for s < t."""
    sde, marginal = DIFFUSIONS[name]
    times, start = [0.1, 0.5, 0.9], 0.8
    alpha, variance = np.array([marginal(t) for t in times]).T
    matrix = np.array(
        [[variance[min(i, j)] * alpha[max(i, j)] / alpha[min(i, j)] for i in range(3)] for j in range(3)]
    )
    value = [0.7, 0.9, -0.4]
    x0 = torch.tensor(start, dtype=torch.float64)
    found = sp.Diffusion(sde, x0, times).log_prob(torch.tensor(value, dtype=torch.float64))
    expected = stats.multivariate_normal(alpha * start, matrix).logpdf(value)
    assert float(found) == pytest.approx(expected, rel=1e-10)


def test_paths_that_cannot_be_are_refused():
    with pytest.raises(
        ValueError, match=r"ShiftedVPSDE shifts states of shape \(3,\); these have shape \(2,\)"
    ):
        sp.SDEPath(sp.ShiftedVPSDE(MU, SCHEDULE), torch.zeros(2), TIMES)
    with pytest.raises(ValueError, match=r"shifts states of shape \(3,\); these have shape \(\)"):
        sp.SDEPath(sp.ShiftedVPSDE(MU, SCHEDULE), torch.tensor(1.0), TIMES)
    with pytest.raises(
        ValueError, match=r"EDMSDE adds no noise from -2.0 to -1.0: its times are 0 and later"
    ):
        sp.SDEPath(sp.EDMSDE(), dist.Normal(0.0, 1.0), [-2.0, -1.0])
