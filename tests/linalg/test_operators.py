"""Every linear operator against the dense matrix that NumPy makes of it, with and without a leading axis."""

import json
import math

import numpy as np
import pytest
import torch
from checks import array, assert_array, covariance_matrix, host, tolerance_of
from stationary_fields import field_of, hermitian_matrices, matrix_of, split

import sdeppl
from sdeppl import linalg as la

N, OUT, BATCH = 5, 3, 4
RNG = np.random.default_rng(7)
COVARIANCES = np.stack([covariance_matrix(N, seed, 0.4, 9.0) for seed in range(BATCH)])
MATRICES = RNG.standard_normal((BATCH, OUT, N)) * [[[3.0], [0.2], [1.0]]]
SQUARES = RNG.standard_normal((BATCH, N, N)) + 3 * np.eye(N)
VARIANCES = RNG.uniform(0.2, 7.0, (BATCH, N))
FACTORS = RNG.standard_normal((BATCH, N, 2))
CORES = np.stack([covariance_matrix(2, seed, 0.3, 2.0) for seed in range(BATCH)])
NUMBERS = np.array([0.3, 2.0, 5.0, 0.7])
INDEX = np.array([4, 0, 3])
BASES = np.stack([np.linalg.qr(RNG.standard_normal((N, N)))[0] for _ in range(BATCH)])


def transposed(matrix):
    return np.swapaxes(matrix, -1, -2)


def one(values, many):
    """All of a leading axis, or the first alone."""
    return values if many else values[0]


def integers(values, backend):
    return backend.xp.asarray(values.tolist(), dtype=backend.xp.int64, device=backend.device)


def isotropic(many, backend):
    c = one(NUMBERS, many)
    return la.Isotropic(array(c, backend), N), np.multiply.outer(c, np.eye(N))


def diagonal(many, backend):
    values = one(VARIANCES, many)
    return la.Diagonal(array(values, backend)), values[..., None] * np.eye(N)


def dense(many, backend):
    matrix = one(COVARIANCES, many)
    return la.Dense(array(matrix, backend), positive=True), matrix


def general(many, backend):
    matrix = one(SQUARES, many)
    return la.Dense(array(matrix, backend)), matrix


def wide(many, backend):
    matrix = one(MATRICES, many)
    return la.Dense(array(matrix, backend)), matrix


def triangular(many, backend):
    L = np.linalg.cholesky(one(COVARIANCES, many))
    return la.Triangular(array(L, backend)), L


def spectral(many, backend):
    values, basis = one(VARIANCES, many), one(BASES, many)
    matrix = (basis * values[..., None, :]) @ transposed(basis)
    return la.Spectral(array(basis, backend), array(values, backend)), matrix


def spectral_of_one_basis(many, backend):
    values, basis = one(VARIANCES, many), BASES[0]
    return la.Spectral(array(basis, backend), array(values, backend)), (
        basis * values[..., None, :]
    ) @ basis.T


def spectral_with_a_rest(many, backend):
    values, basis = one(VARIANCES, many)[..., :2], BASES[1][:, :2]
    matrix = (basis * (values[..., None, :] - 0.9)) @ basis.T + 0.9 * np.eye(N)
    operator = la.Spectral(array(basis, backend), array(values, backend), array(np.array([0.9]), backend))
    return operator, matrix


def subspace(many, backend):
    inner, Q = one(CORES, many), BASES[3][:, :2]
    matrix = Q @ inner @ Q.T + 1.7 * (np.eye(N) - Q @ Q.T)
    return la.Subspace(array(Q, backend), la.Dense(array(inner, backend), True), 1.7), matrix


def subspace_root(many, backend):
    operator, _ = subspace(many, backend)
    Q, inner = BASES[3][:, :2], np.linalg.cholesky(one(CORES, many))
    return operator.sqrt(), Q @ inner @ Q.T + math.sqrt(1.7) * (np.eye(N) - Q @ Q.T)


def low_rank(many, backend):
    U, D, K = one(FACTORS, many), one(VARIANCES, many), one(CORES, many)
    matrix = D[..., None] * np.eye(N) + U @ np.linalg.inv(K) @ transposed(U)
    return la.LowRankUpdate(la.Diagonal(array(D, backend)), array(U, backend), array(K, backend)), matrix


def low_rank_of_one(many, backend):
    U, D = FACTORS[2], one(COVARIANCES, many)
    return la.LowRankUpdate(la.Dense(array(D, backend), True), array(U, backend)), D + U @ U.T


def selection(many, backend):
    del many
    like = array(np.zeros(1), backend)
    return la.Selection(integers(INDEX, backend), N, like), np.eye(N)[INDEX]


def total(many, backend):
    (left, A), (right, B) = spectral(many, backend), diagonal(False, backend)
    return left + right, A + B


def product(many, backend):
    (left, A), (right, B) = wide(many, backend), general(False, backend)
    return left @ right, A @ B


def squares(many, backend):
    (left, A), (right, B) = general(many, backend), triangular(many, backend)
    return left @ right, A @ B


def projected(many, backend):
    """H C Hᵀ + R, what guidance solves with."""
    H, h = wide(many, backend)
    C, c = spectral(many, backend)
    R = la.Diagonal(array(VARIANCES[0, :OUT], backend))
    return H @ C @ H.T + R, h @ c @ transposed(h) + np.diag(VARIANCES[0, :OUT])


def scaled(many, backend):
    operator, matrix = dense(many, backend)
    c = one(NUMBERS, many)
    return operator * array(c, backend) if many else 0.3 * operator, np.asarray(c)[..., None, None] * matrix


def transpose(many, backend):
    operator, matrix = triangular(many, backend)
    return operator.T, transposed(matrix)


def inverse(many, backend):
    operator, matrix = general(many, backend)
    return operator.inverse(), np.linalg.inv(matrix)


def matrix_free(many, backend):
    matrix = one(MATRICES, many)
    held = array(matrix, backend)
    shape, like = (OUT, N), array(np.zeros(1), backend)
    batch = BATCH if many else None
    return la.MatrixFree(
        lambda v: la.matvec(held, v), lambda w: la.rmatvec(held, w), shape, like, batch=batch
    ), matrix


def symmetric_matrix_free(many, backend):
    matrix = one(COVARIANCES, many)
    held = array(matrix, backend)
    like, batch = array(np.zeros(1), backend), BATCH if many else None
    return la.MatrixFree(lambda v: la.matvec(held, v), None, (N, N), like, batch=batch, several=True), matrix


def blocks(many, backend):
    (first, A), (second, B) = dense(many, backend), diagonal(False, backend)
    if many:
        B = np.broadcast_to(B, A.shape)
    zero = np.zeros_like(A)
    matrix = np.concatenate([np.concatenate([A, zero], -1), np.concatenate([zero, B], -1)], -2)
    return la.block_diagonal([first, second]), matrix


def blocks_in_places(many, backend):
    """Numbers 0, 1 and 7, 8, 9 by one part, those between by another."""
    (first, A), (second, B) = spectral(many, backend), diagonal(False, backend)
    places = [[slice(0, 2), slice(7, 10)], [slice(2, 7)]]
    order = [0, 1, 7, 8, 9, 2, 3, 4, 5, 6]
    matrix = np.zeros((*A.shape[:-2], 2 * N, 2 * N))
    matrix[..., :N, :N], matrix[..., N:, N:] = A, B
    back = np.argsort(order)
    return la.DiagonalisableBlocks([first, second], places), matrix[..., back, :][..., back]


def of_a_field(name, many, backend):
    """The same eigenvectors for all, variances that differ."""
    field = field_of(name)
    spectrum, vectors = hermitian_matrices(field, 4)
    spectrum = np.multiply.outer(NUMBERS, spectrum) if many else spectrum
    held = None if vectors is None else array(split(vectors), backend)
    return la.Stationary(field, array(spectrum, backend), held), matrix_of(field, spectrum, vectors)


def stationary(many, backend):
    return of_a_field("cylinder of 3 x 4", many, backend)


def stationary_channels(many, backend):
    return of_a_field("two channels on a ring of 4", many, backend)


def block_tridiagonal(many, backend):
    """Three blocks of two numbers, of which the last has one."""
    A = np.stack([covariance_matrix(2 * 3, seed, 1.0, 6.0) for seed in range(BATCH)])
    A[:, :2, 4:] = A[:, 4:, :2] = 0.0
    A = one(A + 3 * np.eye(6), many)
    A[..., 5, :5] = A[..., :5, 5] = 0.0
    A[..., 5, 5] = 1.0
    diagonal = np.stack([A[..., 2 * k : 2 * k + 2, 2 * k : 2 * k + 2] for k in range(3)], axis=-3)
    lower = np.stack([A[..., 2 * k + 2 : 2 * k + 4, 2 * k : 2 * k + 2] for k in range(2)], axis=-3)
    return la.BlockTridiagonal(array(diagonal, backend), array(lower, backend), N), A[..., :N, :N]


def gauss_markov(many, backend):
    precision, matrix = block_tridiagonal(many, backend)
    return precision.inverse(), np.linalg.inv(matrix)


def blocks_of_any(many, backend):
    (first, A), (second, B) = gauss_markov(many, backend), dense(False, backend)
    zero = np.zeros((*A.shape[:-2], N, N))
    B = np.broadcast_to(B, A.shape)
    matrix = np.concatenate([np.concatenate([A, zero], -1), np.concatenate([zero, B], -1)], -2)
    return la.Blocks([first, second]), matrix


def stack(many, backend):
    (first, A), (second, B) = wide(many, backend), selection(False, backend)
    B = np.broadcast_to(B, (BATCH, *B.shape)) if many else B
    return la.stacked([first, second]), np.concatenate([A, B], -2)


POSITIVE = [
    isotropic, diagonal, dense, spectral, spectral_of_one_basis, spectral_with_a_rest, subspace, low_rank,
    low_rank_of_one, total, projected, scaled, symmetric_matrix_free, blocks, blocks_in_places, stationary,
    stationary_channels, block_tridiagonal, gauss_markov, blocks_of_any,
]  # fmt: skip
SQUARE = [subspace_root, general, triangular, transpose, inverse, squares]
ALL = [*POSITIVE, *SQUARE, wide, selection, product, matrix_free, stack]
every = pytest.mark.parametrize("kind", ALL, ids=lambda make: make.__name__)
positive = pytest.mark.parametrize("kind", POSITIVE, ids=lambda make: make.__name__)
square = pytest.mark.parametrize("kind", POSITIVE + SQUARE, ids=lambda make: make.__name__)
axes = pytest.mark.parametrize("many", [False, True], ids=["shared", "leading axis"])


def rows_of(size, seed, several=False):
    shape = (2, BATCH, size) if several else (BATCH, size)
    return np.random.default_rng(seed).standard_normal(shape)


def times(matrix, rows):
    return (matrix @ rows[..., None])[..., 0]


@every
@axes
def test_products_with_rows_and_with_columns(kind, many, backend):
    operator, matrix = kind(many, backend)
    limit = 20 * tolerance_of(backend)
    assert operator.shape == matrix.shape[-2:] and operator.shared == (matrix.ndim == 2)
    v, w = rows_of(matrix.shape[1 if matrix.ndim == 2 else 2], 1), rows_of(matrix.shape[-2], 2)
    assert_array(operator.matvec(array(v, backend)), times(matrix, v), backend, limit)
    assert_array(operator @ array(v, backend), times(matrix, v), backend, limit)
    assert_array(operator.rmatvec(array(w, backend)), times(transposed(matrix), w), backend, limit)
    assert_array(operator.T.matvec(array(w, backend)), times(transposed(matrix), w), backend, limit)
    assert_array(operator.T.rmatvec(array(v, backend)), times(matrix, v), backend, limit)
    several = rows_of(v.shape[-1], 3, several=True)
    assert_array(operator.matvec(array(several, backend)), times(matrix, several), backend, limit)
    columns = np.random.default_rng(4).standard_normal((BATCH, v.shape[-1], 2))
    assert_array(operator.matmat(array(columns, backend)), matrix @ columns, backend, limit)
    assert_array(operator.matmat(array(columns[0], backend)), matrix @ columns[0], backend, limit)
    assert_array(operator.dense(), matrix, backend, limit)
    assert_array(operator.T.dense(), transposed(matrix), backend, limit)
    assert_array(operator.diagonal(), np.diagonal(matrix, axis1=-2, axis2=-1), backend, limit)


@square
@axes
def test_equations_and_determinants(kind, many, backend):
    operator, matrix = kind(many, backend)
    n, limit = matrix.shape[-1], 200 * tolerance_of(backend)
    b = rows_of(n, 5)
    exact, back = times(np.linalg.inv(matrix), b), times(np.linalg.inv(transposed(matrix)), b)
    assert_array(operator.solve(array(b, backend)), exact, backend, limit)
    assert_array(operator.rsolve(array(b, backend)), back, backend, limit)
    assert_array(operator.T.solve(array(b, backend)), back, backend, limit)
    assert_array(operator.inverse().matvec(array(b, backend)), exact, backend, limit)
    several = rows_of(n, 6, several=True)
    assert_array(
        operator.solve(array(several, backend)), times(np.linalg.inv(matrix), several), backend, limit
    )
    columns = np.random.default_rng(4).standard_normal((BATCH, n, 2))
    solved = np.linalg.inv(matrix) @ columns
    assert_array(operator.solve_columns(array(columns, backend)), solved, backend, limit)
    assert_array(operator.logdet(), np.linalg.slogdet(matrix).logabsdet, backend, limit)


@positive
@axes
def test_roots_densities_and_parts_of_covariances(kind, many, backend):
    operator, matrix = kind(many, backend)
    n, limit = matrix.shape[-1], 200 * tolerance_of(backend)
    root = host(operator.sqrt().dense())
    np.testing.assert_allclose(root @ transposed(root), matrix, atol=limit * np.max(np.abs(matrix)))
    z = rows_of(n, 7)
    squares = np.sum(z * times(np.linalg.inv(matrix), z), axis=-1)
    log_density = -0.5 * (squares + np.linalg.slogdet(matrix).logabsdet + n * math.log(2 * math.pi))
    assert_array(operator.log_normal(array(z, backend)), log_density, backend, limit)
    assert_array(operator.shifted(0.7).dense(), matrix + 0.7 * np.eye(n), backend, limit)
    assert_array(operator.added_to(array(np.ones((n, n)), backend)), 1 + matrix, backend, limit)
    kept = [2, 0]
    index = integers(np.array(kept), backend)
    assert_array(operator.block(index).dense(), matrix[..., kept, :][..., kept], backend, limit)
    assert_array(operator.rows(index).dense(), matrix[..., kept, :], backend, limit)


@every
def test_rows_of_the_leading_axis(kind, backend):
    operator, matrix = kind(True, backend)
    index = [3, 0, 0, 2, 1]
    if kind in (matrix_free, symmetric_matrix_free):
        with pytest.raises(TypeError, match="make it for the rows chosen"):
            operator.take(integers(np.array(index), backend))
        return
    chosen = operator.take(integers(np.array(index), backend))
    expected = matrix[index] if matrix.ndim == 3 else matrix
    assert_array(chosen.dense(), expected, backend, 20 * tolerance_of(backend))
    v = rows_of(matrix.shape[-1], 8)[[0, 1, 2, 3, 0]]
    assert_array(chosen.matvec(array(v, backend)), times(expected, v), backend, 20 * tolerance_of(backend))
    alone, _ = kind(False, backend)
    if kind is not selection:
        assert alone.take(integers(np.array(index), backend)) is alone


@pytest.mark.parametrize(
    "kind",
    [isotropic, diagonal, spectral, spectral_with_a_rest, blocks_in_places, stationary, stationary_channels],
    ids=lambda f: f.__name__,
)
@axes
def test_functions_of_the_eigenvalues(kind, many, backend):
    operator, matrix = kind(many, backend)
    values, basis = np.linalg.eigh(matrix)
    expected = (basis * (values / (2.0 * values + 0.5))[..., None, :]) @ transposed(basis)
    found = operator.map(lambda numbers: numbers / (2.0 * numbers + 0.5))
    if kind is not spectral_with_a_rest:
        v = rows_of(matrix.shape[-1], 3)
        by_hand = operator.outside(operator.eigenvalues * operator.inside(array(v, backend)))
        assert_array(by_hand, times(matrix, v), backend, 20 * tolerance_of(backend))
    root = host(operator.sqrt().dense())
    np.testing.assert_allclose(root, transposed(root), atol=20 * tolerance_of(backend))
    assert_array(found.dense(), expected, backend, 20 * tolerance_of(backend))


@positive
@axes
def test_what_the_best_linear_denoiser_asks(kind, many, backend):
    """factor · A (α² A + σ² I)⁻¹, at α = .6, σ = 1.3, factor .7."""
    operator, matrix = kind(many, backend)
    n = matrix.shape[-1]
    expected = 0.7 * matrix @ np.linalg.inv(0.36 * matrix + 1.69 * np.eye(n))
    v = rows_of(n, 9)
    found = operator.gain(0.6, 1.3, 0.7).matvec(array(v, backend))
    assert_array(found, times(expected, v), backend, 200 * tolerance_of(backend))


@axes
def test_a_singular_matrix_of_few_directions(many, backend):
    """Its inverse is the pseudo-inverse, and a multiple of I more makes it regular."""
    values, basis = one(VARIANCES, many)[..., :2], BASES[1][:, :2]
    matrix = (basis * values[..., None, :]) @ basis.T
    operator, limit = la.Spectral(array(basis, backend), array(values, backend)), 20 * tolerance_of(backend)
    b = rows_of(N, 4)
    assert_array(operator.solve(array(b, backend)), times(np.linalg.pinv(matrix), b), backend, limit)
    shifted = operator.shifted(0.7)
    assert_array(
        shifted.solve(array(b, backend)), times(np.linalg.inv(matrix + 0.7 * np.eye(N)), b), backend, limit
    )
    assert_array(operator.formed().dense(), matrix, backend, limit)
    many_rows = np.random.default_rng(1).standard_normal((50, N))
    if not many:  # so many that the matrix is multiplied out first
        whole = la.Spectral(array(BASES[2], backend), array(VARIANCES[0], backend))
        expected = many_rows @ (BASES[2] * VARIANCES[0]) @ BASES[2].T
        assert_array(whole.matvec(array(many_rows, backend)), expected, backend, limit)


@every
def test_one_matrix_of_the_leading_axis_serves_all_rows(kind, backend):
    operator, matrix = kind(True, backend)
    if operator.shared or kind in (matrix_free, symmetric_matrix_free):
        return
    alone = operator.take(2)
    assert alone.shared
    assert_array(alone.dense(), matrix[2], backend, 20 * tolerance_of(backend))


def test_most_equal_eigenvalues_leave_few_columns(backend):
    """A multiple of I but for one direction; where one variance is next to nothing, all columns stay."""
    basis = BASES[0]
    for values, columns in (
        (np.array([2.0, 2.0, 2.0, 2.0, 5.0]), 1),
        (np.array([1e-9, 2.0, 2.0, 2.0, 2.0]), N),
    ):
        operator = la.Spectral.of(array(values, backend), array(basis, backend))
        assert operator.U.shape[1] == columns
        assert_array(operator.dense(), (basis * values) @ basis.T, backend, 20 * tolerance_of(backend))


@pytest.mark.parametrize("selector", ["numpy", "torch"])
@axes
def test_equations_without_a_matrix_go_by_iteration(many, selector):
    """Above 512 numbers; near: the same covariance but for its low rank, with which few iterations do."""
    precise, n, rng = sdeppl.resolve(selector), 600, np.random.default_rng(11)
    D, U = rng.uniform(0.01, 30.0, n), rng.standard_normal((n, 2))
    matrix, counted = np.diag(D) + U @ U.T, []
    held = array(matrix, precise)

    def forward(v):
        counted.append(1)
        return v @ held

    b = rng.standard_normal((BATCH, n))
    exact = b @ np.linalg.inv(matrix)
    like, batch = array(np.zeros(1), precise), BATCH if many else None
    plain = la.MatrixFree(forward, None, (n, n), like, batch=batch)
    assert_array(plain.solve(array(b, precise)), exact, precise, 1e-5)
    without, counted[:] = len(counted), []
    near = la.Diagonal(array(D, precise))
    helped = la.MatrixFree(forward, None, (n, n), like, batch=batch, near=near)
    assert_array(helped.solve(array(b, precise)), exact, precise, 1e-5)
    assert len(counted) <= 5 and without > 50


def test_what_is_near_a_product_and_a_sum(precise):
    C, c = dense(False, precise)
    like = array(np.zeros(1), precise)
    learned = la.MatrixFree(lambda v: 1.01 * C.matvec(v), None, (N, N), like, may_be_indefinite=True, near=C)
    H, h = wide(False, precise)
    S = 2.0 * (H @ learned @ H.T) + la.Diagonal(array(VARIANCES[0, :OUT], precise))
    assert S.may_be_indefinite
    assert_array(S.near.dense(), 2 * h @ c @ h.T + np.diag(VARIANCES[0, :OUT]), precise)


def test_a_matrix_too_large_to_write_out_says_so_and_what_to_do(backend):
    like = array(np.zeros(1), backend)
    large = la.MatrixFree(lambda v: v, None, (10_000, 10_000), like)
    for ask in (large.dense, large.diagonal, large.sqrt, large.logdet):
        with pytest.raises(ValueError, match=r"10000 x 10000 numbers.*67108864.*matvec.*matrix-free"):
            ask()


def test_what_does_not_fit_says_so(backend):
    three = la.Diagonal(array(np.ones((3, N)), backend))
    with pytest.raises(ValueError, match="leading axes of 3 and 4 matrices"):
        three + diagonal(True, backend)[0]
    with pytest.raises(ValueError, match="as many columns"):
        wide(False, backend)[0] @ wide(False, backend)[0]
    with pytest.raises(ValueError, match="one shape"):
        wide(False, backend)[0] + three


def test_a_row_that_is_not_positive_definite_is_nan_alone(backend):
    matrices = np.stack([COVARIANCES[0], -COVARIANCES[1]])
    found = host(la.Dense(array(matrices, backend), True).log_normal(array(rows_of(N, 1)[:2], backend)))
    assert np.isfinite(found[0]) and np.isnan(found[1])


@positive
@axes
def test_torch_differentiates_through_equations_and_determinants(kind, many):
    """∂/∂b of ½ bᵀ A⁻¹ b is A⁻¹ b, and ∂/∂c of ln det(A + c I) is tr (A + c I)⁻¹."""
    backend = sdeppl.resolve("torch", "float64")
    operator, matrix = kind(many, backend)
    b = torch.tensor(rows_of(matrix.shape[-1], 9), requires_grad=True)
    (0.5 * torch.sum(b * operator.solve(b))).backward()
    exact = times(np.linalg.inv(matrix), b.detach().numpy())
    np.testing.assert_allclose(b.grad.numpy(), exact, rtol=1e-8, atol=1e-9)
    c = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    torch.sum(operator.shifted(c).logdet()).backward()
    inverses = np.linalg.inv(matrix + 0.7 * np.eye(matrix.shape[-1]))
    np.testing.assert_allclose(c.grad.item(), np.sum(np.trace(inverses, axis1=-2, axis2=-1)), rtol=1e-8)


SAVED = [
    isotropic, diagonal, dense, triangular, spectral, spectral_with_a_rest, low_rank, blocks_in_places,
    stationary_channels, block_tridiagonal, gauss_markov, blocks_of_any,
]  # fmt: skip


@pytest.mark.parametrize("kind", SAVED, ids=lambda make: make.__name__)
@axes
def test_taken_apart_and_put_together_it_is_the_same(kind, many, backend):
    operator, matrix = kind(many, backend)
    arrays, content = la.operator_to_dict(operator, "C")
    again = la.operator_from_dict(arrays, json.loads(json.dumps(content)), "C")
    assert type(again) is type(operator)
    assert_array(again.dense(), matrix, backend, 200 * tolerance_of(backend))
    assert_array(la.placed(operator, backend).dense(), matrix, backend, 200 * tolerance_of(backend))


def test_an_observation_operator_arrives_on_another_backend(backend):
    here = sdeppl.resolve("numpy")
    scale = la.Diagonal(array(np.arange(2.0, 2.0 + N), here))
    there = la.placed(la.Selection(integers(INDEX, here), N, scale.values) @ scale, backend)
    expected = np.diag(np.arange(2.0, 2.0 + N))[INDEX]
    assert_array(there.dense(), expected, backend, 20 * tolerance_of(backend))


def test_what_is_known_by_functions_is_not_saved(backend):
    with pytest.raises(TypeError, match="known by functions"):
        la.operator_to_dict(matrix_free(False, backend)[0])


def test_blocks_that_do_not_fill_their_places_are_refused(backend):
    (first, _), (second, _) = spectral(False, backend), diagonal(False, backend)
    for places in ([[slice(0, 5)], [slice(4, 9)]], [[slice(0, 6)], [slice(6, 10)]]):
        with pytest.raises(ValueError, match="do not fill"):
            la.DiagonalisableBlocks([first, second], places)
