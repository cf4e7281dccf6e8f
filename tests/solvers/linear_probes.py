"""Exact moments of a whole solve, whatever its steps remember, where it is affine in x and in the normals.

With a Gaussian x_0 every scheme is: x_N = d + A x_0 + Σ B_k z_k over all its normals z_k. One solve of
a batch reads off everything: a row of zeros, a row for each basis vector of x, and a row for each
component of each normal of each step.
"""

import itertools

import numpy as np
import pytest
from checks import array, covariance_matrix, fitted_slope, host

import sdeppl as sp
from sdeppl.sde.grids import time_of_half_log_snr

NUMPY = sp.resolve("numpy")
MEAN, COVARIANCE = np.array([1.5, -0.8]), covariance_matrix(2, seed=4)
SDES = {
    "vp": sp.VPSDE(sp.LinearSchedule(0.5, 3.0)),
    "ve": sp.VESDE(0.3, 2.5),
    "linear": sp.LinearSDE(a=0.7, b=1.3),
}
EACH_SDE = pytest.mark.parametrize("sde", SDES.values(), ids=SDES)
EACH_GRID = pytest.mark.parametrize("grid", ["t", "λ"])  # as grids_of names them


class Probes:
    """Noise in which each row has one normal that is 1, and else zeros."""

    def __init__(self, steps, kinds, dim, backend):
        self.kinds, self.dim, self.backend = kinds, dim, backend
        self.rows = 1 + dim + steps * kinds * dim

    def draws(self, step, s, t, kinds, shapes):
        assert len(kinds) == self.kinds and set(shapes) == {(self.rows, self.dim)}
        found = []
        for index in range(self.kinds):
            z = np.zeros((self.rows, self.dim))
            first = 1 + self.dim * (1 + (step - 1) * self.kinds + index)
            z[first : first + self.dim] = np.eye(self.dim)
            found.append(array(z, self.backend))
        return tuple(found)


class Given:
    """Noise from an array (steps, rows, dim)."""

    def __init__(self, z):
        self.z = z

    def draws(self, step, s, t, kinds, shapes):
        return (self.z[step - 1],)


def maps(reverse, solver, times, dim=2, backend=NUMPY):
    """d (dim,), A (dim, dim) and B (steps, kinds, dim, dim) of x_N = d + A x_0 + Σ B_kj z_kj."""
    steps = len(times) - 1
    silent = all(reverse.deterministic(s, t) for s, t in itertools.pairwise(times))
    kinds = 0 if silent and "extra" not in solver.draws else len(solver.draws)
    probes = Probes(steps, kinds, dim, backend)
    x = np.zeros((probes.rows, dim))
    x[1 : 1 + dim] = np.eye(dim)
    last = host(sp.solve(reverse, array(x, backend), times, solver=solver, noise=probes, keep="last").states)
    constant, columns = last[0, 0], last[0, 1:] - last[0, 0]
    return constant, columns[:dim].T, np.swapaxes(columns[dim:].reshape(steps, kinds, dim, dim), -1, -2)


def moments_after(reverse, solver, times, mean, covariance, backend=NUMPY):
    """Mean and covariance of x_N for those of x_0; exact."""
    constant, A, B = maps(reverse, solver, times, len(mean), backend)
    return constant + A @ mean, A @ covariance @ A.T + np.einsum("skij,sklj->il", B, B)


def marginal(sde, t, mean=MEAN, covariance=COVARIANCE):
    """Mean and covariance of x_t."""
    alpha, sigma = sde.alpha(t), sde.sigma(t)
    shift = sde.shift(t) if sde.shifted else 0.0
    return alpha * mean + shift, alpha**2 * covariance + sigma**2 * np.eye(len(mean))


def reverse_of(sde, c, backend=NUMPY):
    """The exact reverse SDE of the Gaussian start."""
    return sp.ReverseSDE(sde, sp.GaussianDenoiser(sde, array(MEAN, backend), array(COVARIANCE, backend)), c)


def exact_map(sde, c, s, t):
    """∂E[x_t given x_s]/∂x_s of the reverse SDE from s to t, for a number c.

    Along an eigenvector with variance V: d ln δ/dt = f + (1 + c²)/2 g²/V and V' = 2 f V + g², so that
    δ_t/δ_s = √(V_t/V_s) (V_t/V_s (α_s/α_t)²)^{c²/2}.
    """
    V_s, V_t = marginal(sde, s)[1], marginal(sde, t)[1]
    _, basis = np.linalg.eigh(COVARIANCE)
    ratio = np.diag(basis.T @ V_t @ basis) / np.diag(basis.T @ V_s @ basis)
    scales = np.sqrt(ratio) * (ratio * (sde.alpha(s) / sde.alpha(t)) ** 2) ** (c**2 / 2)
    return (basis * scales) @ basis.T


def errors(sde, solver, grids, c, backend=NUMPY):
    """Two rows: the errors at the end of each grid of the affine map from x_0, and of the covariance.

    The covariance starts as that of p_T, and is compared with that of p_t; the map is exact for a number c.
    """
    found = []
    for times in grids:
        reverse, (start, covariance) = reverse_of(sde, c, backend), marginal(sde, times[0])
        constant, A, B = maps(reverse, solver, times, 2, backend)
        end, exact_covariance = marginal(sde, times[-1])
        exact = A if callable(c) else exact_map(sde, c, times[0], times[-1])
        of_map = np.linalg.norm(A - exact) + np.linalg.norm(constant + exact @ start - end)
        reached = A @ covariance @ A.T + np.einsum("skij,sklj->il", B, B)
        found.append((of_map, np.linalg.norm(reached - exact_covariance)))
    return np.array(found).T


def slope(grids, of_each):
    """The measured order: the exponent of the number of steps, negated."""
    return -fitted_slope([len(times) - 1 for times in grids], of_each)


def grids_of(sde, kind, sizes, stop=0.1):
    """A grid from T to `stop` for each number of steps: uniform in 't', or in 'λ' = ln(α/σ)."""
    if kind == "t":
        return [sp.uniform_grid(sde.T, stop, n) for n in sizes]
    first, last = sde.half_log_snr(sde.T), sde.half_log_snr(stop)
    found = []
    for n in sizes:
        levels = sp.uniform_grid(first, last, n)[1:-1]
        found.append([sde.T, *(time_of_half_log_snr(sde, level) for level in levels), stop])
    return found


def strong_errors(sde, solver, c, sizes, reference=512):
    """Root mean square distance from the same scheme with `reference` steps on the same Brownian path.

    Exact: the normal of a step is the sum of those of the fine steps within it, over the root of
    their number.
    """
    covariance = marginal(sde, 1.0)[1]

    def fine_maps(steps):
        _, A, B = maps(reverse_of(sde, c), solver, sp.uniform_grid(1.0, 0.1, steps))
        return A, np.repeat(B[:, 0], reference // steps, axis=0) / np.sqrt(reference // steps)

    A_exact, B_exact = fine_maps(reference)
    found = []
    for A, B in map(fine_maps, sizes):
        squared = np.trace((A - A_exact) @ covariance @ (A - A_exact).T) + np.sum((B - B_exact) ** 2)
        found.append(np.sqrt(squared))
    return np.array(found)
