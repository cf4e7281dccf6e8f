"""A Gaussian-mixture x_0 under any solver: it comes back, and every backend takes the same steps."""

import numpy as np
from checks import array, host
from linear_probes import NUMPY, grids_of, slope

import sdeppl as sp

WEIGHTS = np.array([0.3, 0.5, 0.2])
MEANS = np.array([[-1.5, 0.5], [1.0, 1.2], [0.3, -1.8]])
COVARIANCES = np.array([[[0.4, 0.1], [0.1, 0.2]], [[0.3, -0.2], [-0.2, 0.5]], [[0.2, 0.0], [0.0, 0.6]]])


def mixture_reverse(sde, c, backend=NUMPY):
    """The exact reverse SDE of the mixture."""
    parts = (array(part, backend) for part in (WEIGHTS, MEANS, COVARIANCES))
    return sp.ReverseSDE(sde, sp.GaussianMixtureDenoiser(sde, *parts), c)


def assert_mixture_returns(sde, solver, c, times, seed, draws=10_000):
    """First and second moments at t = 0 within 4 standard errors of the mixture's; the start is p_T itself.

    NumPy and host noise: the same numbers everywhere, so that a pass is a pass. With a fresh seed
    and no error at all, 5 moments fail by chance once in 3,000 times.
    """
    rng = np.random.default_rng(seed)
    component = rng.choice(3, size=draws, p=WEIGHTS)
    roots = np.linalg.cholesky(COVARIANCES)
    x_0 = MEANS[component] + np.einsum("nij,nj->ni", roots[component], rng.standard_normal((draws, 2)))
    x = sde.alpha(sde.T) * x_0 + sde.sigma(sde.T) * rng.standard_normal((draws, 2))
    noise = sp.Noise(seed)
    path = sp.solve(mixture_reverse(sde, c), x, times, solver=solver, noise=noise, keep="last")
    found = host(path.states)[0]
    mean = WEIGHTS @ MEANS
    second = np.einsum("k,kij->ij", WEIGHTS, COVARIANCES + np.einsum("ki,kj->kij", MEANS, MEANS))
    products = np.stack([found[:, 0] ** 2, found[:, 0] * found[:, 1], found[:, 1] ** 2], axis=1)
    samples = np.concatenate([found, products], axis=1)
    exact = np.concatenate([mean, second[[0, 0, 1], [0, 1, 1]]])
    z = (samples.mean(axis=0) - exact) / (samples.std(axis=0) / np.sqrt(draws))
    assert np.abs(z).max() < 4, z


def flow_slope(sde, solver, sizes):
    """The measured order of a solver of the mixture's flow, which is not affine, from 1 to 0.1 at 20 points.

    The exact states are extrapolated from UniPC(3) with 1,024 and 2,048 steps.
    """
    x, reverse = np.random.default_rng(1).standard_normal((20, 2)) * sde.sigma(1.0), mixture_reverse(sde, 0.0)

    def reached(solver, times):
        return sp.solve(reverse, x, times, solver=solver, keep="last").states[0]

    one, two = (reached(sp.UniPC(3), times) for times in grids_of(sde, "λ", (1024, 2048)))
    exact, grids = two + (two - one) / 15, grids_of(sde, "λ", sizes)
    return slope(grids, [np.linalg.norm(reached(solver, times) - exact) for times in grids])
