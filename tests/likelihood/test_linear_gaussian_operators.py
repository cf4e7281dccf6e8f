"""Operators in place of arrays, and the former names of what became operators."""

import numpy as np
import pytest
from checks import array, assert_array, covariance_matrix, host, tolerance_of

import sdeppl as sp
from sdeppl import linalg as la
from sdeppl.denoisers import tweedie_covariance

DIM, N, SDE = 6, 4, sp.VPSDE()
INDEX = [5, 0, 3, 2]
X = 1.5 * np.random.default_rng(0).standard_normal((3, DIM)) + 0.4
Y = np.array([0.7, -1.3, 2.1, 0.2])
A = np.random.default_rng(1).standard_normal((N, DIM))
VARIANCES, COVARIANCE = np.array([0.3, 2.0, 0.7, 1.1]), covariance_matrix(N, 3, 0.2, 3.0)
PRIOR, MEAN = covariance_matrix(DIM, 4, 0.4, 5.0), np.linspace(-1.0, 2.0, DIM)


def operators(kind, backend):
    """H and R as operators and as NumPy's arrays."""
    xp, like = backend.xp, array(np.zeros(1), backend)
    index = xp.asarray(INDEX, dtype=xp.int64, device=backend.device)
    if kind == "selection, isotropic":
        return (
            la.Selection(index, DIM, like),
            np.eye(DIM)[INDEX],
            la.scaled_identity(0.6, N, like),
            0.6 * np.eye(N),
        )
    held = array(A, backend)
    if kind == "products, diagonal":
        H = la.MatrixFree(lambda v: v @ held.T, lambda w: w @ held, (N, DIM), like)
        return H, A, la.Diagonal(array(VARIANCES, backend)), np.diag(VARIANCES)
    U = array(A[:, :1], backend)
    R = la.LowRankUpdate(la.Diagonal(array(VARIANCES, backend)), U)
    scaled = la.Dense(held) * 2.0
    return scaled, 2 * A, R, np.diag(VARIANCES) + A[:, :1] @ A[:, :1].T


KINDS = pytest.mark.parametrize("kind", ["selection, isotropic", "products, diagonal", "dense, low rank"])


@KINDS
@pytest.mark.parametrize("missing", [False, True])
def test_an_observation_of_operators_is_that_of_their_matrices(kind, missing, backend):
    H, h, R, r = operators(kind, backend)
    y = np.where(np.arange(N) == 1, np.nan, Y) if missing else Y
    seen = sp.LinearGaussian(H, array(y, backend), R)
    same = sp.LinearGaussian(array(h, backend), array(y, backend), array(r, backend))
    x, limit = array(X, backend), 100 * tolerance_of(backend)
    assert (seen.count, seen.dim) == (same.count, DIM) == (N - missing, DIM)
    assert_array(seen.log_prob(x), host(same.log_prob(x)), backend, limit)
    assert_array(seen.log_prob_gradient(x), host(same.log_prob_gradient(x)), backend, limit)
    assert_array(seen.linearise(x).predicted, host(same.linearise(x).predicted), backend, limit)
    kept = [k for k in range(N) if not (missing and k == 1)]
    assert_array(seen.H, h[kept], backend, limit)
    assert_array(seen.noise.dense(), r[np.ix_(kept, kept)], backend, limit)
    prior = sp.GaussianDenoiser(SDE, array(MEAN, backend), array(PRIOR, backend))
    exact, expected = sp.exact_posterior(prior, seen), sp.exact_posterior(prior, same)
    assert float(exact.log_evidence) == pytest.approx(float(expected.log_evidence), rel=limit)
    assert_array(exact.denoiser.mean(x, 0.4), host(expected.denoiser.mean(x, 0.4)), backend, limit)
    for method in ("dense", "matrix-free"):
        rung, other = (sp.TweedieDenoiser(prior, one, method, tolerance=1e-9) for one in (seen, same))
        if method == "dense" or "64" in str(backend.dtype):
            assert_array(rung.mean(x, 0.3), host(other.mean(x, 0.3)), backend, limit)


@pytest.mark.parametrize("kind", ["isotropic", "diagonal"])
def test_a_prior_of_an_operator_is_that_of_its_matrix(kind, backend):
    variances = np.linspace(0.2, 3.0, DIM) if kind == "diagonal" else np.full(DIM, 0.7)
    like = array(np.zeros(1), backend)
    C = la.Diagonal(array(variances, backend)) if kind == "diagonal" else la.scaled_identity(0.7, DIM, like)
    prior = sp.GaussianDenoiser(SDE, array(MEAN, backend), C)
    same = sp.GaussianDenoiser(SDE, array(MEAN, backend), array(np.diag(variances), backend))
    x, limit = array(X, backend), 100 * tolerance_of(backend)
    for t in (0.02, 0.6):
        moments, expected = prior(x, t), same(x, t)
        assert moments.covariance.is_diagonal
        assert_array(moments.mean, host(expected.mean), backend, limit)
        assert_array(prior.mean(x, t), host(expected.mean), backend, limit)
        assert_array(moments.covariance.dense(), host(expected.covariance.dense()), backend, limit)
        assert_array(prior.log_density(x, t), host(same.log_density(x, t)), backend, limit)
    assert_array(prior.log_prob(x), host(same.log_prob(x)), backend, limit)
    seen = sp.LinearGaussian(array(A, backend), array(Y, backend), 0.5)
    found, expected = (sp.exact_posterior(one, seen).denoiser.mean(x, 0.3) for one in (prior, same))
    assert_array(found, host(expected), backend, limit)


def test_operators_that_do_not_fit_are_refused(backend):
    H, _, R, _ = operators("products, diagonal", backend)
    with pytest.raises(ValueError, match=r"R of shape \(3,\) or \(3, 3\)"):
        sp.LinearGaussian(array(A[:3], backend), array(Y[:3], backend), R)
    with pytest.raises(ValueError, match=r"got \(4, 6\) and \(3,\)"):
        sp.LinearGaussian(H, array(Y[:3], backend), 1.0)
    with pytest.raises(ValueError, match="one for all rows"):
        sp.LinearGaussian(la.Dense(array(A[None, ...], backend)), array(Y, backend), 1.0)
    with pytest.raises(ValueError, match="smallest eigenvalue is -"):
        sp.LinearGaussian(H, array(Y, backend), la.Diagonal(array(-VARIANCES, backend)))


def test_former_names_work_and_say_what_they_are_called_now():
    numpy = sp.resolve("numpy")
    C, v = array(PRIOR, numpy), array(X, numpy)
    with pytest.warns(DeprecationWarning, match=r"MatrixCovariance is called sdeppl\.linalg\.Dense"):
        matrix = sp.denoisers.MatrixCovariance(C)
    with pytest.warns(DeprecationWarning, match="tweedie_covariance"):
        pulled = sp.denoisers.PullbackCovariance(1.0, lambda w: w @ C, v)
    assert type(pulled) is type(tweedie_covariance(1.0, lambda w: w @ C, v))
    with pytest.warns(DeprecationWarning, match="product is called matvec"):
        np.testing.assert_allclose(matrix.product(v), X @ PRIOR)
    with pytest.warns(DeprecationWarning, match="columns is called matmat"):
        np.testing.assert_allclose(pulled.columns(C)[0], PRIOR @ PRIOR)
    seen = sp.LinearGaussian(array(A, numpy), array(Y, numpy), array(COVARIANCE, numpy))
    linear = seen.linearise(v)
    site = seen.site_approximation(linear, v[:, :N])
    for found, expected, name in (
        (lambda: linear.forward(v), X @ A.T, "forward"),
        (lambda: linear.adjoint(v[:, :N]), X[:, :N] @ A, "adjoint"),
        (lambda: site.add_noise(0 * C[:N, :N]), COVARIANCE, "add_noise"),
        (lambda: site.noise_product(v[:, :N]), X[:, :N] @ COVARIANCE, "noise_product"),
    ):
        with pytest.warns(DeprecationWarning, match=name):
            np.testing.assert_allclose(found(), expected)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = sp.denoisers.Nothing


def test_a_subclass_that_overrides_a_former_name_is_refused():
    """Nothing would call it: its numbers would be the parent's, without a word."""
    for parent, former, now in (
        (sp.TweedieDenoiser, "guide", "guided"),
        (sp.TweedieDenoiser, "_guide", "_guided"),
        (sp.ItoSDE, "spread", "diffusion_product"),
    ):
        with pytest.raises(TypeError, match=f"Own overrides {former}, which is called {now} now"):
            type("Own", (parent,), {former: lambda self, *arguments: None})
        type("Own", (parent,), {now: lambda self, *arguments: None})
