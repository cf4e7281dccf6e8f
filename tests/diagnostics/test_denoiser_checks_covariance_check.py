"""The covariance that a denoiser claims, against what its mean leaves of fresh draws. Seeds are stated."""

import numpy as np
import pytest
from checks import array, covariance_matrix, host

import sdeppl as sp
from sdeppl.linalg import Dense

SDE = sp.VPSDE()
MEAN, COVARIANCE = np.array([2.0, -1.0, 0.5]), covariance_matrix(3, seed=21, smallest=0.1, largest=2.0)


def draws(count=5_000, seed=0):
    return np.random.default_rng(seed).multivariate_normal(MEAN, COVARIANCE, count)


def gaussian_on(backend):
    return sp.GaussianDenoiser(SDE, array(MEAN, backend), array(COVARIANCE, backend))


def changed(exact, change):
    """The denoiser whose covariance is another one."""

    def covariance(x, t):
        return Dense(array(change(host(exact(x, t).covariance.dense())), exact.backend))

    return sp.CallableDenoiser(SDE, exact.mean, covariance, exact.dim, exact.backend)


def test_an_exact_covariance_passes(precise):
    check = sp.check_covariance(gaussian_on(precise), array(draws(2_000), precise))
    assert check.good and len(check.levels) == 8 and check.draws == 2_000
    assert "nothing in 2000 draws speaks against the covariance" in str(check)
    for level in check.levels:  # trace of r rᵀ: standard error at most √2 of it over √draws
        assert abs(level.size_error) < 5 * level.size_noise and level.size_noise < np.sqrt(2 / 2_000) * 1.1


def mixture():
    means, spreads = np.array([[-2.0, 0.5], [1.0, 2.0]]), np.array([0.3, 0.6])
    exact = sp.GaussianMixtureDenoiser(
        SDE, np.array([0.3, 0.7]), means, np.stack([s**2 * np.eye(2) for s in spreads])
    )

    def sample(count, rng):
        chosen = (rng.random(count) > 0.3).astype(int)
        return means[chosen] + spreads[chosen][:, None] * rng.standard_normal((count, 2))

    return exact, sample


def test_exact_covariances_pass_as_often_as_they_should():
    """Of 100 checks of a mixture fewer than 5% have p < .05, since tests overlap; more than 14 of them has
    probability 1e-4."""
    exact, sample = mixture()
    rng = np.random.default_rng(1)
    found = [sp.check_covariance(exact, sample(1_000, rng), levels=3, seed=seed).p for seed in range(100)]
    assert np.count_nonzero(np.array(found) < 0.05) <= 14


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_ten_percent_off_is_found(factor, precise):
    wrong = changed(gaussian_on(precise), lambda C: factor * C)
    check = sp.check_covariance(wrong, array(draws(), precise))
    assert not check.good and check.p < 1e-6 and "the covariance is wrong" in check.verdict
    for level in check.levels:
        assert abs(level.size_error - (factor - 1)) < 5 * level.size_noise


def test_a_wrong_correlation_is_found_by_its_entries():
    wrong = changed(gaussian_on(sp.resolve("numpy")), lambda C: np.diag(np.diag(C)))
    check = sp.check_covariance(wrong, draws())
    assert not check.good and max(level.entry for level in check.levels) > 8
    assert all(abs(level.size_error) < 5 * level.size_noise for level in check.levels)


def test_a_covariance_that_is_right_on_average_is_found_by_its_bend():
    """The best linear denoiser of two modes: what it leaves is as large as it says, but not everywhere."""
    _, sample = mixture()
    x0 = sample(200_000, np.random.default_rng(2))
    linear = sp.GaussianDenoiser(SDE, x0.mean(axis=0), np.cov(x0.T))
    check = sp.check_covariance(linear, sample(5_000, np.random.default_rng(3)))
    assert not check.good and max(level.bend for level in check.levels) > 8
    assert all(abs(level.size_error) < 5 * level.size_noise for level in check.levels)


def test_many_numbers_take_random_directions():
    """Of 40 numbers 16 directions: a covariance 10% off is found, the exact one passes."""
    covariance = covariance_matrix(40, seed=5, smallest=0.2, largest=3.0)
    x0 = np.random.default_rng(4).multivariate_normal(np.zeros(40), covariance, 2_000)
    exact = sp.GaussianDenoiser(SDE, np.zeros(40), covariance)
    assert sp.check_covariance(exact, x0, levels=4).good
    check = sp.check_covariance(changed(exact, lambda C: 1.1 * C), x0, levels=4)
    assert check.p < 1e-6


def test_what_cannot_be_checked():
    exact = gaussian_on(sp.resolve("numpy"))
    with pytest.raises(TypeError, match="check_covariance takes a ScoreGuide or a Denoiser; got int"):
        sp.check_covariance(3)
    with pytest.raises(ValueError, match=r"draws: expected x_0 \(100 or more, 3\); got shape \(99, 3\)"):
        sp.check_covariance(exact, draws(99))
    with pytest.raises(ValueError, match="levels must be a whole number, at least 1; got 0"):
        sp.check_covariance(exact, draws(200), levels=0)
    broken = changed(exact, lambda C: C * np.nan)
    with pytest.raises(FloatingPointError, match="NaN or infinity at t = "):
        sp.check_covariance(broken, draws(200))
