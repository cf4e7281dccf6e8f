"""Gaussian observations and hard constraints: density, linearisation and surrogate."""

import numpy as np
import pytest
from checks import array, assert_array, covariance_matrix, host
from scipy import stats

import sdeppl as sp

DIM = 4
H = np.random.default_rng(1).standard_normal((3, DIM)) * 1.7
Y = np.array([1.0, -2.5, 0.4])
VARIANCES, FULL = np.array([0.3, 2.1, 0.07]), covariance_matrix(3, seed=2, smallest=0.1, largest=3.0)
X = np.random.default_rng(3).standard_normal((5, DIM)) * 2 - 1
KINDS = pytest.mark.parametrize("R", [VARIANCES, FULL], ids=["variances", "covariance"])
MISSING = pytest.mark.parametrize("missing", [(), (1,), (0, 1, 2)], ids=["none", "one", "all"])


def log_normal(residuals, R):
    """ln N(r; 0, R) row by row by SciPy; R (n, n), or one for each row."""
    if residuals.shape[1] == 0:
        return np.zeros(len(residuals))
    R = np.broadcast_to(R, (len(residuals), *R.shape[-2:]))
    zero = np.zeros(residuals.shape[1])
    return np.array([stats.multivariate_normal(zero, R[i]).logpdf(r) for i, r in enumerate(residuals)])


def square(R):
    return np.diag(R) if R.ndim == 1 else R


def with_missing(missing):
    y = Y.copy()
    y[list(missing)] = np.nan
    return y, np.flatnonzero(~np.isnan(y))


def curved(x):
    """A(x) = (x₀² + x₁, sin x₂, x₃) and its Jacobian."""
    value = np.stack([x[:, 0] ** 2 + x[:, 1], np.sin(x[:, 2]), x[:, 3]], axis=1)
    jacobian = np.zeros((len(x), 3, DIM))
    jacobian[:, 0, 0], jacobian[:, 0, 1] = 2 * x[:, 0], 1
    jacobian[:, 1, 2], jacobian[:, 2, 3] = np.cos(x[:, 2]), 1
    return value, jacobian


def noise_at(x, full):
    """R(x): variances (batch, 3) or covariances (batch, 3, 3)."""
    scales = np.exp(0.3 * x[:, :3])
    return scales[:, :, None] * FULL * scales[:, None, :] if full else scales**2 * VARIANCES


@KINDS
@MISSING
def test_linear_gaussian(R, missing, backend):
    y, kept = with_missing(missing)
    seen = sp.LinearGaussian(array(H, backend), array(y, backend), array(R, backend))
    assert (seen.is_linear, seen.is_gaussian, seen.has_jacobian, seen.hard) == (True, True, True, False)
    assert (seen.count, seen.dim) == (len(kept), DIM)
    R_kept = square(R)[np.ix_(kept, kept)]
    x0 = array(X, backend)
    assert_array(seen.log_prob(x0), log_normal((Y - X @ H.T)[:, kept], R_kept), backend)
    linear = seen.linearise(x0)
    assert_array(linear.predicted, X @ H[kept].T, backend)
    assert_array(linear.H, H[kept], backend)
    assert linear.R is None
    found = seen.site_approximation(linear, array(np.ones(len(kept)), backend))
    assert_array(found.y, Y[kept], backend)
    assert found.log_scale == 0.0
    v = np.random.default_rng(4).standard_normal((5, len(kept)))
    assert_array(found.noise.matvec(array(v, backend)), v @ R_kept, backend)
    plus = np.random.default_rng(5).standard_normal((5, len(kept), len(kept)))
    assert_array(found.noise.added_to(array(plus, backend)), plus + R_kept, backend)


@KINDS
@MISSING
@pytest.mark.parametrize("with_value", [False, True], ids=["function", "with value"])
def test_nonlinear_gaussian(R, missing, with_value, backend):
    y, kept = with_missing(missing)
    seen = sp.NonlinearGaussian(
        lambda x: tuple(array(a, backend) for a in curved(host(x))),
        DIM,
        array(y, backend),
        array(R, backend),
        value=(lambda x: array(curved(host(x))[0], backend)) if with_value else None,
    )
    assert (seen.is_linear, seen.is_gaussian, seen.has_jacobian) == (False, True, True)
    x0 = array(X, backend)
    value, jacobian = curved(host(x0))
    expected = log_normal((Y - value)[:, kept], square(R)[np.ix_(kept, kept)])
    assert_array(seen.log_prob(x0), expected, backend)
    linear = seen.linearise(x0)
    assert_array(linear.predicted, value[:, kept], backend)
    assert_array(linear.H, jacobian[:, kept], backend)
    assert seen.site_approximation(linear, linear.predicted).diagonal == (R.ndim == 1 or not len(kept))


@pytest.mark.parametrize("full", [False, True], ids=["variances", "covariances"])
@MISSING
@pytest.mark.parametrize("with_value", [False, True], ids=["function", "with value"])
def test_noise_that_depends_on_x0(full, missing, with_value, backend):
    y, kept = with_missing(missing)

    def function(x):
        return tuple(array(a, backend) for a in (*curved(host(x)), noise_at(host(x), full)))

    seen = sp.NonlinearGaussian(
        function,
        DIM,
        array(y, backend),
        None,
        value=(lambda x: (function(x)[0], function(x)[2])) if with_value else None,
    )
    x0 = array(X, backend)
    R = noise_at(host(x0), full)
    dense = R if full else R[:, :, None] * np.eye(3)
    dense = dense[:, kept][:, :, kept]
    assert_array(seen.log_prob(x0), log_normal((Y - curved(host(x0))[0])[:, kept], dense), backend)
    linear = seen.linearise(x0)
    found = seen.site_approximation(linear, linear.predicted)
    assert_array(found.y, Y[kept], backend)
    assert_array(found.R, dense if full and len(kept) else R[:, kept] if not full else R[:, 0, :0], backend)
    v = np.random.default_rng(4).standard_normal((5, len(kept)))
    assert_array(found.noise.matvec(array(v, backend)), np.einsum("bij,bj->bi", dense, v), backend)
    zero = array(np.zeros((5, len(kept), len(kept))), backend)
    assert_array(found.noise.added_to(zero), dense, backend)


@MISSING
def test_a_constraint_is_exact(missing, backend):
    y, kept = with_missing(missing)
    seen = sp.LinearConstraint(array(H, backend), array(y, backend))
    assert (seen.is_linear, seen.is_gaussian, seen.hard, seen.count) == (True, True, True, len(kept))
    linear = seen.linearise(array(X, backend))
    assert_array(linear.predicted, X @ H[kept].T, backend)
    found = seen.site_approximation(linear, linear.predicted)
    assert_array(found.R, np.zeros(len(kept)), backend)
    assert_array(found.y, Y[kept], backend)
    with pytest.raises(TypeError, match="without noise has no density given x_0; use LinearGaussian"):
        seen.log_prob(array(X, backend))


@pytest.mark.parametrize(
    "rows",
    [np.stack([H[0], H[1], 2 * H[0] - H[1]]), np.stack([H[0], 0 * H[0], H[1]]), H[:, :2]],
    ids=["dependent", "zero", "more rows than numbers"],
)
def test_a_constraint_whose_rows_depend_on_one_another_is_refused(rows, backend):
    with pytest.raises(ValueError, match="depend on one another; leave out the rows"):
        sp.LinearConstraint(array(rows, backend), array(Y, backend))


def test_rows_in_very_different_units_are_not_dependent(backend):
    units = np.array([[1e-8], [1.0], [1e8]])
    assert sp.LinearConstraint(array(units * H, backend), array(Y, backend)).count == 3


def test_a_missing_row_may_be_the_dependent_one(precise):
    rows = array(np.stack([H[0], H[1], H[0] + H[1]]), precise)
    assert sp.LinearConstraint(rows, array([1.0, np.nan, 2.0], precise)).count == 2


def test_without_a_jacobian_only_the_density_is_known(backend):
    seen = sp.NonlinearGaussian(
        None, DIM, array(Y, backend), array(FULL, backend), value=lambda x: array(curved(host(x))[0], backend)
    )
    assert not seen.has_jacobian
    x0 = array(X, backend)
    assert_array(seen.log_prob(x0), log_normal(Y - curved(host(x0))[0], FULL), backend)
    with pytest.raises(sp.NotDifferentiable, match="use likelihood='monte-carlo'"):
        seen.linearise(x0)
    with pytest.raises(TypeError, match="needs a function, or at least its value"):
        sp.NonlinearGaussian(None, DIM, array(Y, backend), array(FULL, backend))


def test_arrays_of_two_dtypes_are_refused():
    with pytest.raises(TypeError, match="LinearGaussian: H is float64, y float32; give them one dtype"):
        sp.LinearGaussian(H, Y.astype(np.float32), 0.5)
    with pytest.raises(TypeError, match="LinearConstraint: H is float64, y float32"):
        sp.LinearConstraint(H, Y.astype(np.float32))
    with pytest.raises(TypeError, match="expected arrays of a real floating dtype"):
        sp.LinearConstraint(np.eye(3, dtype=int), np.ones(3, dtype=int))
