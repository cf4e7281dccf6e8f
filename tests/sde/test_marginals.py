"""AffineMarginals: the Fokker–Planck equation in closed form."""

import math

import numpy as np
import pytest
from checks import array, assert_array, covariance_matrix, host
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

import sdeppl as sp

SCHEDULE = sp.LinearSchedule(0.5, 6.0)
WEIGHTS = np.array([0.5, 0.2, 0.3])
MEANS = np.array([[1.5, -0.8], [-1.0, 0.4], [0.3, 2.0]])
COVARIANCES = np.stack([covariance_matrix(2, seed) for seed in range(3)])
COUPLING, NOISE = np.array([[1.0, 0.8], [-0.6, 0.4]]), np.array([[0.9, 0.0, 0.2], [0.5, 0.7, -0.3]])
MAKERS = {
    "vp": lambda backend: sp.VPSDE(SCHEDULE),
    "ve": lambda backend: sp.VESDE(0.3, 2.5),
    "shifted vp": lambda backend: sp.ShiftedVPSDE(array([1.0, -2.0], backend), SCHEDULE),
    "matrix": lambda backend: sp.MatrixLinearSDE(
        array(COUPLING, backend), array(NOISE, backend), array([0.5, -1.0], backend), SCHEDULE
    ),
    "degenerate": lambda backend: sp.MatrixLinearSDE(
        array([[0.0, -1.0], [2.0, 0.5]], backend), array([[0.0], [1.3]], backend)
    ),
    "critically damped": lambda backend: sp.CriticallyDampedSDE(SCHEDULE, 0.7),
}
NUMPY = sp.resolve("numpy")
EACH = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
X = np.array([[0.5, -0.2], [1.4, 0.9], [-2.0, 0.3]])


def marginals(make, backend=NUMPY, count=3):
    start = (array(part[:count], backend) for part in (WEIGHTS, MEANS, COVARIANCES))
    return sp.AffineMarginals(make(backend), *start)


def transition(sde, s, t):
    """Φ, shift and Q as matrices."""
    phi, shift, q = (np.asarray(part) for part in sde.transition(s, t))
    square = (np.eye(2) * part if part.ndim == 0 else part for part in (phi, q))
    phi, q = square
    return phi, shift + np.zeros(2), q


def log_components(sde, x, t):
    phi, shift, q = transition(sde, 0.0, t)
    return np.stack(
        [
            math.log(w / WEIGHTS.sum()) + multivariate_normal(phi @ m + shift, phi @ c @ phi.T + q).logpdf(x)
            for w, m, c in zip(WEIGHTS, MEANS, COVARIANCES, strict=True)
        ]
    )


@EACH
def test_log_density_is_that_of_the_carried_components(make, backend):
    found = marginals(make, backend)
    for t in (0.0, 0.1, 0.6, 1.0):
        expected = logsumexp(log_components(make(NUMPY), X, t), axis=0)
        assert_array(found.log_density(array(X, backend), t), expected, backend)
    more = array(np.stack([X, X + 1]), backend)
    assert tuple(found.log_density(more, 0.3).shape) == (2, 3)
    assert tuple(found.score(more, 0.3).shape) == (2, 3, 2)
    assert tuple(found.score(array(X[0], backend), 0.3).shape) == (2,)


@EACH
def test_score_is_the_gradient_of_the_log_density(make, backend):
    """By central differences of order 4 in float64."""
    for t in (0.05, 0.7):
        exact, h, expected = marginals(make), 1e-3, np.zeros_like(X)
        for i, step in enumerate(h * np.eye(2)):
            at = {k: exact.log_density(X + k * step, t) for k in (-2, -1, 1, 2)}
            expected[:, i] = (8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * h)
        tolerance = 2e-4 if "32" in str(backend.dtype) else 1e-8
        assert_array(marginals(make, backend).score(array(X, backend), t), expected, backend, tolerance)


@EACH
def test_the_density_solves_the_fokker_planck_equation(make):
    """∂p/∂t = -∇·(f p) + ½ ∇∇:(B Bᵀ p), all by central differences of order 4; X away from p = 0."""
    found, sde, t, h = marginals(make), make(NUMPY), 0.4, 2e-3
    weights = {-2: 1 / 12, -1: -8 / 12, 1: 8 / 12, 2: -1 / 12}

    def derivative(function, step):
        return sum(w * function(k * step) for k, w in weights.items()) / h

    g = sde.diffusion(X, t)
    g = g * np.eye(2) if np.ndim(g) == 0 else np.diag(g) if np.ndim(g) == 1 else g
    square, eye = g @ g.T, h * np.eye(2)

    def density(x, t):
        return np.exp(found.log_density(x, t))

    def current(x, i):  # of probability, along i
        spread = sum(
            square[i, j] * derivative(lambda d, j=j: density(x + d * eye[j], t), 1) for j in range(2)
        )
        return sde.drift(x, t)[:, i] * density(x, t) - 0.5 * spread

    change = derivative(lambda k: density(X, t + k * h), 1)
    inflow = -sum(derivative(lambda k, i=i: current(X + k * eye[i], i), 1) for i in range(2))
    np.testing.assert_allclose(change, inflow, rtol=1e-6, atol=1e-7 * np.max(np.abs(change)))
    assert np.max(np.abs(change)) > 1e-3


@EACH
def test_moments_are_the_means_and_covariances_of_the_mixture(make, backend):
    t = 0.6
    phi, shift, q = transition(make(NUMPY), 0.0, t)
    means = MEANS @ phi.T + shift
    mean = WEIGHTS @ means
    second = sum(
        w * (phi @ c @ phi.T + q + np.outer(m, m))
        for w, m, c in zip(WEIGHTS, means, COVARIANCES, strict=True)
    )
    found = marginals(make, backend).moments(t)
    assert_array(found[0], mean, backend)
    assert_array(found[1], second - np.outer(mean, mean), backend)


@EACH
def test_draws_have_the_moments_and_the_density(make):
    """20,000 draws, seed 3: mean, covariance and moments of the score within 5 standard errors.

    Nine numbers a case: a new seed would fail a case with probability 5e-6.
    """
    found, n, t = marginals(make), 20_000, 0.3
    x = found.sample(t, n, sp.Noise(3))
    mean, covariance = found.moments(t)
    centred = x - mean
    products = np.stack([centred[:, i] * centred[:, j] for i, j in ((0, 0), (0, 1), (1, 1))], axis=-1)
    for values, expected in (
        (x, mean),
        (products, covariance[[0, 0, 1], [0, 1, 1]]),
        # third moments tell a mixture from the Gaussian with its moments; the score has mean zero
        (found.score(x, t), np.zeros(2)),
        (found.score(x, t)[:, :1] * centred, np.array([-1.0, 0.0])),
    ):
        z = (values.mean(axis=0) - expected) / values.std(axis=0) * math.sqrt(n)
        assert np.max(np.abs(z)) < 5


def test_draws_are_the_same_on_every_backend(backend):
    expected = marginals(MAKERS["matrix"]).sample(0.3, 50, sp.Noise(5))
    found = marginals(MAKERS["matrix"], backend)
    roots = 1e-4 if "32" in str(backend.dtype) else 1e-10
    assert_array(found.sample(0.3, 50, sp.Noise(5)), expected, backend, roots)
    assert_array(found.sample(0.3, 50, sp.Noise(5).stream(backend)), expected, backend, roots)
    normals = sp.Noise(5).stream(backend).normal(0, (50, 3))
    assert_array(found.sample(0.3, 50, normals), expected, backend, roots)
    shares = np.bincount(np.searchsorted(np.cumsum(WEIGHTS), _normal_cdf(host(normals)[:, 0])), minlength=3)
    assert shares.min() > 3  # each component is among the fifty


def _normal_cdf(z):
    return np.array([0.5 * (1 + math.erf(v / math.sqrt(2))) for v in z])


def test_the_first_column_of_the_normals_chooses_the_component():
    """With point masses the draws are the component's mean: below Φ⁻¹(.5), to Φ⁻¹(.7), above."""
    points = sp.AffineMarginals(sp.VPSDE(), WEIGHTS, MEANS, 0 * COVARIANCES)
    z = np.array([[-0.01, 9.0, 9.0], [0.01, 9.0, 9.0], [0.52, 1.0, 1.0], [0.53, 1.0, 1.0]])
    np.testing.assert_allclose(points.sample(0.0, 4, z), MEANS[[0, 1, 1, 2]], atol=1e-12)


def test_it_agrees_with_the_denoiser_of_a_mixture(precise):
    """Under an SDE with numbers α and σ both give the score; exponential steps take either."""
    sde = sp.ShiftedVPSDE(array([1.0, -2.0], precise), SCHEDULE)
    start = tuple(array(part, precise) for part in (WEIGHTS, MEANS, COVARIANCES))
    denoiser, closed = sp.GaussianMixtureDenoiser(sde, *start), sp.AffineMarginals(sde, *start)
    x = array(X, precise)
    assert_array(closed.score(x, 0.3), host(denoiser.score(x, 0.3)), precise, 1e-10)
    for c in (0.0, 1.0):
        ends = [
            sp.solve(
                sp.ReverseSDE(sde, prior, c), x, sp.uniform_grid(1.0, 0.1, 8), solver=sp.ExponentialHeun()
            )
            for prior in (denoiser, closed)
        ]
        assert_array(ends[1].states, host(ends[0].states), precise, 1e-9)


def test_a_point_has_a_density_once_noise_has_reached_all_directions():
    point = sp.AffineMarginals(MAKERS["degenerate"](NUMPY), np.ones(1), MEANS[:1], np.zeros((1, 2, 2)))
    expected = multivariate_normal(
        point.sde.transition(0.0, 0.1).map @ MEANS[0], point.sde.transition(0.0, 0.1).covariance
    )
    np.testing.assert_allclose(point.log_density(X, 0.1), expected.logpdf(X), rtol=1e-9)


def test_a_point_has_no_density_at_first(backend):
    zeros = np.zeros((1, 2, 2))
    point = sp.AffineMarginals(sp.VPSDE(), *(array(part, backend) for part in (np.ones(1), MEANS[:1], zeros)))
    with pytest.raises(ValueError, match="singular, so x_t has no density"):
        point.score(array(X, backend), 0.0)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((sp.GeometricBrownianMotion(0.1, 0.2), WEIGHTS, MEANS, COVARIANCES), TypeError, "needs an affine"),
        ((sp.VPSDE(), WEIGHTS[:2], MEANS, COVARIANCES), ValueError, "expected weights (k,), means (k, dim)"),
        ((sp.VPSDE(), WEIGHTS, MEANS[0], COVARIANCES), ValueError, "got (3,), (2,), (3, 2, 2)"),
        ((sp.VPSDE(), WEIGHTS, MEANS, COVARIANCES[0]), ValueError, "got (3,), (3, 2), (2, 2)"),
        (
            (sp.VPSDE(), WEIGHTS * np.inf, MEANS, COVARIANCES),
            ValueError,
            "weights must be positive and finite",
        ),
        ((sp.VPSDE(), WEIGHTS, MEANS * np.nan, COVARIANCES), ValueError, "the means must be finite"),
        ((sp.VPSDE(), WEIGHTS - 0.2, MEANS, COVARIANCES), ValueError, "weights must be positive"),
        ((sp.VPSDE(), WEIGHTS, MEANS, COVARIANCES + np.tri(2)), ValueError, "symmetric"),
        ((sp.VPSDE(), WEIGHTS, MEANS, np.nan * COVARIANCES), ValueError, "symmetric and finite"),
        ((sp.VPSDE(), WEIGHTS, MEANS, -COVARIANCES), ValueError, "negative eigenvalue -2"),
    ],
)
def test_bad_starts_are_refused(arguments, error, message):
    with pytest.raises(error) as caught:
        sp.AffineMarginals(*arguments)
    assert message in str(caught.value)


def test_normals_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"expected normals \(5, 3\); got \(5, 2\)"):
        marginals(MAKERS["vp"]).sample(0.1, 5, np.zeros((5, 2)))
