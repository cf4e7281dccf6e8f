"""A Gaussian and a mixture seen along two directions, with the posterior and ln p(y) in closed form."""

import math

import numpy as np
import scipy.stats
from checks import array, covariance_matrix
from scipy.special import logsumexp

import sdeppl as sp

MEAN, COVARIANCE = np.array([2.0, -1.0, 0.5]), covariance_matrix(3, seed=21, smallest=0.1, largest=2.0)
H, Y, R = np.array([[1.0, 0.5, 0.0], [0.0, -1.0, 2.0]]), np.array([1.5, 0.0]), np.array([0.2, 0.6])
WEIGHTS = np.array([0.2, 0.5, 0.3])
MEANS = np.array([[-4.0, 1.0, 0.0], [3.0, 2.0, 1.0], [0.0, -3.0, 2.0]])
COVARIANCES = np.stack([covariance_matrix(3, seed, 0.2, 1.5) for seed in (1, 2, 3)])
SDE = sp.VPSDE()


def seen_on(backend, R=R):
    return sp.LinearGaussian(array(H, backend), array(Y, backend), array(R, backend))


def mixture_on(backend):
    return sp.GaussianMixtureDenoiser(
        SDE, array(WEIGHTS, backend), array(MEANS, backend), array(COVARIANCES, backend)
    )


def conditioned(means=MEANS, covariances=COVARIANCES, weights=WEIGHTS):
    """Weights, means, covariances and ln p(y) of the mixture given y."""
    logs, posteriors, kept = [], [], []
    for w, m, C in zip(weights, means, covariances, strict=True):
        S = H @ C @ H.T + np.diag(R)
        gain = C @ H.T @ np.linalg.inv(S)
        logs.append(math.log(w) + scipy.stats.multivariate_normal(H @ m, S).logpdf(Y))
        posteriors.append(m + gain @ (Y - H @ m))
        kept.append(C - gain @ H @ C)
    evidence = logsumexp(logs)
    return np.exp(np.array(logs) - evidence), np.array(posteriors), np.array(kept), evidence


def moments_of(weights, means, covariances):
    mean = weights @ means
    centred = means - mean
    return mean, np.einsum("k,kij->ij", weights, covariances) + (weights * centred.T) @ centred
