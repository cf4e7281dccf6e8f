"""Guides of paths: the Gaussian part in time against Kalman smoothers, for any length."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import sdeppl as sp

D = torch.float64
A = np.array([[0.9, 0.25], [-0.25, 0.85]])  # a damped oscillation
C, SD = np.array([0.2, -0.1]), np.array([0.5, 0.3])
START_MEAN, START_SD, NOISE = np.array([2.0, -1.0]), np.array([1.5, 0.5]), 0.4
EVERY = 3


def step(x, rng):
    return C + x @ A.T + SD * rng.standard_normal(x.shape)


def model(length=24):
    start = dist.Normal(torch.tensor(START_MEAN), torch.tensor(START_SD)).to_event(1)
    x = pyro.sample("x", sp.MarkovPath(step, start, length))
    pyro.sample("y", dist.Normal(x[..., ::EVERY, 0], NOISE).to_event(1))


def kalman(y, length):
    """Means and standard deviations given y, and ln p(y). Source: Rauch, Tung & Striebel 1965."""
    m, P, Q, log_p = START_MEAN, np.diag(START_SD**2), np.diag(SD**2), 0.0
    filtered, predicted = [], []
    for k in range(length):
        predicted.append((m, P))
        if k % EVERY == 0:
            S = P[0, 0] + NOISE**2
            r = y[k // EVERY] - m[0]
            log_p -= 0.5 * (math.log(2 * math.pi * S) + r * r / S)
            gain = P[:, 0] / S
            m, P = m + gain * r, P - np.outer(gain, P[0])
        filtered.append((m, P))
        m, P = C + A @ m, A @ P @ A.T + Q
    m, P = filtered[-1]
    found = [(m, np.sqrt(np.diag(P)))]
    for k in range(length - 2, -1, -1):
        G = filtered[k][1] @ A.T @ np.linalg.inv(predicted[k + 1][1])
        m = filtered[k][0] + G @ (m - predicted[k + 1][0])
        P = filtered[k][1] + G @ (P - predicted[k + 1][1]) @ G.T
        found.append((m, np.sqrt(np.diag(P))))
    means, sds = zip(*reversed(found), strict=True)
    return np.array(means), np.array(sds), log_p


def record(length, seed):
    rng = np.random.default_rng(seed)
    x = [START_MEAN + START_SD * rng.standard_normal(2)]
    for _ in range(length - 1):
        x.append(step(x[-1], rng))
    seen = np.array(x)[::EVERY, 0]
    return seen + NOISE * rng.standard_normal(len(seen))


@pytest.fixture(scope="module")
def guide():
    return sp.ScoreGuide(model, layout={"x": sp.Time()}).fit_gaussian(20_000)


@pytest.mark.parametrize("length", [24, 7, 1_000])
def test_states_given_a_record_of_any_length(guide, length):
    """Fitted to 20,000 paths of 24 states: means within .03 standard deviations (rms), standard deviations
    within 1%, ln p(y) within 5 of the standard errors that the fit's own √(states/480,000) gives it."""
    y = record(length, 3)
    posterior = guide.condition(y=y, kwargs={"length": length}, backend="numpy")
    run = posterior.run(2_000, seed=1)
    means, sds, log_p = kalman(y, length)
    draws = np.asarray(run.draws["x"])
    assert draws.shape == (2_000, length, 2)
    off = (draws.mean(axis=0) - means) / sds
    assert math.sqrt(np.mean(off**2)) < 0.03 + 1.2 / math.sqrt(2_000)
    assert math.sqrt(np.mean((draws.std(axis=0) / sds - 1) ** 2)) < 0.01 + 1.2 / math.sqrt(4_000)
    assert abs(run.diagnosis.log_evidence - log_p) < 5 * 3 * math.sqrt(max(length, 24) / 480_000)
    assert "block by block in time" in run.diagnosis.text


def test_the_reverse_sde_has_the_same_posterior(guide):
    """4,000 draws of each, 60 steps of c = 0: means within 5 standard errors and the solver's 2%; seed 2."""
    y = record(24, 4)
    posterior = guide.condition(y=y, backend="numpy", steps=60)
    draws = np.asarray(posterior.sample(4_000, seed=2, c=0.0)["x"])
    means, sds, _ = kalman(y, 24)
    assert np.max(np.abs(draws.mean(axis=0) - means) / sds) < 5 / math.sqrt(4_000) + 0.03
    assert np.max(np.abs(draws.std(axis=0) / sds - 1)) < 5 / math.sqrt(8_000) + 0.03


def test_missing_times_are_nan(guide):
    y = record(24, 5)
    y[2:5] = np.nan
    draws = np.asarray(guide.condition(y=y, backend="numpy").sample(4_000, seed=3)["x"])
    seen = ~np.isnan(y)
    T, d = 24, 2
    part = guide.fitted()
    H = np.zeros((8, T * d))
    H[range(8), [EVERY * d * k for k in range(8)]] = 1.0
    s = part.scale.numpy()
    prior = part.covariance.dense().numpy() * s[:, None] * s[None, :]
    H, rest = H[seen], y[seen]
    gain = prior @ H.T @ np.linalg.inv(H @ prior @ H.T + NOISE**2 * np.eye(len(H)))
    mean = part.location.numpy() + gain @ (rest - H @ part.location.numpy())
    sd = np.sqrt(np.diag(prior - gain @ H @ prior))
    off = (draws.mean(axis=0).reshape(-1) - mean) / sd
    assert np.max(np.abs(off)) < 5 / math.sqrt(4_000)


def test_it_is_saved_and_opened(guide, tmp_path):
    guide.save(tmp_path / "path.safetensors")
    again = sp.ScoreGuide.load(tmp_path / "path.safetensors", model, layout={"x": sp.Time()})
    y = record(40, 6)
    one, other = (g.condition(y=y, kwargs={"length": 40}).sample(10, seed=1)["x"] for g in (guide, again))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def gained(length=24, gain=2.0):
    start = dist.Normal(torch.tensor(START_MEAN), torch.tensor(START_SD)).to_event(1)
    x = pyro.sample("x", sp.MarkovPath(step, start, length))
    pyro.sample("y", dist.Normal(gain * x[..., ::EVERY, 0], NOISE).to_event(1))


def test_what_cannot_be_asked_is_refused_by_name(guide):
    with pytest.raises(sp.ModelError, match="site 'x' has 30 states in model=, and 24"):
        guide.condition(y=record(30, 1), kwargs={"length": 30}, model=gained)
    with pytest.raises(sp.ModelError, match="'x' has the layout"):
        sp.ScoreGuide(model, layout={"x": sp.Time()}, net=sp.ResidualMLP)
    with pytest.raises(sp.ModelError, match="site 'x': an autoregression of order 30"):
        sp.ScoreGuide(model, layout={"x": sp.Time(order=30)}).fit_gaussian(100)
