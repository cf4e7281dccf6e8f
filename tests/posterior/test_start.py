"""Where the reverse SDE starts: exact moments of x_T, given y or not."""

import warnings

import numpy as np
import pytest
import scipy.stats
from checks import array, assert_array, covariance_matrix, host
from stationary_fields import symmetric_spectrum

import sdeppl as sp
from sdeppl.posterior import start_moments

MEAN, COVARIANCE = np.array([2.0, -1.0, 0.5]), covariance_matrix(3, seed=21, smallest=0.1, largest=2.0)
H, Y, R = np.array([[1.0, 0.5, 0.0], [0.0, -1.0, 2.0]]), np.array([1.5, 0.0]), np.array([0.2, 0.6])
SDES = [sp.VPSDE(), sp.VESDE(0.1, 8.0), sp.LinearSDE(a=1.5, b=2.0), sp.VPSDE(sp.ConstantSchedule(1.5))]


def denoiser_on(backend, sde, guided):
    prior = sp.GaussianDenoiser(sde, array(MEAN, backend), array(COVARIANCE, backend))
    if not guided:
        return prior, MEAN, COVARIANCE
    seen = sp.LinearGaussian(array(H, backend), array(Y, backend), array(R, backend))
    gain = COVARIANCE @ H.T @ np.linalg.inv(H @ COVARIANCE @ H.T + np.diag(R))
    return sp.TweedieDenoiser(prior, seen), MEAN + gain @ (Y - H @ MEAN), COVARIANCE - gain @ H @ COVARIANCE


@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.filterwarnings("ignore::sdeppl.SignalLeftWarning")
def test_moments_of_a_gaussian_are_exact(sde, guided, backend):
    """α m and α² C + σ² I with the moments of x_0 given y, however much signal is left at T."""
    denoiser, mean, covariance = denoiser_on(backend, sde, guided)
    start = start_moments(denoiser)
    alpha, sigma = sde.alpha(sde.T), sde.sigma(sde.T)
    exact = alpha**2 * covariance + sigma**2 * np.eye(3)
    assert_array(start.mean, alpha * mean, backend)
    assert_array((start.root @ start.root).dense(), exact, backend)
    root = start.root.dense()
    assert_array(root, host(root).T, backend)
    variances = np.linalg.eigvalsh(
        np.linalg.inv(np.linalg.inv(covariance) + (alpha / sigma) ** 2 * np.eye(3))
    )
    assert start.smallest_sd == pytest.approx(np.sqrt(variances[0]), rel=1e-3)


def test_a_direction_without_variance_has_no_smallest_deviation(precise):
    """Rank 2 of 3: the smallest standard deviation is that of the second direction."""
    basis, _ = np.linalg.qr(np.random.default_rng(5).standard_normal((3, 3)))
    covariance = (basis * np.array([0.0, 0.04, 1.0])) @ basis.T
    prior = sp.GaussianDenoiser(sp.VPSDE(), array(MEAN, precise), array(covariance, precise))
    assert start_moments(prior).smallest_sd == pytest.approx(0.2, rel=1e-3)


def test_signal_that_is_left_is_warned_of_with_its_share():
    """α² λ/(α² λ + σ²) for the largest eigenvalue λ, where it exceeds one half."""
    numpy, sde = sp.resolve("numpy"), sp.VPSDE(sp.ConstantSchedule(0.5))
    alpha, sigma = sde.alpha(1.0), sde.sigma(1.0)
    share = 2 * alpha**2 / (2 * alpha**2 + sigma**2)
    with pytest.warns(
        sp.SignalLeftWarning, match=f"along one direction {share:.0%} of the variance of x_T is signal"
    ):
        start_moments(denoiser_on(numpy, sde, guided=False)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        start_moments(denoiser_on(numpy, sp.VPSDE(), guided=False)[0])


@pytest.mark.filterwarnings("ignore::sdeppl.SignalLeftWarning")
def test_nearly_all_signal_does_not_divide_by_zero(backend):
    """Standard deviation 1e5 against a noise of 1 or so: in float32 the share of noise rounds to 0."""
    sde = sp.VPSDE(sp.ConstantSchedule(1.0))
    prior = sp.GaussianDenoiser(sde, array([1.0, 1.0], backend), array(np.diag([1e10, 1.0]), backend))
    start = start_moments(prior)
    root = start.root.dense()
    assert_array(root[1:, :], [[0.0, 1.0]], backend, 1e-3)
    deviation = float(root[0, 0]) / (sde.alpha(1.0) * 1e5)
    assert 0.01 < deviation < 1.5  # σ/α 1e5 at most, which float32 can tell from the signal only roughly


def test_signal_counts_for_less_where_the_prior_is_not_gaussian():
    """8% of x_T's variance: nothing for a Gaussian or a mixture, whose start is exact; reported for a black
    box, whose start is taken as Gaussian."""
    numpy, sde = sp.resolve("numpy"), sp.VPSDE(sp.ConstantSchedule(2.5))
    means = np.array([[-1.0], [1.0]])
    mixture = sp.GaussianMixtureDenoiser(sde, np.array([0.5, 0.5]), means, np.full((2, 1, 1), 0.01))
    box = sp.CallableDenoiser(sde, mixture.mean, lambda x, t: mixture(x, t).covariance, 1, numpy)
    with pytest.warns(sp.SignalLeftWarning):
        start_moments(box)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        start_moments(mixture)
        start_moments(sp.GaussianDenoiser(sde, array([0.0], numpy), array([[1.01]], numpy)))


@pytest.mark.parametrize("shape", ["full", "one for all", "diagonal"])
def test_a_mixture_starts_at_its_own_end(shape, precise):
    """60% of x_T's variance is signal; moments and share of the first component, within 4.5 standard errors
    (20,000 draws, seed 3: a fresh seed fails in 1e-4 of the cases)."""
    sde, count = sp.VPSDE(sp.ConstantSchedule(0.7)), 20_000
    weights, means = np.array([0.25, 0.75]), np.array([[-3.0, 1.0], [2.0, 4.0]])
    one = covariance_matrix(2, 3, 0.1, 0.8)
    covariances = np.stack({
        "full": [one, covariance_matrix(2, 4, 0.2, 0.5)],
        "one for all": [one, one],
        "diagonal": [np.diag([0.3, 0.9]), np.diag([0.5, 0.1])],
    }[shape])  # fmt: skip
    mixture = sp.GaussianMixtureDenoiser(sde, *(array(a, precise) for a in (weights, means, covariances)))
    x = start_moments(mixture).draw(sp.Noise(3).stream(precise), count)
    alpha, sigma = sde.alpha(1.0), sde.sigma(1.0)
    centre = weights @ means
    spread = np.einsum("k,kij->ij", weights, covariances) + (weights * (means - centre).T) @ (means - centre)
    expected = alpha**2 * spread + sigma**2 * np.eye(2)
    white = np.linalg.solve(np.linalg.cholesky(expected), (host(x) - alpha * centre).T).T
    assert np.abs(white.mean(axis=0)).max() < 4.5 / np.sqrt(count)
    assert np.abs(white.T @ white / count - np.eye(2)).max() < 4.5 * np.sqrt(2 / count)
    # along the first number alone the components are 5 α apart
    split = alpha * -0.5
    share = (host(x)[:, 0] < split).mean()
    deviations = np.sqrt(alpha**2 * covariances[:, 0, 0] + sigma**2)
    below = weights @ scipy.stats.norm.cdf((split - alpha * means[:, 0]) / deviations)
    assert abs(share - below) < 4.5 * np.sqrt(below * (1 - below) / count)


def test_a_field_starts_by_functions_of_its_spectrum(backend):
    """As with all entries: exactly α m and α² C + σ² I; and at 2^16 numbers, without a matrix."""
    field = sp.linalg.Grid(periodic=True).of((4, 3))
    spectrum = symmetric_spectrum(field, np.random.default_rng(2)).reshape(-1)
    covariance = sp.linalg.Stationary(field, array(spectrum, backend))
    mean = np.linspace(-2.0, 3.0, 12)
    sde = sp.VPSDE(sp.ConstantSchedule(3.0))
    start = start_moments(sp.GaussianDenoiser(sde, array(mean, backend), covariance))
    by_entries = sp.GaussianDenoiser(sde, array(mean, backend), covariance.dense())
    wanted = start_moments(by_entries)
    assert_array(start.mean, host(wanted.mean), backend)
    assert_array(start.root.dense(), host(wanted.root.dense()), backend)
    assert_array(start.variances, host(wanted.variances), backend)
    assert start.smallest_sd == pytest.approx(wanted.smallest_sd, rel=1e-4)
    x = array(np.random.default_rng(3).standard_normal((5, 12)), backend)
    denoiser = sp.GaussianDenoiser(sde, array(mean, backend), covariance)
    assert_array(denoiser.log_density(x, 0.4), host(by_entries.log_density(x, 0.4)), backend)
    assert_array(denoiser.log_prob(x), host(by_entries.log_prob(x)), backend)


def test_the_prior_of_a_large_field_is_drawn_from():
    """128 x 128 numbers by their own reverse SDE: spectrum of the draws, by band, against the prior's."""
    backend, field = sp.resolve("numpy"), sp.linalg.Grid(periodic=True).of((128, 128))
    k = np.hypot(*np.meshgrid(*2 * [128 * np.fft.fftfreq(128)], indexing="ij"))
    spectrum = (1 + (k / 8) ** 2) ** -1.5 * 4.0
    covariance = sp.linalg.Stationary(field, array(spectrum.reshape(-1), backend))
    mean = np.full(field.size, 3.0)
    prior = sp.GaussianDenoiser(sp.VPSDE(), array(mean, backend), covariance)
    draws = sp.Posterior(prior, None, steps=30).sample(4, seed=1)
    white = covariance.whiten(draws - mean).reshape(4, -1)
    for low, high in ((0, 5), (5, 20), (20, 50), (50, 100)):
        own = white[:, ((k >= low) & (k < high)).reshape(-1)]
        # 30 steps of the solver are good to a few percent; the standard error is √(2/n)
        assert np.mean(own**2) == pytest.approx(1.0, abs=0.04 + 4 * np.sqrt(2 / own.size))
