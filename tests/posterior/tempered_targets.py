"""A Gaussian, a mixture and a half ring for tempered SMC, and the truth by a sum over a fine grid."""

import math

import numpy as np
import scipy.stats
from checks import array, covariance_matrix
from scipy.special import logsumexp

import sdeppl as sp

SDE = sp.VPSDE()
MEAN, COVARIANCE = np.array([2.0, -1.0, 0.5]), covariance_matrix(3, seed=21, smallest=0.1, largest=2.0)
WEIGHTS, CENTRES = np.array([0.2, 0.5, 0.3]), np.array([[-3.0, 0.0], [1.0, 1.0], [2.0, -2.0]])
SPREADS = np.stack([np.array([[0.5, 0.2], [0.2, 0.3]]), 0.05 * np.eye(2), np.diag([0.02, 1.0])])
GAUSSIAN = np.array([[1.0, 0.3], [0.3, 0.6]])
RADIUS, WIDTH = 1.2, 0.03  # of a ring, seen in half of the plane


def gaussian_on(backend, dim=3):
    return sp.GaussianDenoiser(SDE, array(MEAN[:dim], backend), array(COVARIANCE[:dim, :dim], backend))


def mixture_on(backend):
    return sp.GaussianMixtureDenoiser(
        SDE, array(WEIGHTS, backend), array(CENTRES, backend), array(SPREADS, backend)
    )


def ring(x, xp):
    """ln p(y given x): within a narrow ring round 0, to the right of it."""
    radius = xp.sqrt(x[..., 0] ** 2 + x[..., 1] ** 2)
    return xp.where(x[..., 0] > 0, -0.5 * ((radius - RADIUS) / WIDTH) ** 2, -xp.inf)


def ring_on(backend):
    return sp.DensityObservation(lambda x: ring(x, backend.xp), 2, array([0.0], backend))


def log_mixture(x):
    parts = [scipy.stats.multivariate_normal(m, C).logpdf(x) for m, C in zip(CENTRES, SPREADS, strict=True)]
    return logsumexp(np.log(WEIGHTS)[:, None] + np.stack(parts), axis=0)


def truth(log_likelihood, log_prior, edge=1.5, step=0.004):
    """Mean (2,), variances (2,) and ln p(y), by a sum over a grid."""
    line = np.arange(-edge, edge, step) + step / 2
    grid = np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2)
    logs = log_prior(grid) + log_likelihood(grid, np)
    evidence = logsumexp(logs) + 2 * math.log(step)
    weights = np.exp(logs - logsumexp(logs))
    mean = weights @ grid
    return mean, weights @ (grid - mean) ** 2, evidence
