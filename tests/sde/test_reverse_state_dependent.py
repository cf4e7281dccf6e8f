"""Anderson's reverse drift in full, where the noise depends on the state.

Every SDE here is d ln x = (μ - ½ diag(L Lᵀ)) dt + L dW, so that ln x_t is Gaussian, p_t is known, and
the reverse SDE must solve the Fokker–Planck equation in reversed time with p_t, term by term:
∂_t p + Σ_i ∂_i (b_i p) + ½ Σ_ij ∂_i ∂_j ((γ γᵀ)_ij p) = 0 for its drift b and noise γ.
"""

import numpy as np
import pytest
from checks import array, assert_array, covariance_matrix, host

import sdeppl as sp
from sdeppl.backend import backend_of
from sdeppl.sde import divergence_of_square

MU, MEAN, COVARIANCE = np.array([0.3, -0.4]), np.array([0.2, 0.5]), covariance_matrix(2, seed=2) * 0.3
POINTS = np.array([[1.1, 1.4], [0.6, 2.0], [1.9, 0.8], [0.9, 0.7]])
T = 0.6
LOADINGS = {  # L: ln x moves by L dW
    "diagonal": np.diag([0.5, 0.8]),
    "scalar": np.array([[0.5], [-0.7]]),
    "general": np.array([[0.5, 0.3, 0.0], [0.2, -0.6, 0.4]]),
}
MATRICES = {  # c: γ = g c
    "diagonal": np.array([[0.7, 0.2, 0.4], [-0.3, 0.9, 0.1]]),
    "scalar": np.array([[0.6, 0.8]]),
    "general": np.array([[1.0, 0.2], [-0.5, 0.8], [0.3, 0.4]]),
}


def forward(noise, backend):
    """dx = μ x dt + diag(x) L dW."""
    loading, mu = array(LOADINGS[noise], backend), array(MU, backend)

    def g(x, t):
        if noise == "general":
            return x[..., :, None] * loading
        return x * (loading[:, 0] if noise == "scalar" else array(np.diag(LOADINGS[noise]), backend))

    return sp.ItoSDE(lambda x, t: mu * x, g, noise, 3 if noise == "general" else None)


def log_moments(noise, t):
    square = LOADINGS[noise] @ LOADINGS[noise].T
    return MEAN + (MU - 0.5 * np.diag(square)) * t, COVARIANCE + square * t


def density(noise, x, t):
    """p_t(x) of the log-normal, (...)."""
    mean, covariance = log_moments(noise, t)
    residual = np.log(x) - mean
    squared = np.sum(residual @ np.linalg.inv(covariance) * residual, axis=-1)
    normaliser = 2 * np.pi * np.sqrt(np.linalg.det(covariance))
    return np.exp(-0.5 * squared) / (normaliser * np.prod(x, axis=-1))


def score(noise, backend):
    """∂ ln p_t = -(1 + Σ⁻¹ (ln x - m))/x."""

    def function(x, t):
        mean, covariance = log_moments(noise, t)
        residual = backend_of(x).xp.log(x) - array(mean, backend)
        return -(1 + residual @ array(np.linalg.inv(covariance), backend)) / x

    return function


def square_of(sde, x, t, backend):
    """γ γᵀ, (n, 2, 2)."""
    gamma = host(sde.diffusion(array(x, backend), t))
    if sde.noise == "diagonal":
        return (gamma**2)[:, :, None] * np.eye(2)
    columns = gamma[..., None] if sde.noise == "scalar" else gamma
    return columns @ np.swapaxes(columns, -1, -2)


def residual_of_fokker_planck(noise, reverse, backend):
    """The left side of the equation above, by differences of order 4, relative to its largest term."""
    h = 4e-3
    first = np.array([1, -8, 0, 8, -1]) / (12 * h)
    second, none = np.array([-1, 16, -30, 16, -1]) / (12 * h**2), np.array([0, 0, 1, 0, 0])
    offsets = h * np.stack(np.meshgrid(np.arange(-2, 3), np.arange(-2, 3), indexing="ij"), axis=-1)
    x = (POINTS[:, None, None, :] + offsets).reshape(-1, 2)
    p = density(noise, x, T)
    flow = (host(reverse.drift(array(x, backend), T)) * p[:, None]).reshape(-1, 5, 5, 2)
    spread = (square_of(reverse, x, T, backend) * p[:, None, None]).reshape(-1, 5, 5, 2, 2)

    def derivative(values, along, across):
        return np.einsum("nij,i,j->n", values, along, across)

    dt = 1e-3
    times = [density(noise, POINTS, T + k * dt) for k in (-2, -1, 1, 2)]
    terms = [
        (times[0] - 8 * times[1] + 8 * times[2] - times[3]) / (12 * dt),
        derivative(flow[..., 0], first, none),
        derivative(flow[..., 1], none, first),
        0.5 * derivative(spread[..., 0, 0], second, none),
        0.5 * derivative(spread[..., 1, 1], none, second),
        derivative(spread[..., 0, 1], first, first),
    ]
    return np.max(np.abs(sum(terms))) / np.max(np.abs(terms))


@pytest.mark.parametrize("noise", LOADINGS)
@pytest.mark.parametrize("c", [0.0, 0.5, 1.0, 2.0, lambda t: 1.5 - t])
def test_the_reverse_sde_solves_fokker_planck(noise, c, precise):
    reverse = sp.ReverseSDE(forward(noise, precise), score(noise, precise), c)
    assert residual_of_fokker_planck(noise, reverse, precise) < 1e-6


@pytest.mark.parametrize("noise", LOADINGS)
@pytest.mark.parametrize("of_time", [False, True])
def test_with_a_matrix_c_too(noise, of_time, precise):
    matrix = array(MATRICES[noise], precise)
    c = (lambda t: (1.6 - t) * matrix) if of_time else matrix
    m = matrix.shape[1]
    reverse = sp.ReverseSDE(forward(noise, precise), score(noise, precise), c, m if of_time else None)
    assert (reverse.noise, reverse.wiener_dim) == ("general", m)
    gamma = POINTS[..., None] * (LOADINGS[noise] @ MATRICES[noise])
    assert_array(reverse.diffusion(array(POINTS, precise), T), gamma, precise)
    assert residual_of_fokker_planck(noise, reverse, precise) < 1e-6


def test_the_residual_sees_a_drift_without_the_divergence(precise):
    """What the tests above would miss if the left side were measured badly: ∇·(g gᵀ) left out."""

    class Incomplete(sp.ReverseSDE):
        def drift(self, x, t):
            whole = divergence_of_square(self.forward, x, t)
            return super().drift(x, t) + 0.5 * (1 + self.c**2) * whole

    reverse = Incomplete(forward("scalar", precise), score("scalar", precise), 1.0)
    assert residual_of_fokker_planck("scalar", reverse, precise) > 0.1


def test_stratonovichs_sde_reverses_as_its_ito_form(precise):
    """dx = (μ - ½ σ²) x dt + σ x ∘ dW is the diagonal SDE above."""
    sde = forward("diagonal", precise)
    sigma = array(np.diag(LOADINGS["diagonal"]), precise)
    mu = array(MU, precise)
    stratonovich = sp.StratonovichSDE(lambda x, t: (mu - 0.5 * sigma**2) * x, lambda x, t: sigma * x)
    reverse = sp.ReverseSDE(stratonovich, score("diagonal", precise), 0.5)
    expected = sp.ReverseSDE(sde, score("diagonal", precise), 0.5).drift(array(POINTS, precise), T)
    assert_array(reverse.drift(array(POINTS, precise), T), host(expected), precise, 1e-9)
    assert residual_of_fokker_planck("diagonal", reverse, precise) < 1e-6


# ---- the divergence, by hand --------------------------------------------------------------------


def stacked(*rows):
    def g(x, t):
        xp = backend_of(x).xp
        entries = [[entry(x[..., 0], x[..., 1]) for entry in row] for row in rows]
        return xp.stack([xp.stack(row, axis=-1) for row in entries], axis=-2)

    return g


@pytest.mark.parametrize("noise", ["scalar", "diagonal", "general"])
def test_divergence_of_square_by_hand(noise, backend):
    a, b = POINTS.T
    if noise == "scalar":  # g = (a b, a²): G = [[a² b², a³ b], [a³ b, a⁴]]
        columns = stacked((lambda a, b: a * b,), (lambda a, b: a * a,))
        sde = sp.ItoSDE(lambda x, t: x, lambda x, t: columns(x, t)[..., 0], "scalar")
        expected = np.stack((2 * a * b**2 + a**3, 3 * a**2 * b), axis=-1)
    elif noise == "diagonal":  # g = (1 + a², b³)
        columns = stacked((lambda a, b: 1 + a * a,), (lambda a, b: b**3,))
        sde = sp.ItoSDE(lambda x, t: x, lambda x, t: columns(x, t)[..., 0], "diagonal")
        expected = np.stack((4 * a * (1 + a**2), 6 * b**5), axis=-1)
    else:  # G = [[a² + 1, 2 a b], [2 a b, b² + a² b² + b⁴]]
        g = stacked(
            (lambda a, b: a, lambda a, b: 1 + 0 * b, lambda a, b: 0 * a),
            (lambda a, b: b, lambda a, b: a * b, lambda a, b: b * b),
        )
        sde = sp.ItoSDE(lambda x, t: x, g, "general", 3)
        expected = np.stack((4 * a, 4 * b + 2 * a**2 * b + 4 * b**3), axis=-1)
    tolerance = 1e-9 if "64" in str(backend.dtype) else 1e-3
    assert_array(divergence_of_square(sde, array(POINTS, backend), T), expected, backend, tolerance)


# ---- paths --------------------------------------------------------------------------------------


@pytest.mark.parametrize("c", [0.0, 0.5, 1.0, 2.0])
def test_paths_of_reversed_geometric_brownian_motion_come_back(c):
    """From ln x_T ~ N(m_T, v_T) down to t = 0: mean and variance of ln x_0 for 20,000 paths, seed 5.

    Within 4.5 standard errors (1.4e-5 false alarms over both moments) and Euler–Maruyama's bias, at
    most 1.5 steps: 0.006 with 256 steps, halved with their number.
    """
    mu, sigma, mean, variance, paths, steps = 0.4, 0.7, 0.3, 0.25, 20_000, 256
    sde = sp.GeometricBrownianMotion(mu, sigma)

    def moments(t):
        return mean + (mu - sigma**2 / 2) * t, variance + sigma**2 * t

    def marginal_score(x, t):
        m, v = moments(t)
        return -(1 + (np.log(x) - m) / v) / x

    m, v = moments(1.0)
    z = np.random.default_rng(5).standard_normal((paths, 1))
    z = (z - z.mean()) / z.std()  # so that the start has no error of its own
    reverse = sp.ReverseSDE(sde, marginal_score, c)
    times = sp.uniform_grid(1.0, 0.0, steps)
    end = sp.solve(reverse, np.exp(m + np.sqrt(v) * z), times, noise=sp.Noise(5), keep="last").states[-1]
    logarithm = np.log(end[:, 0])
    bias = 1.5 / steps
    assert abs(logarithm.mean() - mean) < 4.5 * np.sqrt(variance / paths) + bias
    assert abs(logarithm.var() - variance) < 4.5 * variance * np.sqrt(2 / paths) + bias


@pytest.mark.parametrize("c", [0.7, np.array([[0.5, 0.2, 0.0], [-0.3, 1.1, 0.4]])], ids=["number", "matrix"])
def test_the_derivative_of_the_reverse_noise_is_that_of_its_noise(c):
    """(∂γ/∂x) v from the forward SDE's own derivative, against differences of γ itself."""
    forwards = [
        sp.GeometricBrownianMotion(0.4, 0.6),
        sp.ItoSDE(
            lambda x, t: -x, lambda x, t: np.stack([np.sin(x), x * x], axis=-1), noise="general", wiener_dim=2
        ),
    ]
    x, v = np.array([[0.7, -1.2], [1.5, 0.3]]), np.array([[1.0, -0.4], [0.2, 2.0]])
    for forward in forwards:
        reverse = sp.ReverseSDE(forward, lambda x, t: -x, c)
        h = 1e-6
        expected = (reverse.diffusion(x + h * v, 0.5) - reverse.diffusion(x - h * v, 0.5)) / (2 * h)
        np.testing.assert_allclose(reverse.diffusion_jvp(x, 0.5, v), expected, rtol=1e-8, atol=1e-9)
