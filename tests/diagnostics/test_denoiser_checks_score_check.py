"""Orthogonality of the noise that is left to what is known of x_t: exact scores pass, wrong ones do not.

Seeds are stated; an exact score fails once in a thousand.
"""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from checks import array, covariance_matrix, host

import sdeppl as sp

SDE = sp.VPSDE()
MEAN, COVARIANCE = np.array([2.0, -1.0, 0.5]), covariance_matrix(3, seed=21, smallest=0.1, largest=2.0)
D = torch.float64


def draws(count=20_000, seed=0):
    return np.random.default_rng(seed).multivariate_normal(MEAN, COVARIANCE, count)


def gaussian_on(backend, mean=MEAN, covariance=COVARIANCE):
    return sp.GaussianDenoiser(SDE, array(mean, backend), array(covariance, backend))


def longer(exact, factor):
    """The denoiser whose ε̂ is `factor` times the exact one."""

    def mean(x, t):
        alpha = SDE.alpha(t)
        return (x - factor * (x - alpha * exact.mean(x, t))) / alpha

    return sp.CallableDenoiser(SDE, mean, lambda x, t: exact(x, t).covariance, exact.dim, exact.backend)


def test_an_exact_score_passes(precise):
    exact = gaussian_on(precise)
    check = sp.check_score(exact, array(draws(4_000), precise))
    assert check.good and len(check.levels) == 8 and check.draws == 4_000
    ratios = [level.noise_to_signal for level in check.levels]
    assert ratios == sorted(ratios, reverse=True) and ratios[-1] == pytest.approx(0.05)
    # the loss of the exact score: trace of Cov[x_0 given x_t] α²/σ² over dim, here within 5 standard errors
    for level in check.levels:
        alpha, sigma = SDE.alpha_sigma(level.t)
        dense = host(exact(array(draws(1), precise), level.t).covariance.dense())
        wanted = np.trace(dense) * (alpha / sigma) ** 2 / 3
        assert level.loss == pytest.approx(wanted, rel=5 * np.sqrt(2 / 4_000))


def test_exact_scores_pass_as_often_as_they_should():
    """Of 200 checks of a mixture, about 5% have p < .05 and fewer where tests overlap; seeds 0 to 199. More
    than 22 of them has probability 1e-4."""
    backend, rng = sp.resolve("numpy"), np.random.default_rng(1)
    means, spreads = np.array([[-2.0, 0.5], [1.0, 2.0]]), np.array([0.3, 0.6])
    exact = sp.GaussianMixtureDenoiser(
        SDE, np.array([0.3, 0.7]), means, np.stack([s**2 * np.eye(2) for s in spreads])
    )
    assert exact.backend.name == backend.name
    found = []
    for seed in range(200):
        chosen = (rng.random(1_000) > 0.3).astype(int)
        x0 = means[chosen] + spreads[chosen][:, None] * rng.standard_normal((1_000, 2))
        found.append(sp.check_score(exact, x0, levels=3, seed=seed).p)
    assert np.count_nonzero(np.array(found) < 0.05) <= 22


@pytest.mark.parametrize("factor", [0.98, 1.02])
def test_a_score_that_is_two_percent_off_is_found(factor, precise):
    check = sp.check_score(longer(gaussian_on(precise), factor), array(draws(), precise))
    assert not check.good and check.p < 1e-6
    middle = min(check.levels, key=lambda level: abs(level.noise_to_signal - 1))
    assert abs(middle.scale_error - (1 - 1 / factor)) < 5 * middle.scale_noise
    assert "the score is wrong" in str(check) and "σ/α" in check.verdict


def test_two_percent_at_one_time_by_a_million_draws():
    """At t = .3, half of a forward SDE that ends at .6: |z| of all statistics, of the exact score and of one
    that is 2% too long."""
    sde, x0 = sp.VPSDE(T=0.6), draws(1_000_000)
    exact = sp.GaussianDenoiser(sde, MEAN, COVARIANCE)

    def mean(x, t):
        alpha = sde.alpha(t)
        return (x - 1.02 * (x - alpha * exact.mean(x, t))) / alpha

    wrong = sp.CallableDenoiser(sde, mean, lambda x, t: exact(x, t).covariance, 3, exact.backend)
    (right,), (found,) = (sp.check_score(prior, x0, levels=1).levels for prior in (exact, wrong))
    assert right.t == found.t == pytest.approx(0.3)
    largest = [max(abs(s.scale_error) / s.scale_noise, s.bias, s.slope, s.bend) for s in (right, found)]
    assert largest[0] < 5 < abs(found.scale_error) / found.scale_noise
    assert largest[1] > 40  # 2% of ε̂ in units of what a million draws leave


def test_a_wrong_mean_and_a_wrong_correlation_are_found():
    backend = sp.resolve("numpy")
    shifted = sp.check_score(gaussian_on(backend, mean=MEAN + np.array([0.0, 0.1, 0.0])), draws())
    assert shifted.p < 1e-6 and max(level.bias for level in shifted.levels) > 6
    apart = sp.check_score(gaussian_on(backend, covariance=np.diag(np.diag(COVARIANCE))), draws())
    assert apart.p < 1e-6 and max(level.slope for level in apart.levels) > 6


@pytest.mark.parametrize("dim", [3, 40])  # with every pair of a residual and an input, and with each its own
def test_nats_are_the_divergence_of_gaussians(dim):
    """KL(N(m, C) | N(m + δ, D)), whose score is off by what is linear in x_t; seed 3, 5 standard errors."""
    rng = np.random.default_rng(3)
    if dim == 3:
        covariance, wrong = COVARIANCE, np.diag(np.diag(COVARIANCE))
    else:
        covariance = np.diag(rng.uniform(0.2, 2.0, dim))
        wrong = covariance * np.where(np.arange(dim) % 2, 1.2, 1.0)
    mean, shift = rng.standard_normal(dim), 0.1 * rng.standard_normal(dim)
    x0 = rng.multivariate_normal(mean, covariance, 20_000)
    check = sp.check_score(sp.GaussianDenoiser(SDE, mean + shift, wrong), x0, levels=12)
    ratio = np.linalg.solve(wrong, covariance)
    divergence = 0.5 * (shift @ np.linalg.solve(wrong, shift) + np.trace(ratio) - dim)
    divergence -= 0.5 * np.linalg.slogdet(ratio)[1]
    # what is found varies by more than where there is nothing to find: 2 √(excess/draws) a level
    noise = np.hypot(check.nats_noise, 2 * np.sqrt(divergence / 20_000))
    assert check.nats == pytest.approx(divergence, rel=0.02, abs=5 * noise)
    off = np.sqrt(2 * check.nats)
    assert f"{off:.2g} standard deviations off, or each of {dim} by {off / dim**0.5:.2g};" in check.verdict


def test_an_exact_score_has_no_nats_and_their_noise_is_right():
    """Of 100 exact scores, seeds 0 to 99: mean and mean square of nats in standard errors; 4 of theirs."""
    exact, rng = gaussian_on(sp.resolve("numpy")), np.random.default_rng(7)
    z = []
    for seed in range(100):
        x0 = rng.multivariate_normal(MEAN, COVARIANCE, 1_000)
        check = sp.check_score(exact, x0, levels=3, seed=seed)
        z.append(check.nats / check.nats_noise)
    assert abs(np.mean(z)) < 0.4 and abs(np.mean(np.square(z)) - 1) < 4 * np.sqrt(2 / 100)


def test_the_gaussian_part_of_two_modes_is_found_by_its_bend():
    """The best linear score is orthogonal to all that is linear; a guide without a network has no more."""

    def model():
        side = pyro.sample("side", dist.Normal(torch.tensor(0.0, dtype=D), 1.0))
        pyro.sample("x", dist.Normal(2 * torch.tanh(4 * side), 0.3))

    guide = sp.ScoreGuide(model, net=None, latents=["x"])
    guide.fit_gaussian(40_000, progress=False)
    check = sp.check_score(guide, 8_000)
    assert not check.good and max(level.bend for level in check.levels) > 6
    assert max(max(level.bias, level.slope) for level in check.levels) < 4


def test_what_cannot_be_checked():
    exact, x0 = gaussian_on(sp.resolve("numpy")), draws(200)
    with pytest.raises(TypeError, match="takes a ScoreGuide or a Denoiser; got str"):
        sp.check_score("guide")
    with pytest.raises(TypeError, match="takes draws=x_0, an array"):
        sp.check_score(exact)
    with pytest.raises(ValueError, match=r"expected x_0 \(100 or more, 3\); got shape \(200, 2\)"):
        sp.check_score(exact, x0[:, :2])
    with pytest.raises(ValueError, match="got shape \\(99, 3\\)"):
        sp.check_score(exact, x0[:99])
    with pytest.raises(ValueError, match="levels must be a whole number, at least 1; got 0"):
        sp.check_score(exact, x0, levels=0)
    broken = sp.CallableDenoiser(SDE, lambda x, t: x * np.nan, lambda x, t: None, 3, exact.backend)
    with pytest.raises(FloatingPointError, match="NaN or infinity at t = "):
        sp.check_score(broken, x0)
