"""Metropolis-adjusted Langevin steps: draws of p_t(x) l(y given x_t = x) stay such.

Seeds are fixed; each Monte Carlo test states how often a fresh seed would fail it.
"""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from checks import array, boxed, covariance_matrix, host
from langevin_targets import (
    COVARIANCE,
    MEAN,
    SDE,
    ExactLikelihood,
    H,
    R,
    assert_moments,
    exact_draws,
    gaussian_on,
    gaussian_target,
    mixture_on,
    smallest_p_value,
    time_of,
)

import sdeppl as sp
from sdeppl.likelihood import Guided
from sdeppl.posterior.langevin import LangevinCorrector


@pytest.mark.parametrize("known", [True, False], ids=["density", "score"])
@pytest.mark.parametrize("level", [0.05, 0.5])
def test_a_gaussian_target_keeps_its_moments(level, known, backend):
    """3,000 exact draws, seed 1: nine entries within 4.5 standard errors, 6e-5 of fresh seeds fail."""
    prior, seen = gaussian_on(backend)
    rung = sp.TweedieDenoiser(prior if known else boxed(prior), seen)
    t, z = time_of(level), np.random.default_rng(1).standard_normal((3_000, 3))
    mean, covariance = gaussian_target(t)
    x = array(mean + z @ np.linalg.cholesky(covariance).T, backend)
    corrected = LangevinCorrector(steps=5).correct(rung, x, t, sp.Noise(2).stream(backend))
    assert (np.abs(host(corrected.x) - host(x)).max(axis=-1) > 0).mean() > 0.95  # they have moved
    assert 0.6 < host(corrected.acceptance).mean() < 0.8
    assert_moments(corrected.x, mean, covariance)


@pytest.mark.parametrize("known", [True, False], ids=["density", "score"])
@pytest.mark.parametrize("level", [0.05, 0.3])
def test_a_mixture_keeps_its_distribution(level, known, precise):
    """5,000 exact draws under the exact likelihood, seed 3; of fresh seeds 4e-4 fail.

    The line integral errs by about .05 where a step crosses modes, which 5,000 draws do not show.
    """
    prior, seen = mixture_on(precise)
    rung = ExactLikelihood(prior if known else boxed(prior), seen, prior)
    t = time_of(level)
    x = exact_draws(rung.posterior, t, 5_000, seed=3)
    corrected = LangevinCorrector(steps=10).correct(rung, x, t, sp.Noise(4).stream(precise))
    assert smallest_p_value(x, t) > 1e-4
    assert smallest_p_value(corrected.x, t) > 1e-4


def test_a_mixture_keeps_its_distribution_in_any_precision(backend):
    """As above in a few steps, on a denoiser that is the target itself, p_t; of fresh seeds 4e-4 fail."""
    posterior = sp.exact_posterior(*mixture_on(backend)).denoiser
    t = time_of(0.1)
    x = exact_draws(posterior, t, 2_000, seed=5)
    corrected = LangevinCorrector(steps=5).correct(posterior, x, t, sp.Noise(6).stream(backend))
    assert smallest_p_value(corrected.x, t) > 1e-4


class Always:
    """Noise whose uniform numbers are all 0: every step is taken."""

    def __init__(self, stream):
        self.normal, self.backend = stream.normal, stream.backend

    def uniform(self, step, count, index=0):
        return self.backend.xp.zeros(count, dtype=self.backend.dtype)


def test_the_test_above_would_see_steps_that_are_always_taken():
    """Power: without the Metropolis test the same draws have p-values below 1e-12."""
    numpy = sp.resolve("numpy")
    posterior = sp.exact_posterior(*mixture_on(numpy)).denoiser
    t = time_of(0.1)
    x = exact_draws(posterior, t, 2_000, seed=5)
    corrected = LangevinCorrector(steps=5).correct(posterior, x, t, Always(sp.Noise(6).stream(numpy)))
    assert smallest_p_value(corrected.x, t) < 1e-12


@pytest.mark.parametrize("dim", [1, 4])
def test_acceptance_of_small_steps_is_that_of_theory(dim, precise):
    """On a Gaussian with P its covariance ln of the ratio is h/8 (|z|² - |z'|²), z' = (1 - h/2) z + √h ξ: of
    variance h³ dim/16 and mean minus half of it for small h, so 2 Φ(-h^{3/2} √dim/8) are taken (Roberts &
    Rosenthal 1998). 20,000 × 5 steps, seed 8, against 400,000 draws of the ratio: 5 standard errors."""
    prior = sp.GaussianDenoiser(
        SDE, array(np.arange(dim), precise), array(covariance_matrix(dim, 3), precise)
    )
    seen = sp.LinearGaussian(array(np.ones((1, dim)), precise), array([0.5], precise), 0.2)
    t, found, expected, limits = time_of(0.1), [], [], []
    posterior = sp.exact_posterior(prior, seen).denoiser
    x = posterior.marginals.sample(t, 20_000, seed=9)
    rng = np.random.default_rng(10)
    for h in (0.1, 0.4, 1.6):
        settings = LangevinCorrector(steps=5, step_size=h)
        acceptance = settings.correct(sp.TweedieDenoiser(prior, seen), x, t, sp.Noise(8).stream(precise))
        found.append(host(acceptance.acceptance).mean())
        z, xi = rng.standard_normal((2, 400_000, dim))
        moved = (1 - h / 2) * z + math.sqrt(h) * xi
        ratio = np.exp(np.minimum(h / 8 * ((z * z).sum(axis=1) - (moved * moved).sum(axis=1)), 0))
        expected.append(ratio.mean())
        limits.append(5 * ratio.std() * math.sqrt(1 / 400_000 + 1 / 100_000))
    assert np.all(np.abs(np.array(found) - expected) < limits)
    theory = [2 * scipy.stats.norm.cdf(-(h**1.5) * math.sqrt(dim) / 8) for h in (0.1, 0.4)]
    np.testing.assert_allclose(1 - np.array(found[:2]), 1 - np.array(theory), rtol=0.25)


def test_density_and_score_make_the_same_chain_for_a_gaussian(precise):
    prior, seen = gaussian_on(precise)
    t, x = time_of(0.2), array(np.random.default_rng(14).standard_normal((30, 3)), precise)
    settings = LangevinCorrector(steps=8, nodes=1)
    both = [
        settings.correct(sp.TweedieDenoiser(p, seen), x, t, sp.Noise(1).stream(precise))
        for p in (prior, boxed(prior))
    ]
    np.testing.assert_allclose(host(both[0].x), host(both[1].x), rtol=1e-8)


def test_rows_do_not_depend_on_each_other(precise):
    prior, seen = mixture_on(precise)
    rung, t = sp.TweedieDenoiser(prior, seen), time_of(0.1)
    x = array(np.random.default_rng(15).standard_normal((100, 2)), precise)
    all_rows = LangevinCorrector().correct(rung, x, t, sp.Noise(3).stream(precise))
    few = LangevinCorrector().correct(rung, x[:3, :], t, sp.Noise(3).stream(precise))
    np.testing.assert_allclose(host(few.x), host(all_rows.x)[:3], rtol=1e-9)
    np.testing.assert_allclose(host(few.acceptance), host(all_rows.acceptance)[:3], rtol=1e-9)


def test_nothing_observed_leaves_the_prior(precise):
    """NaN in y: the target is p_t. 3,000 draws, seed 5, 6e-5 of fresh seeds fail."""
    prior, _ = gaussian_on(precise)
    seen = sp.LinearGaussian(array(H, precise), array([np.nan, np.nan], precise), array(R, precise))
    t = time_of(0.1)
    x = prior.marginals.sample(t, 3_000, seed=5)
    corrected = LangevinCorrector(steps=5).correct(
        sp.TweedieDenoiser(prior, seen), x, t, sp.Noise(6).stream(precise)
    )
    alpha, sigma = SDE.alpha(t), SDE.sigma(t)
    assert_moments(corrected.x, alpha * MEAN, alpha**2 * COVARIANCE + sigma**2 * np.eye(3))


class BlackBox(sp.LinearGaussian):
    """The same density without a derivative."""

    is_linear = is_gaussian = has_jacobian = False


def test_a_step_size_is_found_where_the_scale_does_not_know_the_observation():
    """y known to .05 through a black box: of the default steps few are taken, of tuned ones 57%, and these
    lead wrong draws to the mean and deviation of the number that is seen, within 5 standard errors (600
    draws, seed 10; 1e-6 of fresh seeds fail)."""
    numpy = sp.resolve("numpy")
    prior, _ = gaussian_on(numpy)
    row, noise, t = np.array([[1.0, 0.0, 0.0]]), 0.05, time_of(0.02)
    rung = sp.MonteCarloDenoiser(prior, BlackBox(row, np.array([1.0]), noise**2), samples=64, rounds=1)
    exact = sp.exact_posterior(prior, sp.LinearGaussian(row, np.array([1.0]), noise**2)).denoiser
    x = exact.marginals.sample(t, 600, seed=1) + np.array([0.1, 0.0, 0.0])
    tuned = LangevinCorrector(steps=40).tuned(rung, x[:50], t, sp.Noise(11).stream(numpy))
    fixed = LangevinCorrector(steps=4).correct(rung, x, t, sp.Noise(10).stream(numpy))
    corrected = tuned.correct(rung, x, t, sp.Noise(10).stream(numpy))
    assert fixed.acceptance.mean() < 0.15
    assert corrected.acceptance.mean() == pytest.approx(0.574, abs=0.08)
    mean, covariance = exact.marginals.moments(t)
    white = (corrected.x[:, 0] - mean[0]) / np.sqrt(covariance[0, 0])
    assert abs(white.mean()) < 5 / np.sqrt(600) < abs(white.mean() + 0.1 / np.sqrt(covariance[0, 0]))
    assert abs(white.std() - 1) < 5 / np.sqrt(2 * 600)


def test_a_step_reads_no_number_back(monkeypatch):
    """No array becomes a Python number in a step: a GPU would have to be waited for."""
    backend = sp.resolve("torch", "float64")
    prior, seen = mixture_on(backend)
    x, t = array(np.ones((5, 2)), backend), time_of(0.1)
    stream = sp.Noise(0, "native").stream(backend)

    def refuse(self, *arguments):
        raise AssertionError("an array was read by the host")

    for rung in (sp.TweedieDenoiser(prior, seen), sp.PiGDMDenoiser(boxed(prior), seen)):
        with monkeypatch.context() as patch:
            for name in ("__bool__", "__float__", "__int__", "__index__", "item", "tolist", "numpy"):
                patch.setattr(torch.Tensor, name, refuse)
            corrected = LangevinCorrector(steps=2).correct(rung, x, t, stream)
        assert corrected.acceptance.shape == (5,)


def test_a_proposal_that_is_no_number_is_not_taken():
    """A rung that knows nothing beyond |x| = 2.5 gives NaN there; the chain stays where it is known."""
    numpy = sp.resolve("numpy")
    prior, seen = mixture_on(numpy)

    class Bounded(ExactLikelihood):
        def guided(self, x, t):
            guided = super().guided(x, t)
            bad = np.where(np.linalg.norm(x, axis=1) > 2.5, np.nan, 0.0)
            covariance = guided.prior.covariance.dense() + bad[:, None, None]
            prior = sp.Moments(guided.prior.mean, type(guided.prior.covariance)(covariance))
            return Guided(prior, guided.mean + bad[:, None], guided.log_likelihood + bad)

    x = np.random.default_rng(16).uniform(-1.5, 1.5, (500, 2))
    corrected = LangevinCorrector(steps=30).correct(
        Bounded(prior, seen), x, time_of(0.2), sp.Noise(0).stream(numpy)
    )
    assert np.linalg.norm(corrected.x, axis=1).max() <= 2.5
    assert corrected.acceptance.min() >= 0 and corrected.acceptance.mean() > 0.3


def test_bad_arguments_are_refused():
    numpy = sp.resolve("numpy")
    prior, seen = mixture_on(numpy)
    rung, x, stream = sp.TweedieDenoiser(prior, seen), np.zeros((2, 2)), sp.Noise(0).stream(numpy)
    with pytest.raises(ValueError, match="steps must be a whole number, at least 1; got 0"):
        LangevinCorrector(steps=0)
    with pytest.raises(ValueError, match=r"nodes must be a whole number, at least 1; got 2\.5"):
        LangevinCorrector(nodes=2.5)
    with pytest.raises(ValueError, match=r"level must be positive and finite; got -0\.1"):
        LangevinCorrector(level=-0.1)
    with pytest.raises(ValueError, match="step_size must be positive and finite; got inf"):
        LangevinCorrector(step_size=math.inf)
    with pytest.raises(ValueError, match=r"t must be in \(0, 1\.0\]; got 0\.0"):
        LangevinCorrector().correct(rung, x, 0.0, stream)
    with pytest.raises(TypeError, match="DPS with a step size zeta has none"):
        dps = sp.DPSDenoiser(prior, seen, zeta=1.0, step=0.1)
        LangevinCorrector().correct(dps, x, 0.5, stream)
