"""The local covariance by which Langevin steps are scaled."""

import numpy as np
from checks import array, assert_array, boxed
from langevin_targets import SDE, gaussian_on, gaussian_target, time_of

import sdeppl as sp
from sdeppl.linalg import Spectral
from sdeppl.posterior.langevin import LangevinCorrector, local_scale


def test_the_local_scale_of_a_gaussian_is_its_covariance(backend):
    """α² Cov[x_0 given y] + σ², whichever rung it is taken from; float32 sees it to rounding × σ⁻²."""
    prior, seen = gaussian_on(backend)
    t, x = time_of(0.2), array(np.random.default_rng(11).standard_normal((4, 3)), backend)
    _, covariance = gaussian_target(t)
    for rung in (sp.TweedieDenoiser(prior, seen), sp.PiGDMDenoiser(boxed(prior), seen)):
        scale = local_scale(rung, rung.guided(x, t), t)
        identity = array(np.eye(3), backend)
        xp = backend.xp
        rows = [
            scale.outside(scale.eigenvalues * scale.inside(xp.broadcast_to(identity[i, :], (4, 3))))
            for i in range(3)
        ]
        tolerance = 1e-3 if "32" in str(backend.dtype) else 1e-11
        assert_array(rows[0][0, :], covariance[0], backend, tolerance)
        assert_array(rows[2][3, :], covariance[2], backend, tolerance)


def test_many_numbers_are_moved_by_the_noise_alone():
    """A mixture of 65 numbers has P = σ²; a Gaussian's one matrix serves at any size."""
    numpy, dim = sp.resolve("numpy"), 65
    means, covariances = np.stack([np.zeros(dim), np.ones(dim)]), np.stack([np.eye(dim), 2 * np.eye(dim)])
    mixture = sp.GaussianMixtureDenoiser(SDE, np.array([0.5, 0.5]), means, covariances)
    seen = sp.LinearGaussian(np.ones((1, dim)), np.zeros(1), 1.0)
    t, x = time_of(0.3), np.zeros((2, dim))
    for prior, local in ((mixture, False), (sp.GaussianDenoiser(SDE, means[0], covariances[0]), True)):
        rung = sp.TweedieDenoiser(prior, seen)
        scale = local_scale(rung, rung.guided(x, t), t)
        assert isinstance(scale, Spectral) == local
        corrected = LangevinCorrector(steps=3).correct(rung, x, t, sp.Noise(0).stream(numpy))
        assert corrected.acceptance.min() > 0


def test_between_modes_the_scale_stays_positive(precise):
    """Halfway between two narrow modes the Hessian of ln p_t is positive along their line: P is its absolute
    value's inverse there, and that of a single mode across."""
    means = array([[-1.0, 0.0], [1.0, 0.0]], precise)
    narrow = array(np.stack([0.04 * np.eye(2)] * 2), precise)
    prior = sp.GaussianMixtureDenoiser(SDE, array([0.5, 0.5], precise), means, narrow)
    seen = sp.LinearGaussian(array([[0.0, 1.0]], precise), array([0.0], precise), 0.1)
    rung, t = sp.TweedieDenoiser(prior, seen), time_of(0.1)
    scale = local_scale(rung, rung.guided(array([[0.0, 0.0]], precise), t), t)
    alpha, sigma = SDE.alpha(t), SDE.sigma(t)
    variance, across = alpha**2 * 0.04 + sigma**2, alpha**2 * 0.04 * 0.1 / 0.14 + sigma**2
    along = variance / abs(1 - alpha**2 / variance)  # -∂² ln p_t = 1/v - α²/v² at the middle
    values = [scale.outside(scale.eigenvalues * scale.inside(array([e], precise))) for e in np.eye(2)]
    assert_array(values[0], [[along, 0.0]], precise, 1e-10)
    assert_array(values[1], [[0.0, across]], precise, 1e-10)
