"""A Gaussian mixture conditioned on x_t = Φ x_0 + shift + noise, component by component."""

import numpy as np
from checks import covariance_matrix
from scipy.special import softmax
from scipy.stats import multivariate_normal

from sdeppl import GaussianMixtureDenoiser

KINDS = ("unequal", "unequal and diagonal", "equal", "equal and diagonal")


def mixture(kind, dim, components=4, seed=0):
    """Weights, means away from zero, and covariances with variances from .05 to 4."""
    rng = np.random.default_rng(seed)
    one = kind.startswith("equal")
    covariances = np.stack(
        [covariance_matrix(dim, seed + (0 if one else k), 0.05, 4.0) for k in range(components)]
    )
    if kind.endswith("diagonal"):
        variances = (
            np.geomspace(0.05, 4.0, dim)
            * (np.ones(components) if one else 1 + np.arange(components))[:, None]
        )
        covariances = variances[:, :, None] * np.eye(dim)
    return rng.uniform(0.5, 2.0, components), 3.0 + 1.5 * rng.standard_normal((components, dim)), covariances


def denoiser(backend, sde, parts, place):
    return GaussianMixtureDenoiser(sde, *(place(part, backend) for part in parts))


def states(parts, alpha, sigma, rows=6, seed=1):
    """Draws of x_t, and one row half-way between two components, where their shares are mixed."""
    weights, means, covariances = parts
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, len(weights), rows)
    roots = np.linalg.cholesky(covariances)[chosen]
    x0 = means[chosen] + (roots @ rng.standard_normal((rows, means.shape[1], 1)))[..., 0]
    x0[-1] = 0.5 * (means[0] + means[1])
    return alpha * x0 + sigma * rng.standard_normal(x0.shape)


def conditioned(parts, x, phi, shift, q):
    """Mean (batch, dim) and covariance (batch, dim, dim) of x_0 given x_t = x; phi, q matrices (dim, dim)."""
    weights, means, covariances = parts
    log_joint, centres, spreads = [], [], []
    for w, m, C in zip(weights / weights.sum(), means, covariances, strict=True):
        V = phi @ C @ phi.T + q
        gain = np.linalg.solve(V, phi @ C).T
        log_joint.append(np.log(w) + multivariate_normal(phi @ m + shift, V).logpdf(x))
        centres.append(m + (x - phi @ m - shift) @ gain.T)
        remaining = np.eye(len(m)) - gain @ phi
        spreads.append(
            remaining @ C @ remaining.T + gain @ q @ gain.T
        )  # Joseph's form keeps small ones' digits
    shares, centres = softmax(np.stack(log_joint), axis=0), np.stack(centres)
    mean = np.einsum("kb,kbi->bi", shares, centres)
    apart = centres - mean
    between = np.einsum("kb,kbi,kbj->bij", shares, apart, apart)
    return mean, np.einsum("kb,kij->bij", shares, np.stack(spreads)) + between


def isotropic(parts, sde, t, x):
    """`conditioned` for x_t = α x_0 + σ ε."""
    identity = np.eye(x.shape[1])
    return conditioned(parts, x, sde.alpha(t) * identity, 0.0, sde.sigma(t) ** 2 * identity)
