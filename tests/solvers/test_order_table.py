"""The table solver × noise class × backend of measured orders; `benchmarks/orders.py` prints it.

Strong orders on given paths (seed 7, 1,000 to 4,000 paths): from seed to seed the slopes vary by 0.01
to 0.04. Weak orders have no random part.
"""

import inspect
import math

import numpy as np
import pytest
from checks import array, fitted_slope, host
from order_errors import local_errors, strong_errors
from order_problems import Driven, Transformed
from order_rows import SOLVERS, rows

import sdeppl as sp
import sdeppl.solvers

ROWS = rows()
STRONG = [row for row in ROWS if not math.isnan(row.strong)]


@pytest.mark.parametrize("row", STRONG, ids=[row.name for row in STRONG])
@pytest.mark.once
def test_strong_order(row, precise):
    assert row.measured_strong(precise) == pytest.approx(row.strong, abs=0.1)


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
@pytest.mark.once
def test_weak_order(row, precise):
    assert row.measured_weak(precise) == pytest.approx(row.weak, abs=0.15)


def test_every_solver_for_noise_that_depends_on_x_is_in_the_table():
    found = {
        solver
        for _, solver in inspect.getmembers(sdeppl.solvers, inspect.isclass)
        if issubclass(solver, sp.solvers.Solver)
        and not inspect.isabstract(solver)
        and isinstance(solver.strong_order, dict)  # else it has the orders of another, inside it
        and set(solver.strong_order) & {"scalar", "diagonal", "general"}
    }
    assert found == set(SOLVERS) - {sp.SRA1}
    for solver in SOLVERS:
        covered = {row.noise for row in ROWS if row.solver is solver}
        assert set(solver.strong_order) - {"general"} <= covered
        assert ("general" in solver.strong_order) == bool(covered & {"commutative", "non-commutative"})


@pytest.mark.parametrize(
    ("solver", "noise"),
    [
        (solver, noise)
        for solver in SOLVERS
        for noise in solver.strong_order
        if noise != "additive" and solver is not sp.MilsteinLevy
    ],
)
def test_weak_order_of_one_step_where_nothing_is_linear(solver, noise):
    """The local error has order p + 1."""
    sizes = 2.0 ** -np.arange(7, 12)
    errors = local_errors(solver(), Transformed(noise), sizes, sp.resolve("numpy"))
    assert fitted_slope(sizes, errors) == pytest.approx(solver.weak_order + 1, abs=0.15)


def test_a_fixed_number_of_fourier_terms_has_strong_order_half():
    """MilsteinLevy needs terms ∝ 1/h; with none but I_(1,0) the order is that of the areas left out."""
    sizes = (8, 16, 32, 64)
    found = strong_errors(
        lambda n: sp.MilsteinLevy(0), Driven("non-commutative"), sizes, sp.resolve("numpy"), 1_000
    )
    assert fitted_slope(1 / np.array(sizes), found) == pytest.approx(0.5, abs=0.1)


MU, SIGMA = 0.5, 0.5


def exact_mean_square(milstein, steps, T=1.0):
    """E (X_n - X_T)² = qⁿ - 2 kⁿ + e^{(2μ + σ²) T} for dX = μ X dt + σ X dW, X_0 = 1."""
    h = T / steps
    more = SIGMA**4 * h**2 / 2 if milstein else 0.0
    q = (1 + MU * h) ** 2 + SIGMA**2 * h + more
    k = math.exp(MU * h) * (1 + MU * h + SIGMA**2 * h + more)
    return q**steps - 2 * k**steps + math.exp((2 * MU + SIGMA**2) * T)


@pytest.mark.parametrize("solver", [sp.EulerMaruyama(), sp.Milstein()], ids=["euler-maruyama", "milstein"])
@pytest.mark.parametrize("steps", [4, 16])
def test_error_on_geometric_brownian_motion_is_the_closed_form(solver, steps, precise):
    """Seed 3, 200,000 paths: the root mean square has a relative standard error of 0.3 to 0.7%, so
    that 3% is 4.4 of them or more."""
    sde = sp.ItoSDE(lambda x, t: MU * x, lambda x, t: SIGMA * x, "diagonal")
    z = np.random.default_rng(3).standard_normal((steps, 200_000, 1))
    x = array(np.ones((200_000, 1)), precise)
    for k in range(steps):
        x, _ = solver.step(sde, x, k / steps, (k + 1) / steps, array(z[k], precise))
    exact = np.exp(MU - SIGMA**2 / 2 + SIGMA * z.sum(axis=0) / math.sqrt(steps))
    square = (host(x) - exact) ** 2
    expected = exact_mean_square(isinstance(solver, sp.Milstein), steps)
    assert math.sqrt(np.mean(square) / expected) == pytest.approx(1.0, abs=0.03)
    assert np.std(square) / math.sqrt(square.size) / np.mean(square) / 2 < 0.03 / 4.4
