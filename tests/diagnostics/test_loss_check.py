"""The loss by noise level: at its floor, above it, and lower on the draws of the training. Seeds stated."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from checks import array, covariance_matrix, host

import sdeppl as sp

SDE = sp.VPSDE()
MEAN, COVARIANCE = np.array([2.0, -1.0]), covariance_matrix(2, seed=21, smallest=0.1, largest=2.0)
D = torch.float64


def draws(count, seed):
    return np.random.default_rng(seed).multivariate_normal(MEAN, COVARIANCE, count)


def gaussian_on(backend):
    return sp.GaussianDenoiser(SDE, array(MEAN, backend), array(COVARIANCE, backend))


def longer(exact, factor):
    """The denoiser whose ε̂ is `factor` times the exact one."""

    def mean(x, t):
        alpha = SDE.alpha(t)
        return (x - factor * (x - alpha * exact.mean(x, t))) / alpha

    return sp.CallableDenoiser(SDE, mean, lambda x, t: exact(x, t).covariance, exact.dim, exact.backend)


def test_the_exact_score_is_at_the_floor(precise):
    """tr Cov[x_0 given x_t] α²/σ²/dim; and nothing is above it."""
    exact = gaussian_on(precise)
    x0 = array(draws(2_000, 0), precise)
    check = sp.check_loss(exact, x0, exact=exact)
    assert check.good and check.floor_p == 1.0 and check.gap_p is None
    for level in check.levels:
        alpha, sigma = SDE.alpha_sigma(level.t)
        wanted = np.trace(host(exact(x0[:1, :], level.t).covariance.dense())) * (alpha / sigma) ** 2 / 2
        assert level.loss == pytest.approx(wanted, rel=5 / np.sqrt(4 * 2_000))
        assert level.floor == level.loss and level.excess == 0.0 and level.gap is None


def test_a_loss_above_its_floor_is_found(precise):
    """A score 10% too long has the excess .01 E|ε̂*|²/dim, with E|ε̂*|²/dim = 1 - floor."""
    exact = gaussian_on(precise)
    check = sp.check_loss(longer(exact, 1.1), array(draws(10_000, 1), precise), exact=exact)
    assert not check.good and check.floor_p < 1e-6
    assert check.verdict.startswith("do not trust: above the floor (p = ")
    for level in check.levels:
        wanted = 0.01 * (1 - level.floor) / level.floor
        assert abs(level.excess - wanted) < 5 * level.excess_noise


def test_over_fitting_is_found_and_only_where_there_is_any():
    """The score of 150 training draws themselves, slightly smoothed, against the prior's own."""
    seen = draws(150, 2)
    smoothed = np.broadcast_to(0.01 * COVARIANCE, (150, 2, 2)).copy()
    memory = sp.GaussianMixtureDenoiser(SDE, np.full(150, 1 / 150), seen, smoothed)
    check = sp.check_loss(memory, draws(2_000, 3), seen=seen)
    assert not check.good and check.gap_p < 1e-6 and check.floor_p is None
    assert check.verdict.startswith("do not trust: over-fitted (p = ") and "over-fitted" in str(check)
    worst = max(check.levels, key=lambda level: level.gap / level.gap_noise)
    assert worst.noise_to_signal < 0.5 and worst.gap > 0.3
    exact = gaussian_on(sp.resolve("numpy"))
    ps = [sp.check_loss(exact, draws(600, 2 * k), seen=draws(150, 2 * k + 1), levels=4, seed=k).gap_p
          for k in range(60)]  # fmt: skip
    assert np.count_nonzero(np.array(ps) < 0.05) <= 11  # more has probability 1e-4


def test_a_guide_against_the_moments_of_its_prior():
    def model(y=None):
        a = pyro.sample("a", dist.Normal(torch.tensor(5.0, dtype=D), 2.0))
        b = pyro.sample("b", dist.Normal(a - 1.0, 0.5))
        pyro.sample("y", dist.Normal(b, 1.0), obs=y)

    guide = sp.ScoreGuide(model, net=None)
    guide.fit_gaussian(40_000, progress=False)
    mean, covariance = np.array([5.0, 4.0]), np.array([[4.0, 4.0], [4.0, 4.25]])
    right = sp.check_loss(guide, 8_000, exact=(mean, covariance))
    assert right.good and max(abs(level.excess) for level in right.levels) < 0.01
    apart = sp.check_loss(guide, 8_000, exact=(mean, np.diag([4.0, 4.25])))
    assert min(level.excess for level in apart.levels) < -0.2  # what is called exact here is not
    alone = sp.check_loss(guide, 500, levels=2)
    assert alone.good and alone.verdict == "no level's loss speaks against the training"


def test_a_guide_that_learned_from_few_data():
    """Its Gaussian part is fitted to 120 draws in 40 numbers: too well."""
    rng = np.random.default_rng(5)
    data, fresh = rng.standard_normal((2, 120, 40))

    def model(y=None):
        values = torch.as_tensor(data)
        x = pyro.sample("x", dist.Empirical(values, torch.zeros(len(values), dtype=D)))
        pyro.sample("y", dist.Normal(x, 1.0).to_event(1), obs=y)

    guide = sp.ScoreGuide(model, net=None, latents=["x"])
    guide.fit_gaussian(8_000, progress=False)
    check = sp.check_loss(guide, {"x": fresh}, seen={"x": torch.as_tensor(data)})
    assert not check.good and check.gap_p < 1e-6 and "over-fitted" in check.verdict
    with pytest.raises(sp.ModelError, match=r"give draws of a guide's sites by name: \['x'\]"):
        sp.check_loss(guide, {"x": fresh}, seen={"z": data})


def test_what_cannot_be_checked():
    exact = gaussian_on(sp.resolve("numpy"))
    with pytest.raises(TypeError, match="check_loss takes a ScoreGuide or a Denoiser; got str"):
        sp.check_loss("guide")
    with pytest.raises(TypeError, match=r"exact is a Denoiser of the prior's coordinates, .*; got list"):
        sp.check_loss(exact, draws(200, 0), exact=[MEAN, COVARIANCE])
    with pytest.raises(ValueError, match=r"seen: expected x_0 \(100 or more, 2\); got shape \(50, 2\)"):
        sp.check_loss(exact, draws(200, 0), seen=draws(50, 1))
    with pytest.raises(ValueError, match=r"draws: expected x_0 \(100 or more, 2\); got shape \(200, 1\)"):
        sp.check_loss(exact, draws(200, 0)[:, :1])
