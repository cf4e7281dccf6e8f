"""Linear maps of rows: what each can do, what is made of several, and the structures that know more."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

from array_api_compat import device, is_array_api_obj

from ..backend import Array, array_namespace, backend_of
from ..backend.sharing import cached_property, warn
from .conjugate_gradients import conjugate_gradients

LARGEST = 2**26  # entries of a matrix that `dense` writes out where only products are known
DENSE = 2_048  # latent numbers up to which matrices of all of them are made
DIRECT = 512  # numbers up to which equations without a closed form are solved by all entries
# Rows that a function is given at once. A network is wider than its inputs, and arrays beyond 32 MB (256
# float64 numbers a row) are of fresh memory each time: products with a slope then take up to twice as long.
AT_ONCE = 2**14
SMALL = 24  # up to here loops over columns, vectorised over the batch, beat one LAPACK call a matrix


def cholesky(matrix: Array) -> Array:
    """The lower L with L Lᵀ = matrix (n, n) or (batch, n, n), symmetric and positive definite.

    A row of a batch that is not positive definite, or holds NaN, comes back with NaN and leaves the others
    alone, so that a solve can report it. Raises: the library's LinAlgError for one matrix.
    Source: Golub & Van Loan, Matrix Computations, section 4.2.5.
    """
    xp, n = array_namespace(matrix), matrix.shape[-1]
    if matrix.ndim == 2:
        return xp.linalg.cholesky(matrix)
    if n > SMALL:
        return backend_of(matrix).adapter.cholesky(matrix)
    flat = _batch_last(matrix)
    columns: list[Array] = []
    for j in range(n):
        column = flat[j:, j, :]
        for i, earlier in enumerate(columns):
            column = column - earlier[j - i :, :] * earlier[j - i, :]
        pivot = column[0, :]
        # NaN by choice, lest NumPy warns of a root it cannot take
        pivot = xp.where(pivot > 0, pivot, xp.full_like(pivot, math.nan))
        columns.append(column / xp.sqrt(pivot))
    zero = xp.zeros_like(flat[:, 0, :])
    padded = [xp.concat([zero[:j, :], column], axis=0) if j else column for j, column in enumerate(columns)]
    return _batch_first(xp.stack(padded, axis=1))


def solve_lower(lower: Array, right: Array) -> Array:
    """L⁻¹ B for lower-triangular L (n, n) or (batch, n, n) and B (n, k) or (batch, n, k)."""
    xp, n = array_namespace(lower, right), lower.shape[-1]
    if lower.ndim == 3 and right.ndim == 2:
        right = xp.broadcast_to(right, (lower.shape[0], *right.shape))
    if lower.ndim == 2 and right.ndim == 3:
        lower = xp.broadcast_to(lower, (*right.shape[:-1], n))
        return backend_of(lower).adapter.solve_triangular(lower, right, False)
    return _substituted(lower, right, False)


def solve_lower_transposed(lower: Array, right: Array) -> Array:
    """L⁻ᵀ B for lower-triangular L (n, n) or (batch, n, n) and B (n, k) or (batch, n, k), as many as L."""
    return _substituted(lower, right, True)


def _substituted(lower: Array, right: Array, transposed: bool) -> Array:
    """By the first row first, of Lᵀ by the last."""
    xp, n = array_namespace(lower, right), lower.shape[-1]
    if lower.ndim == 2 or n > SMALL:
        matrix = xp.matrix_transpose(lower) if transposed else lower
        return backend_of(lower).adapter.solve_triangular(matrix, right, transposed)
    left, flat = _batch_last(lower), _batch_last(right)
    rows: dict[int, Array] = {}
    for i in reversed(range(n)) if transposed else range(n):
        row = flat[i, :, :]
        for j, known in rows.items():
            row = row - (left[j, i, :] if transposed else left[i, j, :]) * known
        rows[i] = row / left[i, i, :]
    return _batch_first(xp.stack([rows[i] for i in range(n)], axis=0))


def log_diagonal(lower: Array) -> Array:
    """Σ ln L_ii of a lower-triangular L: half of ln det(L Lᵀ); () or (batch,)."""
    xp = array_namespace(lower)
    return xp.sum(xp.log(xp.linalg.diagonal(lower)), axis=-1)


def _batch_last(array: Array) -> Array:
    """(batch, n, k) as (n, k, batch), copied so that the rows of a batch lie side by side in memory."""
    xp, (batch, n, k) = array_namespace(array), array.shape
    return xp.reshape(xp.reshape(xp.permute_dims(array, (1, 2, 0)), (n * k, batch)), (n, k, batch))


def _batch_first(array: Array) -> Array:
    """(n, k, batch) as (batch, n, k), copied likewise."""
    xp, (n, k, batch) = array_namespace(array), array.shape
    return xp.reshape(xp.reshape(xp.permute_dims(array, (2, 0, 1)), (batch, n * k)), (batch, n, k))


def matvec(A: Array, v: Array) -> Array:
    """A v row by row: A (n, m) and v (..., m), A (batch, n, m) and v (batch, m) or (k, batch, m), or as many
    A (..., n, m) as v (..., m)."""
    if A.ndim == 2:
        return v @ A.T
    if A.ndim == v.ndim == 3:  # of each matrix one product with all its rows
        xp = array_namespace(v)
        return xp.permute_dims(xp.permute_dims(v, (1, 0, 2)) @ xp.matrix_transpose(A), (1, 0, 2))
    return (A @ v[..., None])[..., 0]


def rmatvec(A: Array, w: Array) -> Array:
    """Aᵀ w row by row, as `matvec` of the transposed matrix."""
    if A.ndim == 2:
        return w @ A
    if A.ndim == w.ndim == 3:
        xp = array_namespace(w)
        return xp.permute_dims(xp.permute_dims(w, (1, 0, 2)) @ A, (1, 0, 2))
    return (w[..., None, :] @ A)[..., 0, :]


def matmat(A: Array, B: Array) -> Array:
    """A B for matrices (n, m) or (batch, n, m); one for all with one for each as a single large product."""
    xp = array_namespace(A)
    if A.ndim == B.ndim:
        return A @ B
    if A.ndim == 3:
        flat = xp.reshape(A, (-1, A.shape[-1])) @ B
        return xp.reshape(flat, (*A.shape[:2], B.shape[-1]))
    return xp.matrix_transpose(matmat(xp.matrix_transpose(B), A.T))


def row_by_row(solve: Callable[[Array, Array], Array], A: Array, b: Array) -> Array:
    """solve(A, columns) for rows b (..., n), of which A (batch, n, n) has one matrix each."""
    xp = array_namespace(b)
    if A.ndim == 2:
        return xp.reshape(solve(A, xp.reshape(b, (-1, b.shape[-1])).T).T, b.shape)
    if b.ndim == 2:
        return solve(A, b[..., None])[..., 0]
    return xp.permute_dims(solve(A, xp.permute_dims(b, (1, 2, 0))), (2, 0, 1))


def matrix_transpose(A: Array) -> Array:
    """Of the last two axes."""
    return array_namespace(A).matrix_transpose(A)


def project_psd(A: Array) -> Array:
    """The nearest positive semidefinite matrix to a symmetric one (..., n, n): no negative eigenvalues."""
    xp = array_namespace(A)
    values, basis = xp.linalg.eigh(A)
    return (basis * xp.clip(values, min=0.0)[..., None, :]) @ xp.matrix_transpose(basis)


def psd_or_diagonal(A: Array) -> Array:
    """Symmetric matrices (batch, n, n), those that are not positive definite cut down to their variances.

    Which they are a Cholesky factor shows, at a tenth of the cost of eigenvalues; above n = 24, where it does
    not, as `project_psd`.
    """
    xp, n = array_namespace(A), A.shape[-1]
    if n > SMALL:
        return project_psd(A)
    positive = xp.all(xp.isfinite(xp.linalg.diagonal(cholesky(A))), axis=-1)
    identity = xp.eye(n, dtype=A.dtype, device=device(A))
    variances = xp.clip(xp.linalg.diagonal(A), min=0.0)[..., None, :] * identity
    return xp.where(positive[:, None, None], A, variances)


Positions = tuple[Array, tuple[float, ...]]


class LinearOperator(ABC):
    """A linear map A of `in` numbers to `out`: one for all rows, or one for each row of a leading axis.

    A row is a draw or a data set. v (..., in) holds one in each place but the last; where A has `batch`
    matrices along a leading axis, v is (batch, in), or (k, batch, in) for several rows of each. `A @ v` is
    `matvec`, `A @ B` a product, `A + B` a sum, `c * A` a multiple, `A.T` the transpose.

    A structure overrides what it can do better than by products. What uses an operator asks for these hints,
    never which one it is. `materialised`: all entries are at hand, and `dense` costs no more than reading
    them. `is_diagonal`: there is nothing beside `diagonal`. `may_be_indefinite`: it stands for a covariance
    and was learned, so that it is neither quite symmetric nor positive. `near`: an operator near it, with
    which equations are easier to solve.

    shape: (out, in); batch: None where one matrix serves all rows; like: an array of A's backend and dtype.
    """

    materialised: bool = False
    is_diagonal: bool = False
    may_be_indefinite: bool = False
    near: "LinearOperator | None" = None
    __array_ufunc__ = None  # an array of NumPy leaves `array * operator` to the operator

    def __init__(self, shape: tuple[int, int], batch: int | None, like: Array) -> None:
        self.shape, self.batch, self.like = shape, batch, like

    @abstractmethod
    def matvec(self, v: Array) -> Array:
        """A v row by row: (..., in) to (..., out)."""

    @abstractmethod
    def rmatvec(self, w: Array) -> Array:
        """Aᵀ w row by row: (..., out) to (..., in)."""

    @abstractmethod
    def _take(self, index: Array | int) -> "LinearOperator":
        """`take`, where there is a leading axis."""

    @property
    def shared(self) -> bool:
        """Whether one matrix serves all rows."""
        return self.batch is None

    def __repr__(self) -> str:
        many = "" if self.shared else f"{self.batch} of "
        return f"{type(self).__name__}({many}{self.shape[0]} x {self.shape[1]})"

    def take(self, index: Array | int) -> "LinearOperator":
        """The matrices `index` (rows,) of the leading axis, or one of them for all rows, by its number.

        Itself where one serves all rows.
        """
        return self if self.shared else self._take(index)

    def formed(self) -> "LinearOperator":
        """The same for many products: with its entries written out where they then cost less."""
        return self

    def matmat(self, M: Array) -> Array:
        """A M for columns M (in, k), the same for all rows, or (batch, in, k).

        (out, k) where A and M are both the same for all rows, else (batch, out, k).
        """
        return self._by_rows(self.matvec, M)

    def _by_rows(self, function: Callable[[Array], Array], M: Array) -> Array:
        """A function of rows, of columns M."""
        xp = array_namespace(M)
        if self.shared:
            return xp.matrix_transpose(function(xp.matrix_transpose(M)))
        columns = xp.broadcast_to(M, (self.batch, *M.shape[-2:]))
        return xp.permute_dims(function(xp.permute_dims(columns, (2, 0, 1))), (1, 2, 0))

    def dense(self) -> Array:
        """All entries, (out, in) or (batch, out, in).

        Raises: ValueError where only products are known, above 2²⁶ entries for each row.
        """
        return self.matmat(self._identity())

    def diagonal(self) -> Array:
        """A_ii, (n,) or (batch, n). Here by `dense`, with its error."""
        return array_namespace(self.like).linalg.diagonal(self.dense())

    def solve(self, b: Array) -> Array:
        """A⁻¹ b row by row, (..., n), for a square A.

        In closed form where the structure has one. Here by elimination where the entries are at hand, or at
        most 512² are needed; beyond, for symmetric positive definite A, by conjugate gradients, to the square
        root of the dtype's rounding of |b| in 2 n iterations: rows that do not get there are NaN.
        """
        if not self._is_direct:
            return self._by_iteration(b)
        return row_by_row(array_namespace(b).linalg.solve, self.dense(), b)

    def rsolve(self, b: Array) -> Array:
        """A⁻ᵀ b row by row."""
        if not self._is_direct:
            return self._by_iteration(b)  # which is for symmetric ones
        xp = array_namespace(b)
        return row_by_row(xp.linalg.solve, xp.matrix_transpose(self.dense()), b)

    def solve_columns(self, M: Array) -> Array:
        """A⁻¹ M for columns M (n, k) or (batch, n, k), as `matmat`."""
        return self._by_rows(self.solve, M)

    def inverse(self) -> "LinearOperator":
        """A⁻¹, with what can be computed once for many right sides."""
        if self._is_direct:
            return Dense(array_namespace(self.like).linalg.inv(self.dense()))
        return MatrixFree(self.solve, self.rsolve, self.shape, self.like, batch=self.batch, several=True)

    def sqrt(self) -> "LinearOperator":
        """An L with L Lᵀ = A, for symmetric positive definite A. Here Cholesky's, with the error of `dense`.

        Of many matrices those without one are NaN; of one alone it is the library's LinAlgError.
        """
        return Triangular(cholesky(self.dense()))

    @cached_property
    def root(self) -> "LinearOperator":
        """`sqrt`, computed once."""
        return self.sqrt()

    def logdet(self) -> Array:
        """ln |det A|, () or (batch,)."""
        return array_namespace(self.like).linalg.slogdet(self.dense()).logabsdet

    def log_normal(self, residual: Array) -> Array:
        """ln N(residual; 0, A) of rows (..., n), for a covariance A: (...)."""
        xp, white = array_namespace(residual), self.whiten(residual)
        constant = self.logdet() + self.shape[0] * math.log(2 * math.pi)
        return -0.5 * (xp.sum(white * white, axis=-1) + constant)

    def whiten(self, v: Array) -> Array:
        """W v row by row with Wᵀ W = A⁻¹, of a covariance A."""
        return self.root.solve(v)

    def whiten_adjoint(self, w: Array) -> Array:
        """Wᵀ w row by row: A⁻¹ v is that of W v."""
        return self.root.rsolve(w)

    def added_to(self, matrix: Array) -> Array:
        """matrix + A for entries (..., n, n)."""
        return matrix + self.dense()

    def shifted(self, c: Any) -> "LinearOperator":
        """A + c I, for a number c or one for each row: in A's own structure where that has room for it."""
        return self + scaled_identity(c, self.shape[0], self.like)

    def gain(self, alpha: Any, sigma: Any, factor: Any = 1.0) -> "LinearOperator":
        """factor · A (α² A + σ² I)⁻¹ for a covariance A: all that the best linear denoiser asks of one.

        alpha, sigma, factor: numbers, or arrays (batch, 1) for the rows of a batch. Here as a product, which
        costs one of A and one solution.
        """
        return self * factor @ (self * alpha**2).shifted(sigma**2).inverse()

    def rows(self, index: Array | slice) -> "LinearOperator":
        """The rows A_i of i in `index`, (k,) or a slice, as of what was observed."""
        return self._selection(index) @ self

    def block(self, index: Array | slice) -> "LinearOperator":
        """A_ij for i and j in `index`, (k,) or a slice, as the covariance of what was observed."""
        chosen = self._selection(index)
        return chosen @ self @ chosen.T

    def _selection(self, index: Array | slice) -> "Selection":
        if not isinstance(index, slice):
            return Selection(index, self.shape[0], self.like)
        xp = array_namespace(self.like)
        numbers = xp.arange(index.start, index.stop, dtype=xp.int64, device=device(self.like))
        return Selection(numbers, self.shape[0], self.like)

    def positions(self, index: Array) -> "Positions | None":
        """Where the numbers `index` (k,) stand, of a covariance that is small between numbers far apart and
        gives its `entries`: coordinates (k, d), and the length after which each axis begins again, 0 for
        never. None for any other."""
        return None

    def entries(self, rows: Array, columns: Array) -> Array:
        """A_ij of index arrays i and j that can be broadcast together, where `positions` are known."""
        raise NotImplementedError(f"{self!r} does not give single entries")

    @property
    def single_entries(self) -> tuple[Array, Array] | None:
        """Where each row has one entry at most: its place (out,) and the entry (out,); None for any other.

        So are scaled numbers that were observed one by one. Known to A, not looked for.
        """
        return None

    @property
    def T(self) -> "LinearOperator":
        """The transpose."""
        return Transpose(self)

    def product(self, v: Array) -> Array:
        """The former name of `matvec`."""
        warn("product is called matvec now", DeprecationWarning, stacklevel=2)
        return self.matvec(v)

    def columns(self, M: Array) -> Array:
        """The former name of `matmat`."""
        warn("columns is called matmat now", DeprecationWarning, stacklevel=2)
        return self.matmat(M)

    def __matmul__(self, other: Any) -> Any:
        return Product(self, other) if isinstance(other, LinearOperator) else self.matvec(other)

    def __add__(self, other: "LinearOperator") -> "LinearOperator":
        return Sum(self, other)

    def __mul__(self, c: Any) -> "LinearOperator":
        return scaled_identity(c, self.shape[0], self.like) @ self

    def __rmul__(self, c: Any) -> "LinearOperator":
        return self * c

    @property
    def _is_direct(self) -> bool:
        return self.materialised or max(self.shape) <= DIRECT

    def _identity(self) -> Array:
        """(in, in), where A may be written out."""
        self._require_small()
        n, like = self.shape[1], self.like
        return array_namespace(like).eye(n, dtype=like.dtype, device=device(like))

    def _require_small(self) -> None:
        """Raises: ValueError where the entries are not at hand and too many to write out."""
        out, n = self.shape
        if not self.materialised and out * n > LARGEST:
            raise ValueError(
                f"{self!r} would be a matrix of {out} x {n} numbers, and at most {LARGEST} entries are "
                "written out; use matvec, rmatvec, matmat and solve, which need none (for guidance: "
                "likelihood='tweedie' with method='matrix-free', or 'sda')"
            )

    def _by_iteration(self, b: Array) -> Array:
        xp, shape = array_namespace(b), b.shape
        precondition = None if self.near is None else self.near.inverse().matvec
        rows = xp.reshape(b, (-1, shape[-1])) if self.shared else b

        def product(v: Array) -> tuple[Array, Array]:
            return self.matvec(v), v

        tolerance = float(xp.finfo(b.dtype).eps) ** 0.5
        found = conjugate_gradients(product, rows, tolerance, 2 * shape[-1], precondition)
        return xp.reshape(found, shape)


class Symmetric(LinearOperator):
    """A linear operator that is its own transpose."""

    def rmatvec(self, w: Array) -> Array:
        return self.matvec(w)

    def rsolve(self, b: Array) -> Array:
        return self.solve(b)

    @property
    def T(self) -> LinearOperator:
        """Itself."""
        return self


class Diagonalisable(Symmetric):
    """A symmetric operator that is known by eigenvalues λ: A = U diag(λ) Uᵀ, and f(A) = U diag(f(λ)) Uᵀ.

    `map(f)` is all that the best linear denoiser asks of a covariance.
    """

    @property
    @abstractmethod
    def eigenvalues(self) -> Array:
        """λ, to broadcast with what `inside` gives."""

    @abstractmethod
    def inside(self, v: Array) -> Array:
        """Uᵀ v row by row."""

    @abstractmethod
    def outside(self, u: Array) -> Array:
        """U u row by row."""

    @property
    def basis(self) -> Array:
        """U, (n, n) or (batch, n, n); fewer columns where A is 0 along the others."""
        return array_namespace(self.like).matrix_transpose(self.outside(self._identity()))

    @abstractmethod
    def map(self, function: Callable[[Array], Array]) -> "Diagonalisable":
        """f(A), of the same structure, for f of arrays of eigenvalues."""

    def matvec(self, v: Array) -> Array:
        return self.outside(self.eigenvalues * self.inside(v))

    def solve(self, b: Array) -> Array:
        return self.inverse().matvec(b)

    def inverse(self) -> LinearOperator:
        return self.map(lambda values: 1 / values)

    def whiten(self, v: Array) -> Array:
        return self.inside(v) / self.root_eigenvalues

    def whiten_adjoint(self, w: Array) -> Array:
        return self.outside(w / self.root_eigenvalues)

    def gain(self, alpha: Any, sigma: Any, factor: Any = 1.0) -> "Diagonalisable":
        return self.map(lambda values: factor * values / (alpha * alpha * values + sigma**2))

    @cached_property
    def root_eigenvalues(self) -> Array:
        """√λ."""
        return array_namespace(self.eigenvalues).sqrt(self.eigenvalues)

    def __mul__(self, c: Any) -> LinearOperator:
        return super().__mul__(c) if getattr(c, "ndim", 0) else self.map(lambda values: c * values)

    def sqrt(self) -> "Diagonalisable":
        """The symmetric root, which is unique: the same on every backend."""
        return self.map(array_namespace(self.eigenvalues).sqrt)


class Transpose(LinearOperator):
    """Aᵀ."""

    def __init__(self, operator: LinearOperator) -> None:
        super().__init__(operator.shape[::-1], operator.batch, operator.like)
        self.operator = operator
        self.materialised, self.is_diagonal = operator.materialised, operator.is_diagonal

    def matvec(self, v: Array) -> Array:
        return self.operator.rmatvec(v)

    def rmatvec(self, w: Array) -> Array:
        return self.operator.matvec(w)

    def dense(self) -> Array:
        return array_namespace(self.like).matrix_transpose(self.operator.dense())

    def solve(self, b: Array) -> Array:
        return self.operator.rsolve(b)

    def rsolve(self, b: Array) -> Array:
        return self.operator.solve(b)

    def logdet(self) -> Array:
        return self.operator.logdet()

    @property
    def T(self) -> LinearOperator:
        """A."""
        return self.operator

    def _take(self, index: Array | int) -> LinearOperator:
        return Transpose(self.operator.take(index))


class Sum(LinearOperator):
    """A + B + …"""

    def __init__(self, *terms: LinearOperator) -> None:
        super().__init__(terms[0].shape, common_batch(*(term.batch for term in terms)), terms[0].like)
        if any(term.shape != self.shape for term in terms):
            raise ValueError(f"a sum needs terms of one shape; got {[term.shape for term in terms]}")
        self.terms = terms
        self.materialised = all(term.materialised for term in terms)
        self.is_diagonal = all(term.is_diagonal for term in terms)
        self.may_be_indefinite = any(term.may_be_indefinite for term in terms)
        if any(term.near is not None for term in terms):
            self.near = Sum(*(term.near or term for term in terms))

    def matvec(self, v: Array) -> Array:
        return total(term.matvec(v) for term in self.terms)

    def rmatvec(self, w: Array) -> Array:
        return total(term.rmatvec(w) for term in self.terms)

    def matmat(self, M: Array) -> Array:
        return total(term.matmat(M) for term in self.terms)

    def dense(self) -> Array:
        first, *others = self.terms
        matrix = first.dense()
        for term in others:
            matrix = term.added_to(matrix)
        return matrix

    def diagonal(self) -> Array:
        return total(term.diagonal() for term in self.terms)

    @property
    def T(self) -> LinearOperator:
        """The sum of the transposes."""
        return Sum(*(term.T for term in self.terms))

    def _take(self, index: Array | int) -> LinearOperator:
        return Sum(*(term.take(index) for term in self.terms))


class Product(LinearOperator):
    """A B."""

    def __init__(self, left: LinearOperator, right: LinearOperator) -> None:
        if left.shape[1] != right.shape[0]:
            raise ValueError(f"A B needs as many columns of A as B has rows; got {left!r} and {right!r}")
        shape = left.shape[0], right.shape[1]
        super().__init__(shape, common_batch(left.batch, right.batch), left.like)
        self.left, self.right = left, right
        self.may_be_indefinite = left.may_be_indefinite or right.may_be_indefinite
        if left.near is not None or right.near is not None:
            self.near = Product(left.near or left, right.near or right)

    def matvec(self, v: Array) -> Array:
        return self.left.matvec(self.right.matvec(v))

    def rmatvec(self, w: Array) -> Array:
        return self.right.rmatvec(self.left.rmatvec(w))

    def matmat(self, M: Array) -> Array:
        return self.left.matmat(self.right.matmat(M))

    def dense(self) -> Array:
        self._identity()
        return self.left.matmat(self.right.dense())

    def solve(self, b: Array) -> Array:
        return self.right.solve(self.left.solve(b)) if self._is_of_squares else super().solve(b)

    def rsolve(self, b: Array) -> Array:
        return self.left.rsolve(self.right.rsolve(b)) if self._is_of_squares else super().rsolve(b)

    def logdet(self) -> Array:
        return self.left.logdet() + self.right.logdet() if self._is_of_squares else super().logdet()

    @property
    def single_entries(self) -> tuple[Array, Array] | None:
        """Those of B that A selects, scaled."""
        left, right = self.left.single_entries, self.right.single_entries
        if left is None or right is None:
            return None
        take = array_namespace(self.like).take
        return take(right[0], left[0]), left[1] * take(right[1], left[0])

    @property
    def T(self) -> LinearOperator:
        """Bᵀ Aᵀ."""
        return Product(self.right.T, self.left.T)

    @property
    def _is_of_squares(self) -> bool:
        return self.left.shape[0] == self.left.shape[1]

    def _take(self, index: Array | int) -> LinearOperator:
        return Product(self.left.take(index), self.right.take(index))


class MatrixFree(LinearOperator):
    """A map that is known by its products: functions v ↦ A v and w ↦ Aᵀ w of rows (batch, ·).

    rmatvec: None for a symmetric map, of which `dense` gives the symmetric part. several: whether the
    functions take (k, batch, ·), too. batch: rows of which each has its own map, or None.
    """

    def __init__(
        self,
        matvec: Callable[[Array], Array],
        rmatvec: Callable[[Array], Array] | None,
        shape: tuple[int, int],
        like: Array,
        *,
        batch: int | None = None,
        several: bool = False,
        may_be_indefinite: bool = False,
        near: LinearOperator | None = None,
    ) -> None:
        super().__init__(shape, batch, like)
        self.forward, self.backward, self.several = matvec, rmatvec, several
        self.may_be_indefinite, self.near = may_be_indefinite, near

    def matvec(self, v: Array) -> Array:
        return self._of_rows(self.forward, v)

    def rmatvec(self, w: Array) -> Array:
        return self._of_rows(self.backward or self.forward, w)

    def dense(self) -> Array:
        matrix = super().dense()
        if self.backward is not None:
            return matrix
        return 0.5 * (matrix + array_namespace(matrix).matrix_transpose(matrix))

    @property
    def T(self) -> LinearOperator:
        """The map with the functions' places changed."""
        return self if self.backward is None else Transpose(self)

    def _of_rows(self, function: Callable[[Array], Array], v: Array) -> Array:
        """The function of (k, batch, ·), in blocks that it can take."""
        if v.ndim < 3:
            return function(v)
        xp, (count, batch, _) = array_namespace(v), v.shape
        if self.shared:
            return xp.reshape(function(xp.reshape(v, (count * batch, -1))), (count, batch, -1))
        if not self.several:
            return xp.stack([function(v[k, ...]) for k in range(count)])
        block = max(AT_ONCE // batch, 1)
        parts = [function(v[k : min(k + block, count), ...]) for k in range(0, count, block)]
        return parts[0] if len(parts) == 1 else xp.concat(parts, axis=0)

    def _take(self, index: Array | int) -> LinearOperator:
        raise TypeError(
            f"{self!r} is known by its products for all rows at once; make it for the rows chosen"
        )


class Diagonal(Diagonalisable):
    """diag(values): values (n,) or (batch, n)."""

    materialised, is_diagonal = True, True

    def __init__(self, values: Array, n: int | None = None) -> None:
        n = values.shape[-1] if n is None else n
        super().__init__((n, n), values.shape[0] if values.ndim == 2 else None, values)
        self.values = values

    @property
    def eigenvalues(self) -> Array:
        """The values."""
        return self.values

    def inside(self, v: Array) -> Array:
        return v

    def outside(self, u: Array) -> Array:
        return u

    def map(self, function: Callable[[Array], Array]) -> "Diagonal":
        return Diagonal(function(self.values))

    @property
    def single_entries(self) -> tuple[Array, Array] | None:
        """The values, in their places."""
        xp = array_namespace(self.values)
        places = xp.arange(self.shape[0], dtype=xp.int64, device=device(self.values))
        return (places, self.diagonal()) if self.shared else None

    def matmat(self, M: Array) -> Array:
        return self.values[..., None] * M

    def dense(self) -> Array:
        return self.values[..., None, :] * self._identity()

    def diagonal(self) -> Array:
        return self.values

    def solve(self, b: Array) -> Array:
        return b / self.values

    def logdet(self) -> Array:
        xp = array_namespace(self.values)
        return xp.sum(xp.log(xp.abs(self.values)), axis=-1)

    def shifted(self, c: Any) -> LinearOperator:
        return self.map(lambda values: values + before(c, 1))

    def block(self, index: Array | slice) -> LinearOperator:
        """Diagonal: no number may be in `index` twice."""
        return Diagonal(_places(self.values, index, -1))

    def _take(self, index: Array | int) -> LinearOperator:
        return self.map(lambda values: chosen(values, index, 1))


class Isotropic(Diagonal):
    """c I of n numbers: c an array () or (batch,); `values` is (1,) or (batch, 1)."""

    def __init__(self, c: Array, n: int) -> None:
        super().__init__(c[..., None], n)

    def map(self, function: Callable[[Array], Array]) -> "Isotropic":
        return Isotropic(function(self.values)[..., 0], self.shape[0])

    def diagonal(self) -> Array:
        xp = array_namespace(self.values)
        return xp.broadcast_to(self.values, (*self.values.shape[:-1], self.shape[0]))

    def logdet(self) -> Array:
        return self.shape[0] * super().logdet()

    def block(self, index: Array | slice) -> LinearOperator:
        return Isotropic(self.values[..., 0], self._selection(index).shape[0])


class Spectral(Diagonalisable):
    """U diag(along) Uᵀ + across (I - U Uᵀ), U with orthonormal columns; f(A) has the same form.

    U: (n, q) or (batch, n, q); along: (q,) or (batch, q); across: (1,), or None for 0, as where U is square:
    with q < n, A is then singular, and functions of it, its inverse among them, are 0 across, too. A product
    costs 2 q n numbers for each row: little where A is near to a multiple of I.
    """

    def __init__(self, U: Array, along: Array, across: Array | None = None) -> None:
        batch = common_batch(U.shape[0] if U.ndim == 3 else None, along.shape[0] if along.ndim == 2 else None)
        super().__init__((U.shape[-2], U.shape[-2]), batch, along)
        self.U, self.along, self.across = U, along, across

    @classmethod
    def of(cls, eigenvalues: Array, basis: Array) -> "Spectral":
        """From all eigenvalues (n,) and eigenvectors (n, n), with few columns where most are nearly equal."""
        xp, n = array_namespace(eigenvalues), eigenvalues.shape[0]
        common = xp.sort(eigenvalues)[n // 2]
        eps = float(xp.finfo(eigenvalues.dtype).eps)
        apart = xp.abs(eigenvalues - common) > 8 * n * eps * xp.max(eigenvalues)
        few = 2 * int(xp.count_nonzero(apart)) < n
        # along a direction of far less variance than `common` the two terms would cancel
        if few and bool(xp.min(eigenvalues) > math.sqrt(eps) * common):
            kept = xp.nonzero(apart)[0]
            return cls(xp.take(basis, kept, axis=1), xp.take(eigenvalues, kept), common[None])
        return cls(basis, eigenvalues)

    def matvec(self, v: Array) -> Array:
        if self.across is not None:
            return self.across * v + matvec(self.U, rmatvec(self.U, v) * (self.along - self.across))
        (n, q), many = self.U.shape[-2:], v.ndim == 2 and self.shared
        if many and v.shape[0] * (2 * q - n) > q * n:  # less work with the matrix multiplied out
            return v @ self.dense()
        return matvec(self.U, rmatvec(self.U, v) * self.along)

    def matmat(self, M: Array) -> Array:
        xp = array_namespace(M)
        inside = matmat(xp.matrix_transpose(self.U), M)
        if self.across is None:
            return matmat(self.U, self.along[..., None] * inside)
        return self.across * M + matmat(self.U, (self.along - self.across)[..., None] * inside)

    def dense(self) -> Array:
        U = self.U
        if self.across is None:
            scaled = U * self.along[..., None, :]
            return scaled @ U.T if scaled.ndim == 2 else scaled @ array_namespace(U).matrix_transpose(U)
        return self.matmat(self._identity())

    def diagonal(self) -> Array:
        squares = self.U * self.U
        found = matvec(squares, self.along)
        if self.across is None:
            return found
        xp = array_namespace(self.along)
        return found + self.across * (1.0 - xp.sum(squares, axis=-1))

    def logdet(self) -> Array:
        """Along U alone where A is singular."""
        xp = array_namespace(self.along)
        inside = xp.sum(xp.log(xp.abs(self.along)), axis=-1)
        if self.across is None:
            return inside
        rest = self.U.shape[-2] - self.U.shape[-1]
        return inside + rest * xp.log(xp.abs(self.across))[0]

    def shifted(self, c: Any) -> LinearOperator:
        if self.U.shape[-2] == self.U.shape[-1]:
            return Spectral(self.U, self.along + before(c, 1))
        if getattr(c, "ndim", 0):
            return super().shifted(c)
        across = 0 * self.along[..., :1] if self.across is None else self.across
        return super().shifted(c) if across.ndim == 2 else Spectral(self.U, self.along + c, across + c)

    def whiten(self, v: Array) -> Array:
        return super().whiten(v) if self.across is None else LinearOperator.whiten(self, v)

    def whiten_adjoint(self, w: Array) -> Array:
        return super().whiten_adjoint(w) if self.across is None else LinearOperator.whiten_adjoint(self, w)

    def formed(self) -> LinearOperator:
        return Dense(self.dense()) if self.across is None else self

    def block(self, index: Array | slice) -> LinearOperator:
        """All its entries, by k² q operations for k numbers."""
        if not self.shared or isinstance(index, slice):
            return super().block(index)
        U = _places(self.U, index, -2)
        if self.across is None:
            return Dense((U * self.along) @ U.T)
        xp = array_namespace(U)
        same = xp.astype(index[:, None] == index[None, :], U.dtype)
        return Dense((U * (self.along - self.across)) @ U.T + self.across * same)

    @property
    def eigenvalues(self) -> Array:
        """Along U, (q,) or (batch, q)."""
        return self.along

    @property
    def basis(self) -> Array:
        """U."""
        return self.U

    def inside(self, v: Array) -> Array:
        """Uᵀ v row by row, where A is diagonal."""
        return rmatvec(self.U, v)

    def outside(self, u: Array) -> Array:
        """U u row by row."""
        return matvec(self.U, u)

    def map(self, function: Callable[[Array], Array]) -> "Spectral":
        across = None if self.across is None else function(self.across)
        return Spectral(self.U, function(self.along), across)

    def _take(self, index: Array | int) -> LinearOperator:
        return Spectral(chosen(self.U, index, 2), chosen(self.along, index, 1), self.across)


class Matrix(LinearOperator):
    """A matrix (out, in), or (batch, out, in), with all its entries."""

    materialised = True

    def __init__(self, matrix: Array) -> None:
        shape = matrix.shape[-2], matrix.shape[-1]
        super().__init__(shape, matrix.shape[0] if matrix.ndim == 3 else None, matrix)
        self.matrix = matrix

    def matvec(self, v: Array) -> Array:
        return matvec(self.matrix, v)

    def rmatvec(self, w: Array) -> Array:
        return rmatvec(self.matrix, w)

    def matmat(self, M: Array) -> Array:
        return self.matrix @ M

    def dense(self) -> Array:
        return self.matrix


class Dense(Matrix):
    """A matrix (out, in), or (batch, out, in).

    positive: it is symmetric and positive definite, and equations go by its Cholesky factor; root: that
    factor, where it is known.
    """

    def __init__(self, matrix: Array, positive: bool = False, root: LinearOperator | None = None) -> None:
        super().__init__(matrix)
        self.positive = positive
        if root is not None:
            self.__dict__["root"] = root

    def solve(self, b: Array) -> Array:
        return self.root.T.solve(self.root.solve(b)) if self.positive else super().solve(b)

    def logdet(self) -> Array:
        return 2 * self.root.logdet() if self.positive else super().logdet()

    def rows(self, index: Array | slice) -> LinearOperator:
        return Dense(_places(self.matrix, index, -2))

    def block(self, index: Array | slice) -> LinearOperator:
        return Dense(_places(_places(self.matrix, index, -2), index, -1), self.positive)

    def __mul__(self, c: Any) -> LinearOperator:
        return super().__mul__(c) if getattr(c, "ndim", 0) else Dense(c * self.matrix, self.positive)

    @property
    def T(self) -> LinearOperator:
        """The transposed matrix, or the symmetric one itself."""
        xp = array_namespace(self.matrix)
        return self if self.positive else Dense(xp.matrix_transpose(self.matrix))

    def _take(self, index: Array | int) -> LinearOperator:
        return Dense(chosen(self.matrix, index, 2), self.positive)


class Triangular(Matrix):
    """A lower-triangular L, (n, n) or (batch, n, n)."""

    def solve(self, b: Array) -> Array:
        return row_by_row(solve_lower, self.matrix, b)

    def rsolve(self, b: Array) -> Array:
        return row_by_row(solve_lower_transposed, self.matrix, b)

    def solve_columns(self, M: Array) -> Array:
        return solve_lower(self.matrix, M)

    def inverse(self) -> LinearOperator:
        xp, L = array_namespace(self.matrix), self.matrix
        return Triangular(solve_lower(L, xp.broadcast_to(self._identity(), L.shape)))

    def logdet(self) -> Array:
        return log_diagonal(self.matrix)

    def _take(self, index: Array | int) -> LinearOperator:
        return Triangular(chosen(self.matrix, index, 2))


class Selection(LinearOperator):
    """The numbers `index` (k,) of n, as of what was observed: entries that are 0 and one 1 in each row.

    A number may be chosen several times.
    """

    def __init__(self, index: Array, n: int, like: Array) -> None:
        super().__init__((index.shape[0], n), None, like)
        self.index = index

    def matvec(self, v: Array) -> Array:
        return array_namespace(v).take(v, self.index, axis=-1)

    def rmatvec(self, w: Array) -> Array:
        xp = array_namespace(w)
        nothing = xp.zeros((*w.shape[:-1], 1), dtype=w.dtype, device=device(w))
        padded = xp.concat([w, nothing], axis=-1)
        return total(xp.take(padded, places, axis=-1) for places in self.places)

    def matmat(self, M: Array) -> Array:
        return array_namespace(M).take(M, self.index, axis=-2)

    @property
    def single_entries(self) -> tuple[Array, Array] | None:
        """The numbers, and ones."""
        like, xp = self.like, array_namespace(self.like)
        return self.index, xp.ones((self.shape[0],), dtype=like.dtype, device=device(like))

    @cached_property
    def places(self) -> tuple[Array, ...]:
        """Where each of the n numbers stands among those chosen; for others k, (n,). Of numbers that are
        chosen several times, the first place in the first array, the second in the next."""
        xp, (count, n) = array_namespace(self.index), self.shape
        numbers = xp.arange(n, dtype=self.index.dtype, device=device(self.index))
        if not count:
            return (0 * numbers,)
        order = xp.argsort(self.index, stable=True)
        ordered = xp.take(self.index, order)
        first = xp.searchsorted(ordered, numbers)
        times = xp.searchsorted(ordered, numbers, side="right") - first
        found = []
        for again in range(max(int(xp.max(times)), 1)):
            place = xp.take(order, xp.clip(first + again, max=count - 1))
            found.append(xp.where(times > again, place, xp.full_like(place, count)))
        return tuple(found)

    def _take(self, index: Array | int) -> LinearOperator:
        return self


def scaled_identity(c: Any, n: int, like: Array) -> Isotropic:
    """c I of n numbers, for a number c or an array () or (batch,); like: as of `LinearOperator`."""
    xp = array_namespace(like)
    if not is_array_api_obj(c):
        c = xp.asarray(c, dtype=like.dtype, device=device(like))
    return Isotropic(c, n)


def as_operator(A: Any) -> LinearOperator:
    """A itself, or a matrix (out, in) or (batch, out, in) as an operator."""
    return A if isinstance(A, LinearOperator) else Dense(A)


def as_covariance(R: Any, leading_axis: bool = False) -> LinearOperator:
    """R itself; variances (n,) or a covariance (n, n), positive definite, as an operator.

    leading_axis: arrays have one more in front.
    """
    if isinstance(R, LinearOperator):
        return R
    return Diagonal(R) if R.ndim == 1 + leading_axis else Dense(R, positive=True)


def common_batch(*counts: int | None) -> int | None:
    """The one leading axis among several, or None. Raises: ValueError where they differ."""
    common = None
    for count in counts:
        if count is not None and common is not None and count != common:
            raise ValueError(
                f"operators with leading axes of {common} and {count} matrices do not go together"
            )
        common = common if count is None else count
    return common


def log_size(c: Any) -> Any:
    """ln |c| of a number or an array."""
    if not is_array_api_obj(c):
        return math.log(abs(c))
    xp = array_namespace(c)
    return xp.log(xp.abs(c))


def before(c: Any, axes: int) -> Any:
    """A number, or one for each row (batch,) with `axes` more axes behind."""
    return c[(..., *(None,) * axes)] if getattr(c, "ndim", 0) else c


def chosen(array: Array, index: Array | int, axes: int) -> Array:
    """Of an array with a leading axis before `axes` more, the rows `index`, or one without that axis."""
    if array.ndim == axes:
        return array
    return array[index, ...] if isinstance(index, int) else array_namespace(array).take(array, index, axis=0)


def _places(array: Array, index: Array | slice, axis: int) -> Array:
    """What stands at `index` of one of the last two axes."""
    if isinstance(index, slice):
        return array[(..., index) if axis == -1 else (..., index, slice(None))]
    return array_namespace(array).take(array, index, axis=axis)


def total(parts: Iterable[Array]) -> Array:
    """The sum of arrays, at least one."""
    first, *others = parts
    return sum(others, start=first)
