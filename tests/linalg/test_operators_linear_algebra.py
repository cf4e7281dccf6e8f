"""Triangular factors of many small matrices, and gradients by differences."""

import numpy as np
import pytest
from checks import array, assert_array, covariance_matrix, host, tolerance_of

from sdeppl.backend import numerical_gradient
from sdeppl.linalg import cholesky, log_diagonal, solve_lower, solve_lower_transposed


@pytest.mark.parametrize("dim", [1, 2, 7, 24, 30])
def test_factors_of_a_batch(dim, backend):
    matrices = np.stack([covariance_matrix(dim, seed, 0.2, 3.0) for seed in range(4)])
    L = np.linalg.cholesky(matrices)
    assert_array(cholesky(array(matrices, backend)), L, backend)
    right = np.random.default_rng(0).standard_normal((4, dim, 3))
    solved = solve_lower(array(L, backend), array(right, backend))
    assert_array(solved, np.linalg.solve(L, right), backend, 10 * tolerance_of(backend))
    back = solve_lower_transposed(array(L, backend), array(right, backend))
    assert_array(back, np.linalg.solve(np.swapaxes(L, 1, 2), right), backend, 10 * tolerance_of(backend))
    once = solve_lower(array(L, backend), array(right[0], backend))
    assert_array(once, np.linalg.solve(L, right[:1]), backend, 10 * tolerance_of(backend))
    logs = np.log(np.diagonal(L, axis1=1, axis2=2)).sum(axis=1)
    assert_array(log_diagonal(array(L, backend)), logs, backend, 10 * tolerance_of(backend))


@pytest.mark.parametrize("dim", [1, 5])
def test_one_matrix_for_all(dim, backend):
    matrix = covariance_matrix(dim, 3, 0.2, 3.0)
    L = np.linalg.cholesky(matrix)
    assert_array(cholesky(array(matrix, backend)), L, backend)
    for shape in ((dim, 2), (4, dim, 2)):
        right = np.random.default_rng(1).standard_normal(shape)
        expected = np.linalg.solve(np.broadcast_to(L, (*shape[:-2], dim, dim)), right)
        assert_array(solve_lower(array(L, backend), array(right, backend)), expected, backend, 1e-4)
    back = solve_lower_transposed(array(L, backend), array(right[0], backend))
    assert_array(back, np.linalg.solve(L.T, right[0]), backend, 1e-4)


@pytest.mark.filterwarnings("error")
def test_a_matrix_that_is_not_positive_is_nan_and_leaves_the_others_alone(backend):
    good = covariance_matrix(3, 1)
    bad = good - 5 * np.eye(3)
    found = host(cholesky(array(np.stack([good, bad, good]), backend)))
    assert np.isnan(found[1]).any()
    np.testing.assert_allclose(found[[0, 2]], np.linalg.cholesky(np.stack([good, good])), rtol=1e-5)


@pytest.mark.parametrize("at_once", [1, 45, 10_000])
def test_numerical_gradient(at_once, precise):
    """∂/∂x (sin x₀ x₁ + w x₂²), w by the row that each point belongs to, in calls of a few rows or all."""
    calls, x = [], np.random.default_rng(2).standard_normal((5, 3))
    w = np.arange(1.0, 6.0)

    def function(rows, index):
        calls.append(rows.shape[0])
        a, weight = host(rows), w[host(index).astype(int)]
        return array(np.sin(a[:, 0]) * a[:, 1] + weight * a[:, 2] ** 2, precise)

    expected = np.stack([np.cos(x[:, 0]) * x[:, 1], np.sin(x[:, 0]), 2 * w * x[:, 2]], axis=1)
    assert_array(numerical_gradient(function, array(x, precise), at_once), expected, precise, 1e-9)
    assert calls == {1: [20, 20, 20], 45: [40, 20], 10_000: [60]}[at_once]
