"""The Gaussian denoiser against conditioning of the joint Gaussian of (x_0, x_t)."""

import numpy as np
import pytest
import scipy.stats
from checks import array, assert_array, covariance_matrix, host

import sdeppl as sp

MEAN, COVARIANCE = np.array([3.0, -1.0, 0.5, 12.0]), covariance_matrix(4, seed=5, smallest=0.05, largest=7.0)
X = np.random.default_rng(0).standard_normal((6, 4)) * 2 + 1
SDES = [sp.VPSDE(), sp.VESDE(), sp.LinearSDE(a=0.8, b=1.5)]
TIMES = (1e-5, 0.02, 0.4, 1.0)
EACH_CASE = pytest.mark.parametrize(("sde", "t"), [(sde, t) for sde in SDES for t in TIMES])


def conditioned(sde, t, mean=MEAN, covariance=COVARIANCE, x=X):
    """Moments of x_0 given x_t: m + α C V⁻¹ (x - α m) and C - α² C V⁻¹ C with V = α² C + σ² I."""
    alpha, sigma = sde.alpha(t), sde.sigma(t)
    V = alpha**2 * covariance + sigma**2 * np.eye(len(mean))
    gain = np.linalg.solve(V, alpha * covariance).T
    return mean + (x - alpha * mean) @ gain.T, covariance - alpha * gain @ covariance


def denoiser_on(backend, sde, mean=MEAN, covariance=COVARIANCE):
    return sp.GaussianDenoiser(sde, array(mean, backend), array(covariance, backend))


@EACH_CASE
def test_moments_are_those_of_the_joint_gaussian(sde, t, backend):
    prior, x = denoiser_on(backend, sde), array(X, backend)
    mean, _ = conditioned(sde, t)  # its covariance is a difference, which loses its digits for small t
    covariance = np.linalg.inv(np.linalg.inv(COVARIANCE) + (sde.alpha(t) / sde.sigma(t)) ** 2 * np.eye(4))
    moments = prior(x, t)
    assert_array(moments.mean, mean, backend)
    assert_array(prior.mean(x, t), mean, backend)
    assert_array(prior.mean(x[:3, ...], t), mean[:3], backend)  # fewer rows than numbers: another product
    dense = moments.covariance.dense()
    assert moments.covariance.shared and moments.covariance.materialised
    assert_array(dense, covariance, backend)
    v = np.random.default_rng(1).standard_normal(X.shape)
    assert_array(moments.covariance @ array(v, backend), v @ host(dense), backend)


def test_log_prob_is_that_of_x0(backend):
    expected = scipy.stats.multivariate_normal(MEAN, COVARIANCE).logpdf(X)
    assert_array(denoiser_on(backend, SDES[0]).log_prob(array(X, backend)), expected, backend)


@EACH_CASE
def test_score_and_eps_are_tweedies(sde, t, precise):
    """score = -V⁻¹ (x - α m), the gradient of ln N(x; α m, V); eps = -σ score."""
    alpha, sigma = sde.alpha(t), sde.sigma(t)
    V = alpha**2 * COVARIANCE + sigma**2 * np.eye(4)
    score = -np.linalg.solve(V, (X - alpha * MEAN).T).T
    prior, x = denoiser_on(precise, sde), array(X, precise)
    tolerance = 1e-9 * max(1.0, 1e-6 / sigma**2)  # the difference α E[x_0] - x is divided by σ²
    assert_array(prior.score(x, t), score, precise, tolerance)
    assert_array(prior.eps(x, t), -sigma * score, precise, tolerance)


@EACH_CASE
def test_covariance_is_the_slope_of_the_mean(sde, t, precise):
    """Cov[x_0 | x_t] = σ²/α ∂E[x_0 | x_t]/∂x_t, by central differences (exact for an affine mean)."""
    prior = denoiser_on(precise, sde)
    h = 0.1
    ends = [host(prior.mean(array(d * np.eye(4), precise), t)) for d in (-h, h)]
    jacobian = (ends[1] - ends[0]).T / (2 * h)
    scale = sde.sigma(t) ** 2 / sde.alpha(t)
    assert_array(prior(array(X, precise), t).covariance.dense(), scale * jacobian, precise, 1e-9)


def test_a_direction_without_variance_stays_at_its_mean(backend):
    """Rank 2 of 4: moments as for the full formula, and nothing along the null directions."""
    factor = np.random.default_rng(2).standard_normal((4, 2))
    degenerate = factor @ factor.T
    sde, t = sp.VPSDE(), 0.3
    prior, x = denoiser_on(backend, sde, covariance=degenerate), array(X, backend)
    mean, covariance = conditioned(sde, t, covariance=degenerate)
    assert_array(prior.mean(x, t), mean, backend)
    assert_array(prior(x, t).mean, mean, backend)
    assert_array(prior(x, t).covariance.dense(), covariance, backend)
    if "64" in str(backend.dtype):
        assert tuple(prior.basis.shape) == (4, 2)


def test_a_point_is_always_returned(backend):
    prior = denoiser_on(backend, sp.VESDE(), covariance=np.zeros((4, 4)))
    assert_array(prior.mean(array(X, backend), 0.5), np.broadcast_to(MEAN, X.shape), backend)
    assert_array(prior(array(X, backend), 0.5).covariance.dense(), np.zeros((4, 4)), backend)


def test_times_may_be_arrays(backend):
    """In training each row has its own time, (batch, 1)."""
    sde = sp.VPSDE()
    prior, x = denoiser_on(backend, sde), array(X, backend)
    times = np.array([0.05, 0.2, 0.4, 0.6, 0.8, 1.0])
    column = array(times[:, None], backend)
    exact = [float(t) for t in host(column)[:, 0]]
    rows = [conditioned(sde, t, x=X[i : i + 1])[0][0] for i, t in enumerate(exact)]
    assert_array(prior.mean(x, column), np.stack(rows), backend)
    white = np.stack([host(prior.whiten(x[i : i + 1, :], t))[0] for i, t in enumerate(exact)])
    assert_array(prior.whiten(x, column), white, backend)
    scales = np.stack([host(prior.posterior_scale(t)) for t in exact])
    assert_array(prior.posterior_scale(column), scales, backend)


def test_whitened_states_have_unit_variance_and_scales_are_conditional_ones():
    """By algebra: Wᵀ V W = I for x ↦ (x - α m) W, and the scales² are the covariance's eigenvalues."""
    sde, t, numpy = sp.LinearSDE(0.5, 1.1), 0.6, sp.resolve("numpy")
    prior = denoiser_on(numpy, sde)
    alpha = sde.alpha(t)
    white = prior.whiten(alpha * MEAN + np.eye(4), t)
    V = alpha**2 * COVARIANCE + sde.sigma(t) ** 2 * np.eye(4)
    np.testing.assert_allclose(white.T @ V @ white, np.eye(4), atol=1e-12)
    variances = np.linalg.eigvalsh(conditioned(sde, t)[1])
    np.testing.assert_allclose(np.sort(prior.posterior_scale(t) ** 2), variances, rtol=1e-9)


def test_an_eigenbasis_makes_the_same_denoiser(backend):
    prior = denoiser_on(backend, sp.VPSDE())
    again = sp.GaussianDenoiser.from_eigenbasis(prior.sde, prior.location, prior.basis, prior.eigenvalues)
    assert (again.dim, again.backend) == (4, backend)
    x = array(X, backend)
    assert_array(again.mean(x, 0.3), host(prior.mean(x, 0.3)), backend, tolerance=0.0)


@pytest.mark.parametrize(
    ("mean", "covariance", "message"),
    [
        (
            np.zeros(2),
            np.eye(3),
            r"expected mean \(dim,\) and covariance \(dim, dim\); got \(2,\) and \(3, 3\)",
        ),
        (np.zeros((1, 2)), np.eye(2), r"got \(1, 2\) and \(2, 2\)"),
        (np.array(0.0), np.eye(1), r"got \(\) and \(1, 1\)"),
        (np.zeros(2), np.array([[1.0, 0.5], [0.4, 1.0]]), "the covariance is not symmetric, or not finite"),
        (np.zeros(2), np.array([[1.0, np.nan], [np.nan, 1.0]]), "not finite"),
        (np.zeros(2), np.array([[1.0, 2.0], [2.0, 1.0]]), "has the negative eigenvalue -1"),
    ],
)
def test_bad_moments_are_refused(mean, covariance, message):
    with pytest.raises(ValueError, match=message):
        sp.GaussianDenoiser(sp.VPSDE(), mean, covariance)


def test_moments_of_two_libraries_are_refused():
    with pytest.raises(sp.BackendMismatch, match="covariance is of torch on cpu, expected numpy on cpu"):
        sp.GaussianDenoiser(sp.VPSDE(), np.zeros(2), array(np.eye(2), sp.resolve("torch")))


def test_whole_numbers_are_refused():
    """Draws would be cut to integers."""
    zeros = np.zeros(2, dtype=np.int64)
    with pytest.raises(TypeError, match="a real floating dtype; got numpy on cpu in int64"):
        sp.GaussianDenoiser(sp.VPSDE(), zeros, np.eye(2))
    with pytest.raises(TypeError, match="expected arrays of a real floating dtype"):
        sp.GaussianMixtureDenoiser(sp.VPSDE(), np.ones(1), zeros[None], np.eye(2)[None])
