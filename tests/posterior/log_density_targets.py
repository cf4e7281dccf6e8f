"""A mixture under many SDEs, its exact log-density, and the same denoiser as a black box."""

import numpy as np
from checks import array, covariance_matrix, host
from scipy.stats import multivariate_normal

import sdeppl as sp

WEIGHTS = np.array([0.2, 0.8])
MEANS = np.array([[-2.0, 1.0], [1.5, -0.5]])
COVARIANCES = np.stack([covariance_matrix(2, 1, 0.1, 0.6), covariance_matrix(2, 2, 0.2, 1.0)])
# draws of each component, points between them, and one far out
X = np.concatenate(
    [
        np.random.default_rng(0).multivariate_normal(mean, covariance, 4)
        for mean, covariance in zip(MEANS, COVARIANCES, strict=True)
    ]
    + [np.array([[-0.3, 0.2], [0.2, 0.4], [4.0, 3.0]])]
)
NUMPY = sp.resolve("numpy")
SDES = {
    "vp": sp.VPSDE(),
    "vp with signal left": sp.VPSDE(sp.LinearSchedule(0.5, 3.0)),
    "sub-vp": sp.SubVPSDE(),
    "ve": sp.VESDE(0.01, 50.0),
    "edm": sp.EDMSDE(80.0),
    "linear": sp.LinearSDE(a=1.0, b=1.5, T=3.0),
    "brownian": sp.LinearSDE(a=0.0, b=4.0),
    "growing": sp.LinearSDE(a=-0.5, b=0.8, T=4.0),
    "shifted": sp.ShiftedVPSDE(np.array([1.0, -2.0])),
}


def mixture(sde, backend=NUMPY):
    return sp.GaussianMixtureDenoiser(sde, *(array(a, backend) for a in (WEIGHTS, MEANS, COVARIANCES)))


def mixture_log_density(x, alpha=1.0, sigma=0.0, shift=0.0):
    terms = [
        weight
        * multivariate_normal(alpha * mean + shift, alpha**2 * covariance + sigma**2 * np.eye(2)).pdf(x)
        for weight, mean, covariance in zip(WEIGHTS, MEANS, COVARIANCES, strict=True)
    ]
    return np.log(np.sum(terms, axis=0))


EXACT = mixture_log_density(X)


def error(found, exact=EXACT):
    return float(np.max(np.abs(host(found.value) - exact)))


class Products(sp.denoisers.Covariance):
    """A covariance of which products alone are known."""

    shared = materialised = False

    def __init__(self, covariance):
        self.covariance = covariance

    def product(self, v):
        return self.covariance @ v

    def dense(self):
        raise AssertionError("a trace needs no matrix")


def black_box(denoiser, wrap=Products):
    return sp.CallableDenoiser(
        denoiser.sde,
        denoiser.mean,
        lambda x, r: wrap(denoiser(x, r).covariance),
        denoiser.dim,
        denoiser.backend,
    )
