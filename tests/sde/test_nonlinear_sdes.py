"""The ready-made SDEs that are not affine: their fields by hand, their closed forms by other means."""

import math

import numpy as np
import pytest
from checks import array, assert_array, host
from scipy.integrate import dblquad, quad, solve_ivp
from scipy.stats import lognorm

import sdeppl as sp

GBM = sp.GeometricBrownianMotion(mu=0.4, sigma=0.7)
X = np.array([[0.5, -1.2, 2.0, 0.3], [2.0, 0.3, -0.7, 1.1]])


# ---- geometric Brownian motion ------------------------------------------------------------------


def test_geometric_fields_and_derivative(backend):
    x, v = array(X, backend), array(X[::-1].copy(), backend)
    assert_array(GBM.drift(x, 0.0), 0.4 * X, backend)
    assert_array(GBM.diffusion(x, 0.0), 0.7 * X, backend)
    assert_array(GBM.diffusion_jvp(x, 0.0, v), 0.7 * X[::-1], backend)
    assert GBM.noise == "diagonal" and GBM.calculus == "ito"


def test_geometric_moments_solve_their_equations():
    """dE x/dt = μ E x and dE x²/dt = (2μ + σ²) E x², from the drift and the diffusion."""
    s, t, x = 0.3, 1.7, 1.6

    def slopes(r, u):
        return [0.4 * u[0], (2 * 0.4 + 0.7**2) * u[1]]

    first, second = solve_ivp(slopes, (s, t), [x, x**2], rtol=1e-11, atol=1e-12).y[:, -1]
    assert GBM.mean(np.array([x]), s, t)[0] == pytest.approx(first, rel=1e-9)
    assert GBM.variance(np.array([x]), s, t)[0] == pytest.approx(second - first**2, rel=1e-9)


def test_geometric_exact_step_has_the_moments(backend):
    """Gauss–Hermite quadrature over z: E x_t and Var x_t of the exact step, no Monte Carlo."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()
    start = np.full((60, 1), 1.6)
    end = host(GBM.exact(array(start, backend), 0.3, 1.7, array(nodes[:, None], backend)))[:, 0]
    tolerance = 1e-12 if "64" in str(backend.dtype) else 1e-5
    mean = weights @ end
    assert mean == pytest.approx(GBM.mean(1.6, 0.3, 1.7), rel=tolerance)
    assert weights @ (end - mean) ** 2 == pytest.approx(GBM.variance(1.6, 0.3, 1.7), rel=10 * tolerance)


def test_geometric_exact_step_is_that_of_euler_on_fine_steps():
    """The same Brownian path in 2¹⁴ Euler–Maruyama steps: strong order 1/2, so within 2 %. Seed 1."""
    steps, h = 2**14, 1.0 / 2**14
    increments = np.random.default_rng(1).standard_normal((steps, 8)) * math.sqrt(h)
    x = np.full(8, 1.6)
    for dw in increments:
        x = x + 0.4 * x * h + 0.7 * x * dw
    exact = GBM.exact(np.full((8, 1), 1.6), 0.0, 1.0, increments.sum(axis=0)[:, None])[:, 0]
    np.testing.assert_allclose(x, exact, rtol=0.02)


def test_geometric_density_is_scipys_and_its_score_the_slope(backend):
    y, s, t = np.array([[0.4, 1.3], [2.0, 0.9]]), 0.2, 1.1
    x = np.array([[1.0, 1.5], [0.7, 1.2]])
    reference = lognorm(s=0.7 * math.sqrt(t - s), scale=x * np.exp((0.4 - 0.7**2 / 2) * (t - s)))
    arrays = array(y, backend), array(x, backend)
    assert_array(GBM.log_density(*arrays, s, t), reference.logpdf(y).sum(axis=-1), backend)
    eps = 1e-5
    slope = (reference.logpdf(y + eps) - reference.logpdf(y - eps)) / (2 * eps)
    tolerance = 1e-8 if "64" in str(backend.dtype) else 1e-4
    assert_array(GBM.score(*arrays, s, t), slope, backend, tolerance)


def test_geometric_parameters_for_each_component(backend):
    mu, sigma = np.array([0.1, -0.3]), np.array([0.2, 0.9])
    each = sp.GeometricBrownianMotion(array(mu, backend), array(sigma, backend))
    x, z, y = np.array([[1.0, 2.0]]), np.array([[0.4, -1.0]]), np.array([[0.9, 1.2]])
    for i in range(2):
        one = sp.GeometricBrownianMotion(mu[i], sigma[i])
        found = each.exact(array(x, backend), 0.0, 0.8, array(z, backend))
        tolerance = 1e-12 if "64" in str(backend.dtype) else 1e-5
        for value, expected in (
            (found, one.exact(x, 0.0, 0.8, z)),
            (each.mean(array(x, backend), 0.0, 0.8), one.mean(x, 0.0, 0.8)),
            (each.variance(array(x, backend), 0.0, 0.8), one.variance(x, 0.0, 0.8)),
            (each.score(array(y, backend), array(x, backend), 0.0, 0.8), one.score(y, x, 0.0, 0.8)),
        ):
            assert host(value)[0, i] == pytest.approx(expected[0, i], rel=tolerance)
    total = sum(
        sp.GeometricBrownianMotion(mu[i], sigma[i]).log_density(y[:, i : i + 1], x[:, i : i + 1], 0.0, 0.8)
        for i in range(2)
    )
    assert_array(each.log_density(array(y, backend), array(x, backend), 0.0, 0.8), total, backend)


# ---- double well --------------------------------------------------------------------------------

WELL = sp.DoubleWell(barrier=1.3, well=0.8, temperature=0.6)


def test_double_well_drift_is_minus_the_slope_of_its_potential(backend):
    """U has its minima 0 at ±well and the barrier's height at 0."""
    eps = 1e-6
    slope = np.stack(
        [(WELL.potential(X + eps * e) - WELL.potential(X - eps * e)) / (2 * eps) for e in np.eye(4)], axis=-1
    )
    tolerance = 1e-8 if "64" in str(backend.dtype) else 1e-5
    assert_array(WELL.drift(array(X, backend), 0.0), -slope, backend, tolerance)
    assert_array(WELL.potential(array(X, backend)), WELL.potential(X), backend)
    assert WELL.potential(np.array([0.8, 0.0, -0.8])) == pytest.approx(1.3)
    assert WELL.potential(np.array([0.8, -0.8])) == pytest.approx(0.0)
    np.testing.assert_allclose(WELL.drift(np.array([0.8, 0.0, -0.8]), 0.0), 0.0, atol=1e-15)


def test_double_well_density_is_stationary():
    """The current f p - T p' is zero everywhere, with g² = 2 T."""
    x, eps = np.linspace(-1.5, 1.5, 7)[:, None], 1e-6
    assert WELL.diffusion(x, 0.0) ** 2 == pytest.approx(2 * 0.6)
    p = np.exp(WELL.stationary_log_density(x))
    up, down = (np.exp(WELL.stationary_log_density(x + s * eps)) for s in (1, -1))
    current = WELL.drift(x, 0.0)[:, 0] * p - 0.6 * (up - down) / (2 * eps)
    np.testing.assert_allclose(current, 0.0, atol=1e-8)
    np.testing.assert_allclose(
        WELL.stationary_score(x)[:, 0], (up - down) / (2 * eps) / p, rtol=1e-7, atol=1e-8
    )


@pytest.mark.parametrize("temperature", [0.01, 0.6, 50.0])
def test_double_well_density_is_normalised(temperature):
    sde = sp.DoubleWell(1.3, 0.8, temperature)
    one, _ = quad(
        lambda x: math.exp(sde.stationary_log_density(np.array([x]))), -6, 6, points=[-0.8, 0.8], limit=400
    )
    assert one == pytest.approx(1.0, rel=1e-8)


def test_double_well_density_of_two_components_is_normalised():
    two, _ = dblquad(lambda x, y: math.exp(WELL.stationary_log_density(np.array([x, y]))), -3, 3, -3, 3)
    assert two == pytest.approx(1.0, rel=1e-6)


# ---- Lorenz -------------------------------------------------------------------------------------


def test_lorenz_63_is_lorenzs(backend):
    sde, x = sp.Lorenz63(sigma=9.0, rho=25.0, beta=2.5, amplitude=0.3), X[:, :3]
    u, v, w = x.T
    expected = np.stack((9.0 * (v - u), u * (25.0 - w) - v, u * v - 2.5 * w), axis=-1)
    assert_array(sde.drift(array(x, backend), 0.0), expected, backend)
    assert_array(sde.drift(array(x[0], backend), 0.0), expected[0], backend)
    assert sde.diffusion(x, 0.0) == 0.3 and sde.noise == "additive"


@pytest.mark.parametrize("sde, dim", [(sp.Lorenz63(), 3), (sp.Lorenz96(), 5)])
def test_lorenz_runs_inside_a_batched_model(sde, dim):
    """torch.func.vmap, which runs a Pyro model for many draws at once, has a rule for each operation."""
    torch = pytest.importorskip("torch")
    x = torch.as_tensor(np.random.default_rng(0).normal(size=(4, 2, dim)))
    found = torch.func.vmap(lambda row: sde.drift(row, 0.0))(x)
    torch.testing.assert_close(found, sde.drift(x, 0.0))


def test_lorenz_63_rests_at_its_fixed_points_and_contracts_volumes():
    """(±√(β(ρ-1)), same, ρ-1), and divergence -(σ + 1 + β)."""
    sde = sp.Lorenz63()
    c = math.sqrt(8 / 3 * 27)
    for point in ([c, c, 27.0], [-c, -c, 27.0], [0.0, 0.0, 0.0]):
        np.testing.assert_allclose(sde.drift(np.array(point), 0.0), 0.0, atol=1e-12)
    x, eps = np.array([1.0, -2.0, 20.0]), 1e-6
    divergence = sum((sde.drift(x + eps * e, 0.0) - sde.drift(x - eps * e, 0.0)) @ e for e in np.eye(3))
    assert divergence / (2 * eps) == pytest.approx(-(10 + 1 + 8 / 3), rel=1e-6)


@pytest.mark.parametrize("dim", [4, 5, 40])
def test_lorenz_96_is_lorenzs(dim, backend):
    x = np.random.default_rng(0).standard_normal((3, dim)) + 2
    expected = np.stack(
        [(x[:, (i + 1) % dim] - x[:, i - 2]) * x[:, i - 1] - x[:, i] + 7.0 for i in range(dim)], axis=-1
    )
    sde = sp.Lorenz96(F=7.0, amplitude=0.2)
    assert_array(sde.drift(array(x, backend), 0.0), expected, backend)
    assert_array(sde.drift(array(0 * x + 7.0, backend), 0.0), 0 * x, backend)  # it rests at F
    assert sde.diffusion(x, 0.0) == 0.2 and sde.noise == "additive"


@pytest.mark.parametrize("sde", [sp.Lorenz63(amplitude=0.0), sp.Lorenz96(amplitude=0.0)])
def test_without_noise_it_is_an_ode_that_runs_both_ways(sde):
    """Euler steps, there and back, within their error of 1e-3."""
    x = np.ones((2, 5 if isinstance(sde, sp.Lorenz96) else 3)) + 0.1
    forward = sp.solve(sde, x, sp.uniform_grid(0.0, 0.01, 100)).states[-1]
    exact = solve_ivp(lambda t, y: sde.drift(y, t), (0, 0.01), x[0], rtol=1e-10, atol=1e-12).y[:, -1]
    np.testing.assert_allclose(forward[0], exact, rtol=1e-3)
    back = sp.solve(sde, forward, sp.uniform_grid(0.01, 0.0, 100)).states[-1]
    np.testing.assert_allclose(back, x, rtol=1e-3)


def test_lorenz_96_keeps_its_mean_energy():
    """Without drag and forcing the products keep Σ x²: x·(drift + x - F) = 0."""
    x = np.random.default_rng(1).standard_normal((5, 9))
    np.testing.assert_allclose(np.sum(x * (sp.Lorenz96(8.0).drift(x, 0.0) + x - 8.0), axis=-1), 0, atol=1e-13)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sp.GeometricBrownianMotion(math.nan), "mu must be a finite number; got nan"),
        (lambda: sp.GeometricBrownianMotion(0.1, "2"), "sigma must be a finite number; got '2'"),
        (lambda: sp.GeometricBrownianMotion(0.1, 0), "sigma must be positive; got 0.0"),
        (lambda: sp.DoubleWell(barrier=0), "DoubleWell: barrier must be positive and finite; got 0.0"),
        (lambda: sp.DoubleWell(temperature=math.inf), "temperature must be positive and finite; got inf"),
        (lambda: sp.Lorenz63(rho=math.inf), "Lorenz63: rho must be a finite number; got inf"),
        (lambda: sp.Lorenz96(amplitude=-1), "Lorenz96: amplitude must be at least 0; got -1.0"),
        (lambda: sp.Lorenz63().drift(X, 0.0), r"Lorenz63 has states \(..., 3\); got \(2, 4\)"),
        (lambda: sp.Lorenz96().drift(X[:, :3], 0.0), r"Lorenz96 has states .* dim >= 4; got \(2, 3\)"),
    ],
)
def test_bad_parameters_and_states_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_numpy_scalars_as_parameters_keep_float32():
    for sde, dim in (
        (sp.GeometricBrownianMotion(np.float64(0.1), np.float64(0.2)), 2),
        (sp.DoubleWell(np.float64(1.0)), 2),
        (sp.Lorenz63(np.float64(10.0), amplitude=np.float64(1.0)), 3),
        (sp.Lorenz96(np.float64(8.0)), 5),
    ):
        assert sp.solve(sde, np.ones((2, dim), dtype=np.float32), [0.0, 0.01]).states.dtype == np.float32
