"""Draws from p(x_0 | y) for a Gaussian prior, whose posterior is known exactly.

The Monte Carlo tests state their rate of false alarms for a fresh seed; the seeds are fixed. Their
2,000 draws have a Monte Carlo error of 2% of a standard deviation, ten times the error of 100 steps,
which `test_moments_without_monte_carlo` measures by itself.
"""

import math

import numpy as np
import pytest
import scipy.stats
from checks import array, assert_array, covariance_matrix, host, propagate

import sdeppl as sp

DIM, DRAWS, FALSE_ALARM = 5, 2_000, 1e-5
MEAN, COVARIANCE = np.array([2.0, -1.0, 0.5, 0.0, 4.0]), covariance_matrix(DIM, seed=31, largest=1.5)
H = np.random.default_rng(32).standard_normal((3, DIM))
Y, R = np.array([1.0, -2.0, 3.5]), covariance_matrix(3, seed=33, smallest=0.05, largest=0.8)
SDES = {"vp": sp.VPSDE(), "ve": sp.VESDE(0.05, 20.0), "linear": sp.LinearSDE(a=3.0, b=2.5)}
EACH_SDE = pytest.mark.parametrize("sde", SDES.values(), ids=SDES)


def exact_moments():
    gain = COVARIANCE @ H.T @ np.linalg.inv(H @ COVARIANCE @ H.T + R)
    return MEAN + gain @ (Y - H @ MEAN), COVARIANCE - gain @ H @ COVARIANCE


def posterior_on(backend, sde, steps=100, unit=1.0, level=None):
    prior = sp.GaussianDenoiser(sde, array(unit * MEAN, backend), array(unit**2 * COVARIANCE, backend))
    seen = sp.LinearGaussian(array(H, backend), array(unit * Y, backend), array(unit**2 * R, backend))
    return sp.Posterior(prior, seen, steps=steps, noise_to_signal=level)


def assert_moments(draws, mean, covariance):
    """Mean by χ² and each entry of the whitened covariance by its normal error, in 1 of 10⁵ cases each."""
    count, dim = draws.shape
    white = np.linalg.solve(np.linalg.cholesky(covariance), (draws - mean).T).T
    chi_squared = count * np.sum(white.mean(axis=0) ** 2)
    assert chi_squared < scipy.stats.chi2.isf(FALSE_ALARM, dim)
    errors = (white.T @ white / count - np.eye(dim)) * np.sqrt(count / (1 + np.eye(dim)))
    entries = dim * (dim + 1) // 2
    assert np.abs(errors).max() < scipy.stats.norm.isf(FALSE_ALARM / (2 * entries)) + 0.5


@EACH_SDE
@pytest.mark.parametrize("c", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("guided", [False, True])
def test_moments_without_monte_carlo(sde, c, guided):
    """The default solver and grid: an error of 1% of the standard deviations from 100 steps, and a
    fourth of it or less from 200, for the scheme is of order 2."""
    numpy, found = sp.resolve("numpy"), []
    exact_mean, exact_covariance = exact_moments() if guided else (MEAN, COVARIANCE)
    root = np.linalg.cholesky(exact_covariance)
    for steps in (100, 200):
        posterior = posterior_on(numpy, sde, steps)
        if not guided:
            posterior = sp.Posterior(posterior.prior, None, steps=steps)
        start = posterior.start
        mean, covariance = propagate(
            sp.ReverseSDE(sde, posterior.denoiser, c),
            sp.ExponentialHeun(),
            posterior.times,
            start.mean,
            (start.root @ start.root).dense(),
            numpy,
        )
        white = np.linalg.solve(root, np.linalg.solve(root, covariance).T)
        in_mean = np.abs(np.linalg.solve(root, mean - exact_mean)).max()
        found.append(max(in_mean, np.abs(white - np.eye(DIM)).max()))
    assert found[0] < 0.01
    assert found[1] < found[0] / 3 + 2e-4  # the last step, to t = 0, has its own error that stays


@EACH_SDE
@pytest.mark.parametrize("c", [0.0, 0.5, 1.0])
def test_draws_have_the_exact_posterior_moments(sde, c, backend):
    draws = posterior_on(backend, sde).sample(DRAWS, seed=7, c=c)
    assert_array(draws, host(draws), backend, tolerance=0.0)
    assert draws.shape == (DRAWS, DIM)
    assert_moments(host(draws), *exact_moments())


@pytest.mark.parametrize("c", [0.5, 1.0])
def test_native_noise_has_the_exact_posterior_moments(c, precise):
    """With few steps, so that a start that repeated the first step's noise would show."""
    draws = posterior_on(precise, SDES["vp"], steps=30).sample(DRAWS, seed=7, c=c, noise="native")
    mean, covariance = exact_moments()
    assert_moments(host(draws), mean, covariance)


def test_the_start_and_the_steps_have_different_noise(precise):
    """Native mode opens its generator once: x_T and the first step's normals are independent.

    False alarm: 1e-5 for a fresh seed.
    """
    seen = []

    class Spy(sp.ExponentialHeun):
        def step(self, sde, x, s, t, z, memory=None):
            seen.append((host(x), host(z)))
            return super().step(sde, x, s, t, z, memory)

    posterior = posterior_on(precise, SDES["vp"], steps=3)
    for mode in ("host", "native"):
        seen.clear()
        posterior.sample(DRAWS, seed=3, c=1.0, solver=Spy(), noise=mode)
        x, z = seen[0]
        correlation = np.corrcoef(x.T, z.T)[:DIM, DIM:] * math.sqrt(DRAWS)
        assert np.abs(correlation).max() < scipy.stats.norm.isf(FALSE_ALARM / (2 * DIM**2))


@pytest.mark.parametrize("c", [0.0, 1.0, lambda t: 1.0 - t])
@EACH_SDE
def test_the_same_draws_on_every_backend(sde, c):
    """Host noise and float64: to 1e-10 of the largest draw."""
    expected = host(posterior_on(sp.resolve("numpy"), sde, steps=40).sample(20, seed=11, c=c))
    for selector in ("torch", "strict:device1"):
        backend = sp.resolve(selector)
        draws = posterior_on(backend, sde, steps=40).sample(20, seed=11, c=c)
        assert_array(draws, expected, backend, tolerance=1e-10)


def test_the_first_draws_do_not_depend_on_how_many_are_asked_for(backend):
    posterior = posterior_on(backend, SDES["vp"], steps=20)
    few, many = host(posterior.sample(3, seed=2)), host(posterior.sample(200, seed=2))
    np.testing.assert_allclose(few, many[:3], rtol=1e-3 if "32" in str(backend.dtype) else 1e-10)
    assert np.abs(host(posterior.sample(3, seed=4)) - few).min() > 1e-4


@pytest.mark.parametrize("unit", [1e-9, 1e3])
def test_the_units_of_the_data_make_no_difference(unit, precise):
    """Metres or nanometres: what is in units of x (σ_min, σ_max, noise_to_signal) follows."""
    exact = host(posterior_on(precise, sp.VESDE(0.01, 30.0), level=1e-3).sample(50, seed=5))
    sde = sp.VESDE(0.01 * unit, 30.0 * unit)
    scaled = host(posterior_on(precise, sde, unit=unit, level=1e-3 * unit).sample(50, seed=5))
    np.testing.assert_allclose(scaled / unit, exact, atol=1e-6)


def test_small_units_keep_their_variance_under_the_default_sde(precise):
    """Data of 1e-9 under VP: the grid reaches noise far below them. False alarm 1e-5."""
    unit = 1e-9
    prior = sp.GaussianDenoiser(sp.VPSDE(), array(unit * MEAN, precise), array(unit**2 * COVARIANCE, precise))
    draws = host(sp.Posterior(prior, None, steps=200).sample(DRAWS, seed=6))
    assert_moments(draws / unit, MEAN, COVARIANCE)


@pytest.mark.parametrize("c", [0.0, 1.0])
def test_a_mixture_without_observation_is_drawn_as_it_is(c, precise):
    """One dimension, Kolmogorov–Smirnov against the mixture's distribution; false alarm 1e-4, seed 1."""
    weights, means, deviations = np.array([0.3, 0.7]), np.array([-2.0, 1.0]), np.array([0.3, 0.6])
    prior = sp.GaussianMixtureDenoiser(
        sp.VPSDE(),
        array(weights, precise),
        array(means[:, None], precise),
        array(deviations[:, None, None] ** 2, precise),
    )
    draws = host(sp.Posterior(prior, None).sample(DRAWS, seed=1, c=c))[:, 0]

    def distribution(x):
        return scipy.stats.norm.cdf((x[:, None] - means) / deviations) @ weights

    assert scipy.stats.kstest(draws, distribution).pvalue > 1e-4


def test_bad_arguments_are_refused():
    numpy = sp.resolve("numpy")
    prior = posterior_on(numpy, sp.VPSDE()).prior
    with pytest.raises(
        ValueError, match="likelihood='dsp' is unknown; use one of 'auto', 'exact', 'naive', 'dps'"
    ):
        sp.Posterior(prior, None, likelihood="dsp")
    with pytest.raises(ValueError, match="draws must be a whole number, at least 1; got 0"):
        sp.Posterior(prior, None).sample(0)
    with pytest.raises(ValueError, match="noise mode 'device' is unknown"):
        sp.Posterior(prior, None).sample(1, noise="device")
    with pytest.raises(ValueError, match=r"noise_to_signal must be positive; got -0\.1"):
        sp.Posterior(prior, None, noise_to_signal=-0.1)
    with pytest.raises(ValueError, match="the observation operator takes 2 values, the prior has 5"):
        sp.Posterior(prior, sp.LinearGaussian(np.eye(2), np.zeros(2), 1.0))
    seen = sp.LinearGaussian(np.eye(5), np.zeros(5), 1.0)
    with pytest.raises(TypeError, match="takes a Denoiser and an Observation or None; got LinearGaussian"):
        sp.Posterior(seen, prior)
    single = sp.LinearGaussian(np.eye(5, dtype=np.float32), np.zeros(5, dtype=np.float32), 1.0)
    with pytest.raises(ValueError, match="the observation is in float32, the prior in float64"):
        sp.Posterior(prior, single)
    with pytest.raises(ValueError, match="the operator H holds NaN"):
        sp.LinearGaussian(np.full((1, 5), np.nan), np.zeros(1), 1.0)
    with pytest.raises(ValueError, match=r"steps must be a whole number, at least 2; got 50\.5"):
        sp.Posterior(prior, seen, steps=50.5)
    with pytest.raises(TypeError, match="solver must be a solver such as"):
        sp.Posterior(prior, seen).sample(2, solver=sp.ExponentialEuler)
    with pytest.warns(UserWarning, match="5 steps are few"):
        sp.Posterior(prior, seen, steps=5)


@pytest.mark.parametrize("noise", [1e-4, 1e-6])
def test_a_precise_observation_keeps_its_deviation(noise, precise):
    """One number of two is seen with a noise far below the prior's scale: sd is the noise's, to 2%."""
    prior = sp.GaussianDenoiser(sp.VPSDE(), array([0.0, 0.0], precise), array(np.eye(2), precise))
    seen = sp.LinearGaussian(array([[1.0, 0.0]], precise), array([0.5], precise), noise**2)
    draws = host(sp.Posterior(prior, seen, steps=200).sample(4_000, seed=2))
    # 4,000 draws: the standard error of an sd is 1.1%; four of them and the solver's own percent
    assert draws[:, 0].std() / noise == pytest.approx(1.0, abs=0.055)
    assert abs(draws[:, 0].mean() - 0.5) < 4 * noise / np.sqrt(4_000) + 1e-2 * noise


@pytest.mark.parametrize("c", [0.0, 1.0])
def test_where_the_data_lie_makes_no_difference(c, precise):
    """Two modes far from the origin, in units of their own: each keeps its weight."""
    means = array([[950.0], [1050.0]], precise)
    prior = sp.GaussianMixtureDenoiser(
        sp.VPSDE(), array([0.3, 0.7], precise), means, array(np.full((2, 1, 1), 4.0), precise)
    )
    draws = host(sp.Posterior(prior, None).sample(5_000, seed=3, c=c))[:, 0]
    # standard error of the weight 0.0065; four of them
    assert (draws > 1000).mean() == pytest.approx(0.7, abs=0.026)
