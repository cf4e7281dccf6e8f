"""Runge–Kutta tableaux against the order conditions, and the schemes' measured orders."""

import itertools
import math

import numpy as np
import pytest
from checks import array, assert_array, covariance_matrix, dtype_name, fitted_slope, host, propagate
from scipy.integrate import RK45

import sdeppl as sp

SOLVERS = (sp.RungeKutta4(), sp.DormandPrince54(), sp.Tsitouras54())
EACH_SOLVER = pytest.mark.parametrize("solver", SOLVERS, ids=[type(solver).__name__ for solver in SOLVERS])
EMBEDDED = pytest.mark.parametrize("solver", SOLVERS[1:], ids=["DormandPrince54", "Tsitouras54"])
MEAN, SHIFT = np.array([1.5, -0.8, 0.4]), np.array([0.5, 1.0, -0.7])


def trees(order):
    """Every rooted tree of `order` vertices, as the sorted tuple of its root's subtrees."""
    if order == 1:
        return {()}
    found = set()
    for size in range(1, order):
        for subtree, rest in itertools.product(trees(size), trees(order - size)):
            found.add(tuple(sorted((*rest, subtree))))
    return found


def size(tree):
    return 1 + sum(size(subtree) for subtree in tree)


def density(tree):
    """γ(τ): the size of the tree times the densities of the root's subtrees."""
    return size(tree) * math.prod(density(subtree) for subtree in tree)


def worst_residual(tableau, weights, order):
    """max |Σ b_i φ_i(τ) - 1/γ(τ)| over the trees of `order`; Hairer, Nørsett & Wanner 1993, II.2.13."""
    stages = len(tableau.c)
    A = np.zeros((stages, stages))
    for i, row in enumerate(tableau.a, start=1):
        A[i, : len(row)] = row

    def weight(tree):
        return math.prod((A @ weight(subtree) for subtree in tree), start=np.ones(stages))

    return max(abs(np.dot(weights, weight(tree)) - 1 / density(tree)) for tree in trees(order))


@EACH_SOLVER
def test_the_tableau_meets_the_order_conditions_up_to_its_order_and_no_further(solver):
    tableau, order = solver.tableau, int(solver.order)
    assert [len(trees(k)) for k in range(1, 7)] == [1, 1, 2, 4, 9, 20]
    np.testing.assert_allclose([0.0, *(sum(row) for row in tableau.a)], tableau.c, atol=1e-14)
    for k in range(1, order + 1):
        assert worst_residual(tableau, tableau.b, k) < 2e-14
    assert worst_residual(tableau, tableau.b, order + 1) > 1e-4
    assert len(tableau.b) == len(tableau.c) == solver.evaluations + (1 if tableau.first_same_as_last else 0)


@EMBEDDED
def test_the_embedded_scheme_has_order_4(solver):
    """So the estimated error is of order 5, as `error_order` says."""
    embedded = np.subtract(solver.tableau.b, solver.tableau.error)
    for k in range(1, 5):
        assert worst_residual(solver.tableau, embedded, k) < 2e-14
    assert worst_residual(solver.tableau, embedded, 5) > 1e-4
    assert solver.error_order == 5


def flow_errors(sde, solver, sizes, stop, backend):
    """Errors of mean and covariance of the probability-flow ODE of a Gaussian, without Monte Carlo.

    The exact flow from p_1 to p_t is x ↦ α_t m + R_t R_1⁻¹ (x - α_1 m), R = Cov[x_t]^{1/2}; the mean starts
    away from that of p_1.
    """
    covariance = covariance_matrix(3, seed=4, smallest=0.1)
    values, basis = np.linalg.eigh(covariance)

    def root(t):
        return (basis * np.sqrt(sde.alpha(t) ** 2 * values + sde.sigma(t) ** 2)) @ basis.T

    reverse = sp.ReverseSDE(
        sde, sp.GaussianDenoiser(sde, array(MEAN, backend), array(covariance, backend)), 0.0
    )
    start = sde.alpha(1.0) * MEAN + SHIFT, root(1.0) @ root(1.0)
    exact = sde.alpha(stop) * MEAN + root(stop) @ np.linalg.inv(root(1.0)) @ SHIFT, root(stop) @ root(stop)
    found = [propagate(reverse, solver, sp.uniform_grid(1.0, stop, n), *start, backend) for n in sizes]
    return np.array([[np.linalg.norm(a - b) for a, b in zip(pair, exact, strict=True)] for pair in found])


@EACH_SOLVER
def test_measured_orders(solver):
    """A wide range of σ keeps the errors of order 5 above rounding: from 2e-9 to 2e-12 and less."""
    sizes = (64, 128, 256)
    for errors in flow_errors(sp.VESDE(0.02, 20.0), solver, sizes, 0.05, sp.resolve("numpy")).T:
        assert fitted_slope(1 / np.array(sizes), errors) == pytest.approx(solver.order, abs=0.1)


@pytest.mark.parametrize(
    "sde", [sp.VPSDE(sp.LinearSchedule(0.5, 8.0)), sp.LinearSDE(0.7, 1.3)], ids=["vp", "linear"]
)
def test_runge_kutta_4_has_order_4_for_other_sdes(sde):
    sizes = (64, 128, 256)
    for errors in flow_errors(sde, sp.RungeKutta4(), sizes, 0.05, sp.resolve("numpy")).T:
        assert fitted_slope(1 / np.array(sizes), errors) == pytest.approx(4.0, abs=0.1)


class Rotation(sp.sde.SDE):
    """dx = 2t J x dt, J the rotation by a quarter: x turns by t². No noise."""

    def __init__(self):
        self.calls = 0

    def drift(self, x, t):
        self.calls += 1
        swap = array(np.array([[0.0, 2.0], [-2.0, 0.0]]), sp.backend.backend_of(x))
        return t * (x @ swap)

    def diffusion(self, x, t):
        return 0.0

    def deterministic(self, s, t):
        return True


def turned(points, angle):
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return points @ rotation


@EACH_SOLVER
def test_forward_and_falling_times(solver, backend):
    """40 steps of at most .05: errors of order 4 below 1e-6."""
    points = np.array([[1.0, 0.5], [-2.0, 0.3]])
    for s, t in ((0.2, 1.4), (1.4, 0.2)):
        found = sp.solve(
            Rotation(), array(points, backend), sp.uniform_grid(s, t, 40), solver=solver, keep="last"
        )
        tolerance = 1e-6 if dtype_name(backend) == "float64" else 5e-6
        assert_array(found.states[-1, ...], turned(points, t**2 - s**2), backend, tolerance)


@EACH_SOLVER
def test_evaluations_and_the_first_stage_taken_from_the_last(solver):
    """The slope carried over is that of the new state: steps without memory give the same states."""
    sde, grid, x = Rotation(), sp.uniform_grid(0.0, 1.0, 5), np.array([[1.0, 0.5]])
    found = sp.solve(sde, x, grid, solver=solver, keep="last")
    assert sde.calls == found.stats["evaluations"] + (1 if solver.tableau.first_same_as_last else 0)
    for s, t in itertools.pairwise(grid):
        x, _ = solver.step(sde, x, s, t, None)
    np.testing.assert_array_equal(found.states[0], x)


def test_dormand_prince_is_scipys():
    """The tableau against scipy's, which is written independently; its error estimate has the other sign."""
    tableau = sp.DormandPrince54().tableau
    for i, row in enumerate(tableau.a[:-1], start=1):
        np.testing.assert_allclose(row, RK45.A[i, :i], rtol=1e-15)
    np.testing.assert_allclose(tableau.b[:-1], RK45.B, rtol=1e-15)
    np.testing.assert_allclose(tableau.error, -RK45.E, rtol=1e-12)


@EMBEDDED
def test_the_error_estimate_is_the_difference_of_both_schemes(solver):
    """h Σ error_i k_i, with stages written out here; and what is remembered is the slope at the new state."""
    sde, x, s, t = Rotation(), np.array([[1.0, 0.5]]), 0.3, 0.7
    found, slope, error = solver.step_with_error(sde, x, s, t, None)
    stages = [sde.drift(x, s)]
    for c, row in zip(solver.tableau.c[1:], solver.tableau.a, strict=True):
        stages.append(
            sde.drift(x + (t - s) * sum(a * k for a, k in zip(row, stages, strict=True)), s + c * (t - s))
        )
    expected = sum(w * k for w, k in zip(solver.tableau.error, stages, strict=True)) * (t - s)
    np.testing.assert_allclose(error, expected, rtol=1e-9)
    np.testing.assert_allclose(slope, sde.drift(found, t), rtol=1e-14)
    np.testing.assert_allclose(found, turned(x, t**2 - s**2), atol=1e-4)


@EACH_SOLVER
def test_noise_is_refused(solver):
    with pytest.raises(
        TypeError, match=f"{type(solver).__name__} takes no noise; LinearSDE has additive noise"
    ):
        sp.solve(sp.LinearSDE(1.0, 1.0), np.ones((2, 3)), [0.0, 1.0], solver=solver)


def test_an_ode_of_ones_own(backend):
    """dx = f dt from a callable, without diffusion: up and down in time, against e^{-at}."""
    ode = sp.ItoSDE(lambda x, t: -0.8 * x, None)
    assert ode.noise == "additive"
    x = array([[2.0, -1.0]], backend)
    for times in ([0.0, 0.5, 1.5], [1.5, 1.0, 0.0]):
        found = sp.solve(
            ode, x, sp.uniform_grid(times[0], times[-1], 100), solver=sp.RungeKutta4(), keep="last"
        )
        assert_array(found.states[0, ...], math.exp(-0.8 * (times[-1] - times[0])) * host(x), backend, 1e-5)
    control = sp.PIController(rtol=1e-9 if "64" in str(backend.dtype) else 1e-5)
    found = sp.solve(ode, x, [0.0, 1.5], solver=sp.Tsitouras54(), control=control)
    assert_array(found.states[-1, ...], math.exp(-1.2) * host(x), backend, 1e-4)
