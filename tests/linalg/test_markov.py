"""Gauss–Markov sequences by odd–even reduction: any number of blocks, the inverse's blocks, closed forms."""

import math

import numpy as np
import pytest
from checks import array, assert_array, host, tolerance_of

from sdeppl import linalg as la


def problem(blocks, b, n, seed=0):
    """Blocks, and the matrix that they are; numbers beyond n stand alone with 1."""
    rng = np.random.default_rng(seed)
    diagonal, lower = np.zeros((blocks, b, b)), 0.4 * rng.standard_normal((blocks - 1, b, b))
    for k in range(blocks):
        part = rng.standard_normal((b, b))
        diagonal[k] = part @ part.T + (2.0 + 2 * b) * np.eye(b)
    A = np.zeros((blocks * b, blocks * b))
    for k in range(blocks):
        A[k * b : k * b + b, k * b : k * b + b] = diagonal[k]
    for k in range(blocks - 1):
        A[k * b + b : k * b + 2 * b, k * b : k * b + b] = lower[k]
        A[k * b : k * b + b, k * b + b : k * b + 2 * b] = lower[k].T
    A[n:, :], A[:, n:] = 0.0, 0.0
    A[range(n, blocks * b), range(n, blocks * b)] = 1.0
    diagonal = np.stack([A[k * b : k * b + b, k * b : k * b + b] for k in range(blocks)])
    lower = np.zeros((blocks - 1, b, b))
    for k in range(blocks - 1):
        lower[k] = A[k * b + b : k * b + 2 * b, k * b : k * b + b]
    return diagonal, lower, A[:n, :n]


@pytest.mark.parametrize("blocks", [1, 2, 3, 4, 5, 6, 7, 8, 9, 17])
@pytest.mark.parametrize(("b", "rest"), [(1, 0), (2, 0), (3, 2)], ids=["numbers", "pairs", "part of a block"])
def test_any_number_of_blocks(blocks, b, rest, backend):
    n = blocks * b - rest
    diagonal, lower, matrix = problem(blocks, b, n)
    A = la.BlockTridiagonal(array(diagonal, backend), array(lower, backend), n)
    limit, z = 200 * tolerance_of(backend), np.random.default_rng(1).standard_normal((4, n))
    assert_array(A.matvec(array(z, backend)), z @ matrix, backend, limit)
    assert_array(A.solve(array(z, backend)), z @ np.linalg.inv(matrix), backend, limit)
    assert_array(A.logdet(), np.linalg.slogdet(matrix).logabsdet, backend, limit)
    F, C = host(A.sqrt().dense()), A.inverse()
    np.testing.assert_allclose(F @ F.T, matrix, atol=limit * np.max(matrix))
    root = host(C.sqrt().dense())
    np.testing.assert_allclose(root @ root.T, np.linalg.inv(matrix), atol=limit)
    assert_array(C.diagonal(), np.diagonal(np.linalg.inv(matrix)), backend, limit)


@pytest.mark.parametrize("blocks", [1, 2, 5, 8, 11])
def test_blocks_of_the_inverse(blocks, backend):
    diagonal, lower, matrix = problem(blocks, 2, 2 * blocks, seed=3)
    A = la.BlockTridiagonal(array(diagonal, backend), array(lower, backend))
    inverse, limit = np.linalg.inv(matrix), 200 * tolerance_of(backend)
    own, following = A.inverse_blocks
    mine = np.stack([inverse[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] for k in range(blocks)])
    assert_array(own, mine, backend, limit)
    if blocks > 1:
        pairs = [inverse[2 * k + 2 : 2 * k + 4, 2 * k : 2 * k + 2] for k in range(blocks - 1)]
        assert_array(following, np.stack(pairs), backend, limit)


def test_an_autoregression_of_ten_thousand(backend):
    """x_0 ~ N(0, v/(1 - ρ²)), x_{i+1} = ρ x_i + √v ε: the precision is tridiagonal, covariances are ρ^|i-j|
    v/(1 - ρ²), and the determinant is v^n/(1 - ρ²)."""
    n, rho, v = 10_000, 0.9, 0.3
    diagonal = np.full(n, (1 + rho**2) / v)
    diagonal[[0, -1]] = 1 / v
    lower = np.full(n - 1, -rho / v)
    P = la.BlockTridiagonal(array(diagonal[:, None, None], backend), array(lower[:, None, None], backend))
    C, limit = P.inverse(), 5e4 * tolerance_of(backend)
    variance = v / (1 - rho**2)
    assert_array(C.diagonal(), np.full(n, variance), backend, limit)
    unit = np.zeros((1, n))
    unit[0, 4_000] = 1.0
    expected = variance * rho ** np.abs(np.arange(n) - 4_000.0)
    assert_array(C.matvec(array(unit, backend)), expected[None, :], backend, limit)
    np.testing.assert_allclose(
        float(host(C.logdet())), n * math.log(v) - math.log(1 - rho**2), rtol=1e3 * tolerance_of(backend)
    )


def test_data_number_by_number(backend):
    diagonal, lower, matrix = problem(5, 2, 9, seed=2)
    A = la.BlockTridiagonal(array(diagonal, backend), array(lower, backend), 9)
    weights = np.random.default_rng(4).uniform(0.0, 3.0, (3, 9))
    one, many = A.added_diagonal(array(weights[0], backend)), A.added_diagonal(array(weights, backend))
    z, limit = np.random.default_rng(5).standard_normal((3, 9)), 200 * tolerance_of(backend)
    assert_array(one.dense(), matrix + np.diag(weights[0]), backend, limit)
    solved = np.stack([np.linalg.solve(matrix + np.diag(w), row) for w, row in zip(weights, z, strict=True)])
    assert_array(many.solve(array(z, backend)), solved, backend, limit)


def test_times_of_a_batch(backend):
    """The best linear denoiser at another time in each row."""
    diagonal, lower, matrix = problem(6, 2, 11, seed=6)
    C = la.BlockTridiagonal(array(diagonal, backend), array(lower, backend), 11).inverse()
    covariance = np.linalg.inv(matrix)
    alpha, sigma = np.array([0.9, 0.3]), np.array([0.2, 1.4])
    v = np.random.default_rng(7).standard_normal((2, 11))
    gains = [
        covariance @ np.linalg.inv(a * a * covariance + s * s * np.eye(11))
        for a, s in zip(alpha, sigma, strict=True)
    ]
    expected = np.stack([a * gain @ row for a, gain, row in zip(alpha, gains, v, strict=True)])
    columns = [array(values[:, None], backend) for values in (alpha, sigma, alpha)]
    assert_array(C.gain(*columns).matvec(array(v, backend)), expected, backend, 200 * tolerance_of(backend))


def test_shapes_that_do_not_fit_are_refused(backend):
    diagonal, lower, _ = problem(3, 2, 6)
    for wrong, n in ((lower[:1], 6), (lower, 4), (lower, 7)):
        with pytest.raises(ValueError, match="expected diagonal"):
            la.BlockTridiagonal(array(diagonal, backend), array(wrong, backend), n)


@pytest.mark.parametrize(("blocks", "n"), [(1, 2), (2, 4), (3, 5), (7, 14)])
def test_what_is_seen_of_neighbouring_blocks(blocks, n, backend):
    """Every second number by itself, and sums of neighbours, with correlated noise in the sums."""
    diagonal, lower, matrix = problem(blocks, 2, n, seed=blocks)
    C = la.BlockTridiagonal(array(diagonal, backend), array(lower, backend), n).inverse()
    H = np.zeros((n - 1 + n // 2, n))
    H[range(n - 1), range(n - 1)], H[range(n - 1), range(1, n)] = 0.7, 1.3
    H[range(n - 1, len(H)), range(1, n, 2)] = 2.0
    noise = np.random.default_rng(blocks).uniform(0.1, 2.0, len(H))
    R = la.Diagonal(array(noise, backend))
    S = la.Innovations.of(la.Dense(array(H, backend)), C, R)
    expected = H @ np.linalg.inv(matrix) @ H.T + np.diag(noise)
    limit, z = 500 * tolerance_of(backend), np.random.default_rng(1).standard_normal((3, len(H)))
    assert_array(S.matvec(array(z, backend)), z @ expected, backend, limit)
    assert_array(S.solve(array(z, backend)), z @ np.linalg.inv(expected), backend, limit)
    assert_array(S.logdet(), np.linalg.slogdet(expected).logabsdet, backend, limit)


def test_what_sees_all_times_is_told_apart(backend):
    diagonal, lower, _ = problem(7, 2, 14)
    C = la.BlockTridiagonal(array(diagonal, backend), array(lower, backend)).inverse()
    H, R = la.Dense(array(np.ones((1, 14)), backend)), la.Diagonal(array(np.ones(1), backend))
    assert la.Innovations.of(H, C, R) is None
