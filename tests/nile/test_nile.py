"""The main job: p(level | y) of the Nile against the Kalman smoother, on NumPy and torch.

Seed 1 throughout. 2,000 draws have a Monte Carlo error of 0.022 posterior standard deviations in the
mean and 1.6% in the standard deviation; with the years' correlations the rms over 100 years exceeds
0.05 or 3% by chance alone in well under 1 of 100 cases for an exact sampler.
"""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import statsmodels.api as sm
import torch

import sdeppl as sp

LEVEL_VARIANCE, NOISE_VARIANCE = 1469.1, 15099.0
CASES = ("two gaps", "every tenth year", "a quarter of the noise")


def nile(y=None, noise_variance=NOISE_VARIANCE):
    start = dist.Normal(torch.tensor(1000.0, dtype=torch.float64), 500.0)
    brownian = sp.LinearSDE(a=0.0, b=math.sqrt(LEVEL_VARIANCE))
    level = pyro.sample("level", sp.SDEPath(brownian, start, range(100)))
    pyro.sample("y", dist.Normal(level, math.sqrt(noise_variance)).to_event(1), obs=y)


def case(name):
    """Data and noise variance."""
    flow = sm.datasets.nile.load_pandas().data["volume"].to_numpy(dtype=float).copy()
    if name == "every tenth year":
        return np.where(np.arange(100) % 10 == 0, flow, np.nan), NOISE_VARIANCE
    flow[20:40] = flow[60:80] = np.nan
    return flow, NOISE_VARIANCE if name == "two gaps" else NOISE_VARIANCE / 4


def kalman_smoother(y, noise_variance):
    smoother = sm.tsa.UnobservedComponents(y, "local level")
    smoother.ssm.initialize_known(np.array([1000.0]), np.array([[500.0**2]]))
    result = smoother.smooth([noise_variance, LEVEL_VARIANCE])
    return sp.reference.Exact(result.smoothed_state[0], np.sqrt(result.smoothed_state_cov[0, 0]))


@pytest.fixture(scope="module")
def guide():
    """Trained once, for every case here."""
    guide = sp.ScoreGuide(nile)
    sp.ScoreMatching(guide, draws=200_000).fit(steps=0, progress=False)
    return guide


def test_the_smoother_agrees_with_gaussian_conditioning():
    y, noise_variance = case("two gaps")
    steps = np.arange(100)
    prior = 500.0**2 + LEVEL_VARIANCE * np.minimum.outer(steps, steps)
    seen = ~np.isnan(y)
    gain = np.linalg.solve(prior[np.ix_(seen, seen)] + noise_variance * np.eye(seen.sum()), prior[seen]).T
    exact = kalman_smoother(y, noise_variance)
    np.testing.assert_allclose(exact.mean, 1000 + gain @ (y[seen] - 1000), rtol=1e-8)
    covariance = prior - gain @ prior[seen]
    np.testing.assert_allclose(exact.sd, np.sqrt(covariance.diagonal()), rtol=1e-6)


@pytest.mark.parametrize("c", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_posterior_is_the_kalman_smoothers(guide, library, name, c):
    y, noise_variance = case(name)
    posterior = guide.condition(y=y, kwargs={"noise_variance": noise_variance}, backend=library)
    draws = posterior.sample(2_000, seed=1, c=c)
    level = draws["level"]
    assert type(level).__module__.split(".")[0] == library
    assert level.shape == (2_000, 100)
    assert str(level.dtype).endswith("float64")
    found = sp.compare(draws, {"level": kalman_smoother(y, noise_variance)})["level"]
    assert found.mean_error < 0.05
    assert found.sd_error < 0.03


@pytest.mark.parametrize("c", [0.0, 1.0])
def test_the_same_draws_on_numpy_and_torch(guide, c):
    y, _ = case("two gaps")
    on_numpy, on_torch = (
        sp.to_host(guide.condition(y=y, backend=library).sample(50, seed=3, c=c)["level"])
        for library in ("numpy", "torch")
    )
    np.testing.assert_allclose(on_numpy, on_torch, rtol=1e-9)


def test_years_of_one_draw_vary_together_as_the_smoother_says(guide):
    """Joint, not only marginal: the covariance between neighbouring years, and across a gap."""
    y, noise_variance = case("two gaps")
    steps = np.arange(100)
    prior = 500.0**2 + LEVEL_VARIANCE * np.minimum.outer(steps, steps)
    seen = ~np.isnan(y)
    gain = np.linalg.solve(prior[np.ix_(seen, seen)] + noise_variance * np.eye(seen.sum()), prior[seen]).T
    exact = prior - gain @ prior[seen]
    draws = guide.condition(y=y, backend="numpy").sample(4_000, seed=1)["level"]
    found = np.cov(draws.T)
    sd = np.sqrt(exact.diagonal())
    # standard error of a correlation is at most 1/√4000 = 0.016; 5 of them over 4,950 pairs
    assert np.abs(found / np.outer(sd, sd) - exact / np.outer(sd, sd)).max() < 0.08


@pytest.mark.slow  # tests/reference/test_nuts.py holds NUTS to exact posteriors
def test_nuts_on_the_same_model_agrees(guide):
    """A short run: 300 draws with about 100 effective ones, so 0.1 sd of noise in a mean."""
    y, noise_variance = case("two gaps")
    nuts = sp.reference.nuts(
        nile,
        {"y": y},
        draws=300,
        warmup=200,
        chains=1,
        seed=2,
        progress=False,
        jit_compile=True,
        ignore_jit_warnings=True,
    )
    exact = kalman_smoother(y, noise_variance)
    against_exact = sp.compare(nuts.draws, {"level": exact})["level"]
    assert against_exact.mean_error < 0.25
    assert against_exact.sd_error < 0.15
    draws = guide.condition(y=y).sample(2_000, seed=1)
    against_sdeppl = sp.compare(draws, nuts)["level"]
    assert against_sdeppl.mean_error < 3 * against_sdeppl.mean_noise
    assert against_sdeppl.distance < 2 * against_sdeppl.distance_floor
