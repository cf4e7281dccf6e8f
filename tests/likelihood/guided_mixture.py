"""A mixture in three dimensions, seen through a matrix and through a function that bends."""

import numpy as np
from checks import array, covariance_matrix, host

import sdeppl as sp

DIM = 3
SDE = sp.LinearSDE(a=0.7, b=1.3)
WEIGHTS = np.array([0.4, 0.6])
MEANS = np.array([[2.0, -1.0, 0.5], [-1.0, 1.5, 3.0]])
COVARIANCES = np.stack([covariance_matrix(DIM, 1, 0.3, 2.0), covariance_matrix(DIM, 2, 0.2, 1.0)])
H, Y = np.random.default_rng(12).standard_normal((2, DIM)), np.array([1.0, -2.0])
R_FULL = covariance_matrix(2, seed=13, smallest=0.1, largest=1.0)
R = np.array([0.3, 1.1])
X = np.random.default_rng(14).standard_normal((4, DIM)) * 1.5 + 0.5
TIMES = [0.05, 0.4, 1.0]


def mixture_on(backend, sde=SDE):
    return sp.GaussianMixtureDenoiser(
        sde, array(WEIGHTS, backend), array(MEANS, backend), array(COVARIANCES, backend)
    )


def linear(backend, rows=H, y=Y, noise=R):
    return sp.LinearGaussian(array(rows, backend), array(y, backend), array(noise, backend))


def bent(backend, noisy=False):
    """A(x) = (x₀ + 0.3 x₁², x₂ x₀), with noise that depends on x where `noisy`."""

    def function(x):
        a = host(x)
        zero = 0 * a[:, 0]
        value = np.stack([a[:, 0] + 0.3 * a[:, 1] ** 2, a[:, 2] * a[:, 0]], axis=1)
        jacobian = np.stack(
            [np.stack([zero + 1, 0.6 * a[:, 1], zero], 1), np.stack([a[:, 2], zero, a[:, 0]], 1)], axis=1
        )
        found = [array(value, backend), array(jacobian, backend)]
        if noisy:
            found.append(array(np.stack([0.3 + 0.1 * a[:, 1] ** 2, 0.5 + 0 * zero], 1), backend))
        return tuple(found)

    return sp.NonlinearGaussian(function, DIM, array(Y, backend), None if noisy else array(R_FULL, backend))
