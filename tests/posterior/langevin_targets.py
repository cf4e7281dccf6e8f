"""Targets of Langevin correctors whose exact draws are known, and what their draws are compared with."""

import math

import numpy as np
import scipy.stats
from checks import array, covariance_matrix, host

import sdeppl as sp
from sdeppl.likelihood import Guided
from sdeppl.sde.grids import time_of_half_log_snr

SDE = sp.VPSDE(sp.LinearSchedule(0.1, 30.0))
MEAN, COVARIANCE = np.array([2.0, -1.0, 0.5]), covariance_matrix(3, seed=41, largest=1.5)
H, Y = np.array([[1.0, 0.5, 0.0], [0.0, -1.0, 2.0]]), np.array([1.0, -2.0])
R = covariance_matrix(2, seed=43, smallest=0.05, largest=0.8)
# three modes that overlap, of different shapes, seen along one direction
WEIGHTS, MEANS = np.array([0.3, 0.3, 0.4]), np.array([[-1.5, 0.0], [1.2, 0.8], [0.5, -1.4]])
COVARIANCES = np.array([[[0.3, 0.0], [0.0, 0.15]], [[0.4, 0.25], [0.25, 0.3]], [[0.1, 0.0], [0.0, 0.5]]])
H2, Y2, R2 = np.array([[1.0, 0.6]]), np.array([0.4]), 0.3


def time_of(level):
    return time_of_half_log_snr(SDE, -math.log(level))


def gaussian_on(backend, sde=SDE):
    prior = sp.GaussianDenoiser(sde, array(MEAN, backend), array(COVARIANCE, backend))
    return prior, sp.LinearGaussian(array(H, backend), array(Y, backend), array(R, backend))


def mixture_on(backend, sde=SDE):
    parts = (array(part, backend) for part in (WEIGHTS, MEANS, COVARIANCES))
    seen = sp.LinearGaussian(array(H2, backend), array(Y2, backend), R2)
    return sp.GaussianMixtureDenoiser(sde, *parts), seen


class ExactLikelihood(sp.MeanLikelihood):
    """l(y given x_t) of a mixture, exactly: p(x_t given y)/p(x_t) but for p(y)."""

    name = "exact"

    def __init__(self, prior, observation, known=None):
        super().__init__(prior, observation)
        self.known = known or prior
        self.posterior = sp.exact_posterior(self.known, observation).denoiser

    def guided(self, x, t):
        ratio = self.posterior.log_density(x, t) - self.known.log_density(x, t)
        return Guided(self.prior(x, t), self.posterior.mean(x, t), ratio)


def exact_draws(posterior, t, count, seed):
    """Of x_t, from the host's normals: the same on every backend."""
    z = np.random.default_rng(seed).standard_normal((count, posterior.dim + 1))
    return posterior.marginals.sample(t, count, array(z, posterior.backend))


def distribution_along(direction, t):
    """The posterior mixture's distribution function of direction · x_t."""
    numpy = sp.resolve("numpy")
    posterior = sp.exact_posterior(*mixture_on(numpy)).denoiser
    alpha, sigma = SDE.alpha(t), SDE.sigma(t)
    weights = np.exp(posterior.log_weights)
    means = alpha * posterior.means @ direction
    spread = alpha**2 * posterior.covariances + sigma**2 * np.eye(2)
    deviations = np.sqrt(np.einsum("i,kij,j->k", direction, spread, direction))
    return lambda x: scipy.stats.norm.cdf((x[:, None] - means) / deviations) @ weights


DIRECTIONS = np.array([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6], [-0.6, 0.8]])


def smallest_p_value(x, t):
    """Of Kolmogorov–Smirnov tests along four directions."""
    return min(scipy.stats.kstest(host(x) @ u, distribution_along(u, t)).pvalue for u in DIRECTIONS)


def largest_distance(x, t):
    """Of Kolmogorov and Smirnov, along four directions."""
    return max(scipy.stats.kstest(host(x) @ u, distribution_along(u, t)).statistic for u in DIRECTIONS)


def assert_moments(x, mean, covariance, limit=4.5):
    """Each entry of mean and whitened covariance within `limit` of its standard errors."""
    count = x.shape[0]
    white = np.linalg.solve(np.linalg.cholesky(covariance), (host(x) - mean).T).T
    assert np.abs(white.mean(axis=0)).max() * math.sqrt(count) < limit
    errors = white.T @ white / count - np.eye(len(mean))
    assert (np.abs(errors) * np.sqrt(count / (1 + np.eye(len(mean))))).max() < limit


def gaussian_target(t):
    gain = COVARIANCE @ H.T @ np.linalg.inv(H @ COVARIANCE @ H.T + R)
    alpha, sigma = SDE.alpha(t), SDE.sigma(t)
    mean, covariance = MEAN + gain @ (Y - H @ MEAN), COVARIANCE - gain @ H @ COVARIANCE
    return alpha * mean, alpha**2 * covariance + sigma**2 * np.eye(3)
