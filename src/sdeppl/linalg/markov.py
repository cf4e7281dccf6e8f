"""Gauss–Markov sequences: covariances whose inverses are block tridiagonal, by odd–even reduction."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from array_api_compat import device

from ..backend import Array, array_namespace
from ..backend.sharing import cached_property
from .operators import (
    LinearOperator,
    Symmetric,
    before,
    cholesky,
    chosen,
    solve_lower,
    solve_lower_transposed,
)


class BlockTridiagonal(Symmetric):
    """A symmetric positive definite matrix with blocks along the diagonal and next to it alone.

    diagonal: (blocks, b, b) or (batch, blocks, b, b); lower: A_{i+1,i}, (..., blocks - 1, b, b). n: how many
    of the blocks × b numbers there are, where the last block is not full; the rest of it is I, by itself.
    Rows (..., n) hold block by block.

    `solve`, `sqrt`, `logdet` and the blocks of the inverse go by odd–even (cyclic) reduction: every second
    block is eliminated, all at once, then every second one of those that remain, so that log₂(blocks) steps
    of batched products make a Cholesky factor in that order. Time grows with blocks × b³, memory with
    blocks × b²; a right side costs blocks × b².

    Raises: ValueError for shapes that do not fit. Source: Golub & Van Loan, Matrix Computations, section
    4.5.4; Heller 1976, SIAM J. Numer. Anal. 13, for its stability where blocks dominate; of positive definite
    matrices it is Cholesky's in another order.
    """

    def __init__(self, diagonal: Array, lower: Array, n: int | None = None) -> None:
        blocks, b = diagonal.shape[-3], diagonal.shape[-1]
        n = blocks * b if n is None else n
        wanted = (*diagonal.shape[:-3], blocks - 1, b, b)
        if diagonal.shape[-2] != b or tuple(lower.shape) != wanted or not (blocks - 1) * b < n <= blocks * b:
            raise ValueError(
                f"expected diagonal (..., blocks, b, b), lower {wanted} and n of the last block; got "
                f"{tuple(diagonal.shape)}, {tuple(lower.shape)} and n={n}"
            )
        super().__init__((n, n), diagonal.shape[0] if diagonal.ndim == 4 else None, diagonal)
        self.blocks, self.lower = diagonal, lower

    def matvec(self, v: Array) -> Array:
        x = self._in_blocks(v)
        down = _times(self.lower, x[..., :-1, :, :])
        up = _times_transposed(self.lower, x[..., 1:, :, :])
        return self._as_rows(_times(self.blocks, x) + _after(down) + _ahead(up), v)

    def solve(self, b: Array) -> Array:
        return self._as_rows(self.factor.solve_transposed(self.factor.solve(self._in_blocks(b))), b)

    def inverse(self) -> "GaussMarkov":
        return GaussMarkov(self)

    def sqrt(self) -> LinearOperator:
        return _Root(self)

    def logdet(self) -> Array:
        return self.factor.log_determinant()

    def diagonal(self) -> Array:
        return self._diagonal_of(self.blocks)

    def shifted(self, c: Any) -> LinearOperator:
        """A + c I; the rest of the last block stays I."""
        return self._with_blocks(self.blocks + before(c, 3) * self._unit)

    def added_diagonal(self, values: Array) -> "BlockTridiagonal":
        """A + diag(values), values (n,) or (batch, n): as of data, number by number."""
        xp = array_namespace(values)
        padded = self._padded(values)
        b = self.blocks.shape[-1]
        shape = (*values.shape[:-1], self.blocks.shape[-3], b)
        unit = xp.eye(b, dtype=self.like.dtype, device=device(self.like))
        return self._with_blocks(self.blocks + xp.reshape(padded, shape)[..., :, None] * unit)

    def fitted(self, product: Callable[[Array], Array]) -> "BlockTridiagonal | None":
        """A + B for a symmetric B known by its products with rows, (k, n) to (k, n), where B has the same
        blocks; None where it has others, of which a random row tells.

        Entries are read from products with 3 b rows, in which every third block has a 1. Source: Curtis,
        Powell & Reid 1974. Raises: ValueError for an A with a leading axis.
        """
        if self.batch is not None:
            raise ValueError("fitted() is of one matrix, without a leading axis")
        xp, like = array_namespace(self.like), self.like
        blocks, b = self.blocks.shape[-3], self.blocks.shape[-1]
        third = xp.arange(blocks, dtype=xp.int64, device=device(like)) % 3
        colours = range(min(blocks, 3))
        own = xp.stack([xp.astype(third == colour, like.dtype) for colour in colours])
        unit = xp.eye(b, dtype=like.dtype, device=device(like))
        rows = own[:, None, :, None] * unit[None, :, None, :]  # (colours, b, blocks, b)
        rows = xp.reshape(rows, (-1, blocks * b))[:, : self.shape[0]]
        seen = xp.reshape(self._padded(product(rows)), (len(colours), b, blocks, b))
        diagonal, lower = 0 * self.blocks, 0 * self.lower
        for colour in colours:
            columns = xp.permute_dims(seen[colour, ...], (1, 2, 0))  # of each block what this colour gives it
            mine = own[colour, :, None, None]
            diagonal = diagonal + mine * columns
            lower = lower + mine[:-1, ...] * columns[1:, ...]
        added = BlockTridiagonal(diagonal, lower, self.shape[0])
        # no numbers of the draws depend on this row
        test = xp.sin(3.0 * xp.arange(self.shape[0], dtype=like.dtype, device=device(like)) ** 2)[None, :]
        wanted, found = product(test), added.matvec(test)
        tolerance = 100 * float(xp.finfo(like.dtype).eps) * float(xp.max(xp.abs(wanted)))
        if float(xp.max(xp.abs(wanted - found))) > tolerance:
            return None
        return BlockTridiagonal(self.blocks + diagonal, self.lower + lower, self.shape[0])

    def _with_blocks(self, blocks: Array) -> "BlockTridiagonal":
        """With others along the diagonal, for each row of a batch where these are many."""
        xp = array_namespace(blocks)
        lower = xp.broadcast_to(self.lower, (*blocks.shape[:-3], *self.lower.shape[-3:]))
        return BlockTridiagonal(blocks, lower, self.shape[0])

    def __mul__(self, c: Any) -> LinearOperator:
        c = before(c, 3)
        rest = self._rest
        return BlockTridiagonal(c * (self.blocks - rest) + rest, c * self.lower, self.shape[0])

    @cached_property
    def factor(self) -> "_Level":
        """The Cholesky factor in the order of elimination."""
        return _reduced(self.blocks, self.lower)

    @cached_property
    def inverse_blocks(self) -> tuple[Array, Array]:
        """Of the inverse the blocks (..., blocks, b, b) along the diagonal, and next to it, (i + 1, i)."""
        return self.factor.inverse_blocks()

    @cached_property
    def _unit(self) -> Array:
        """I of the numbers that there are, by blocks."""
        xp, like = array_namespace(self.like), self.like
        blocks, b = self.blocks.shape[-3], self.blocks.shape[-1]
        there = xp.arange(blocks * b, dtype=xp.int64, device=device(like)) < self.shape[0]
        ones = xp.astype(xp.reshape(there, (blocks, b)), like.dtype)
        return ones[:, :, None] * xp.eye(b, dtype=like.dtype, device=device(like))

    @cached_property
    def _rest(self) -> Array:
        """I of the numbers beyond n, by blocks."""
        xp, b = array_namespace(self.like), self.blocks.shape[-1]
        return xp.eye(b, dtype=self.like.dtype, device=device(self.like)) - self._unit

    def _padded(self, v: Array) -> Array:
        """Rows (..., n) with zeros for what is left of the last block."""
        xp, missing = array_namespace(v), self.blocks.shape[-3] * self.blocks.shape[-1] - self.shape[0]
        if not missing:
            return v
        return xp.concat([v, xp.zeros((*v.shape[:-1], missing), dtype=v.dtype, device=device(v))], axis=-1)

    def _in_blocks(self, v: Array) -> Array:
        """Rows (..., n) as columns (blocks, b, rows), or of many matrices (batch, blocks, b, rows)."""
        xp, (blocks, b) = array_namespace(v), (self.blocks.shape[-3], self.blocks.shape[-1])
        if self.batch is None:
            flat = xp.reshape(self._padded(v), (-1, blocks, b))
            return xp.permute_dims(flat, (1, 2, 0))
        flat = xp.reshape(self._padded(v), (-1, self.batch, blocks, b))
        return xp.permute_dims(flat, (1, 2, 3, 0))

    def _as_rows(self, x: Array, like: Array) -> Array:
        """Columns as rows of the shape of `like`."""
        xp = array_namespace(x)
        if self.batch is None:
            flat = xp.reshape(xp.permute_dims(x, (2, 0, 1)), (x.shape[-1], -1))
        else:
            flat = xp.reshape(xp.permute_dims(x, (3, 0, 1, 2)), (x.shape[-1], self.batch, -1))
        return xp.reshape(flat[..., : self.shape[0]], like.shape)

    def _diagonal_of(self, blocks: Array) -> Array:
        xp = array_namespace(blocks)
        found = xp.linalg.diagonal(blocks)
        return xp.reshape(found, (*found.shape[:-2], -1))[..., : self.shape[0]]

    def _take(self, index: Array | int) -> LinearOperator:
        return BlockTridiagonal(chosen(self.blocks, index, 3), chosen(self.lower, index, 3), self.shape[0])


class _Inverse(LinearOperator):
    """A⁻¹, whose products are solutions with A, and the other way round."""

    def __init__(self, A: LinearOperator) -> None:
        super().__init__(A.shape, A.batch, A.like)
        self.A = A

    def matvec(self, v: Array) -> Array:
        return self.A.solve(v)

    def rmatvec(self, w: Array) -> Array:
        return self.A.rsolve(w)

    def solve(self, b: Array) -> Array:
        return self.A.matvec(b)

    def rsolve(self, b: Array) -> Array:
        return self.A.rmatvec(b)

    def inverse(self) -> LinearOperator:
        return self.A

    def logdet(self) -> Array:
        return -self.A.logdet()

    def _take(self, index: Array | int) -> LinearOperator:
        taken: Any = self.A.take(index)
        return type(self)(taken)


class GaussMarkov(_Inverse, Symmetric):
    """The covariance of a Gauss–Markov sequence: the inverse of its precision, a `BlockTridiagonal`.

    Products, equations, roots, determinants and variances each cost what one solution does.
    """

    A: BlockTridiagonal

    def __init__(self, precision: BlockTridiagonal) -> None:
        super().__init__(precision)

    @property
    def precision(self) -> BlockTridiagonal:
        """C⁻¹."""
        return self.A

    def sqrt(self) -> LinearOperator:
        return _Root(self.precision).inverse().T

    def diagonal(self) -> Array:
        """The variances."""
        return self.precision._diagonal_of(self.precision.inverse_blocks[0])

    def gain(self, alpha: Any, sigma: Any, factor: Any = 1.0) -> LinearOperator:
        """C (α² C + σ² I)⁻¹ = (σ² C⁻¹ + α² I)⁻¹."""
        inner = (self.precision * _number(sigma**2 / factor)).shifted(_number(alpha**2 / factor))
        return inner.inverse()

    def __mul__(self, c: Any) -> LinearOperator:
        scaled: Any = self.precision * (1 / c)
        return GaussMarkov(scaled)


class Innovations(Symmetric):
    """S = H C Hᵀ + R of a Gauss–Markov C seen by H, of which each row looks at neighbouring blocks alone.

    By the precision Λ = C⁻¹ + Hᵀ R⁻¹ H of what is seen given the data, block-tridiagonal too: S⁻¹ = R⁻¹ - R⁻¹
    H Λ⁻¹ Hᵀ R⁻¹ (Woodbury), det S = det R det Λ det C. Equations cost what those of C do, as a Kalman
    smoother's. Source: Golub & Van Loan, Matrix Computations, section 2.1.4.
    """

    def __init__(self, H: LinearOperator, C: GaussMarkov, R: LinearOperator, posterior: BlockTridiagonal):
        super().__init__((H.shape[0], H.shape[0]), None, C.like)
        self.H, self.C, self.R, self.posterior = H, C, R, posterior

    @classmethod
    def of(cls, H: LinearOperator, C: GaussMarkov, R: LinearOperator) -> "Innovations | None":
        """None where Hᵀ R⁻¹ H is not block-tridiagonal, as of an average over all times."""
        if not (H.shared and C.shared and R.shared):
            return None
        added = C.precision.fitted(lambda v: H.rmatvec(R.solve(H.matvec(v))))
        return None if added is None else cls(H, C, R, added)

    def matvec(self, v: Array) -> Array:
        return self.H.matvec(self.C.matvec(self.H.rmatvec(v))) + self.R.matvec(v)

    def solve(self, b: Array) -> Array:
        alone = self.R.solve(b)
        inside = self.posterior.solve(self.H.rmatvec(alone))
        return alone - self.R.solve(self.H.matvec(inside))

    def logdet(self) -> Array:
        return self.R.logdet() + self.posterior.logdet() + self.C.logdet()

    def _take(self, index: Array | int) -> LinearOperator:
        return self


class _Root(LinearOperator):
    """F with F Fᵀ = A, triangular in the order in which A's blocks are eliminated."""

    def __init__(self, A: BlockTridiagonal) -> None:
        super().__init__(A.shape, A.batch, A.like)
        self.A = A

    def matvec(self, v: Array) -> Array:
        return self._by(self.A.factor.product, v)

    def rmatvec(self, w: Array) -> Array:
        return self._by(self.A.factor.product_transposed, w)

    def solve(self, b: Array) -> Array:
        return self._by(self.A.factor.solve, b)

    def rsolve(self, b: Array) -> Array:
        return self._by(self.A.factor.solve_transposed, b)

    def inverse(self) -> LinearOperator:
        return _Inverse(self)

    def logdet(self) -> Array:
        return 0.5 * self.A.logdet()

    def _by(self, function: Any, v: Array) -> Array:
        return self.A._as_rows(function(self.A._in_blocks(v)), v)

    def _take(self, index: Array | int) -> LinearOperator:
        taken: Any = self.A.take(index)
        return _Root(taken)


# ---- The factor, level by level


@dataclass(frozen=True)
class _Level:
    """Blocks at odd places, eliminated: R their Cholesky factors, U = R⁻¹ A_{odd, even before} and V = R⁻¹
    A_{odd, even after}, each (..., count, b, b); rest: the factor of what is left on the even places, None
    where this is the last block, which R factors. All functions take columns (..., blocks, b, rows)."""

    R: Array
    U: Array
    V: Array
    rest: "_Level | None"

    def solve(self, r: Array) -> Array:
        """F⁻¹ r."""
        if self.rest is None:
            return _lower_solved(self.R, r)
        even, odd = r[..., ::2, :, :], r[..., 1::2, :, :]
        y = _lower_solved(self.R, odd)
        return _woven(self.rest.solve(even - self._to_even(y, even)), y)

    def solve_transposed(self, y: Array) -> Array:
        """F⁻ᵀ y."""
        if self.rest is None:
            return _lower_solved(self.R, y, True)
        x = self.rest.solve_transposed(y[..., ::2, :, :])
        return _woven(x, _lower_solved(self.R, y[..., 1::2, :, :] - self._to_odd(x), True))

    def product(self, z: Array) -> Array:
        """F z."""
        if self.rest is None:
            return _times(self.R, z)
        even, odd = z[..., ::2, :, :], z[..., 1::2, :, :]
        return _woven(self.rest.product(even) + self._to_even(odd, even), _times(self.R, odd))

    def product_transposed(self, v: Array) -> Array:
        """Fᵀ v."""
        if self.rest is None:
            return _times_transposed(self.R, v)
        even, odd = v[..., ::2, :, :], v[..., 1::2, :, :]
        return _woven(self.rest.product_transposed(even), _times_transposed(self.R, odd) + self._to_odd(even))

    def log_determinant(self) -> Array:
        """ln det F Fᵀ."""
        xp = array_namespace(self.R)
        own = 2 * xp.sum(xp.log(xp.linalg.diagonal(self.R)), axis=(-2, -1))
        return own if self.rest is None else own + self.rest.log_determinant()

    def inverse_blocks(self) -> tuple[Array, Array]:
        """Blocks of (F Fᵀ)⁻¹ along the diagonal and next to it. Source: Takahashi, Fagan & Chin 1973."""
        xp, (b,) = array_namespace(self.R), self.R.shape[-1:]
        unit = xp.broadcast_to(xp.eye(b, dtype=self.R.dtype, device=device(self.R)), self.R.shape)
        inverse = _lower_solved(self.R, unit)
        own = xp.matrix_transpose(inverse) @ inverse
        if self.rest is None:
            return own, own[..., :0, :, :]
        S, across = self.rest.inverse_blocks()  # across: of the even place after, and before
        count, following = self.R.shape[-3], self.V.shape[-3]
        G = -_lower_solved(self.R, self.U, True)
        K = -_lower_solved(self.R[..., :following, :, :], self.V, True)
        before_, after = S[..., :count, :, :], S[..., 1 : following + 1, :, :]
        to_before, g = G @ before_, G[..., :following, :, :]
        to_before = _added(to_before, K @ across)
        to_after = g @ xp.matrix_transpose(across) + K @ after
        odd = own + to_before @ xp.matrix_transpose(G)
        odd = _added(odd, to_after @ xp.matrix_transpose(K))
        next_ = _woven(to_before, xp.matrix_transpose(to_after))
        return _woven(S, odd), next_

    def _to_even(self, y: Array, even: Array) -> Array:
        """What odd places add to the even ones before and after them."""
        back = _times_transposed(self.U, y)
        ahead = _times_transposed(self.V, y[..., : self.V.shape[-3], :, :])
        return _filled(back, even.shape[-3]) + _filled(_after(ahead), even.shape[-3])

    def _to_odd(self, x: Array) -> Array:
        """What even places before and after add to the odd ones."""
        back = _times(self.U, x[..., : self.U.shape[-3], :, :])
        return _added(back, _times(self.V, x[..., 1 : self.V.shape[-3] + 1, :, :]))


def _reduced(diagonal: Array, lower: Array) -> _Level:
    xp, blocks = array_namespace(diagonal), diagonal.shape[-3]
    if blocks == 1:
        return _Level(_factors(diagonal), lower, lower, None)
    R = _factors(diagonal[..., 1::2, :, :])
    U = _lower_solved(R, lower[..., ::2, :, :])
    right = xp.matrix_transpose(lower[..., 1::2, :, :])
    V = _lower_solved(R[..., : right.shape[-3], :, :], right)
    even = diagonal[..., ::2, :, :]
    back, ahead = xp.matrix_transpose(U) @ U, xp.matrix_transpose(V) @ V
    even = even - _filled(back, even.shape[-3]) - _filled(_after(ahead), even.shape[-3])
    across = -xp.matrix_transpose(V) @ U[..., : V.shape[-3], :, :]
    return _Level(R, U, V, _reduced(even, across))


def _factors(A: Array) -> Array:
    """Cholesky factors of blocks (..., b, b)."""
    xp, b = array_namespace(A), A.shape[-1]
    if b == 1:
        positive = A > 0
        return xp.where(positive, xp.sqrt(xp.where(positive, A, 0 * A)), xp.full_like(A, math.nan))
    return xp.reshape(cholesky(xp.reshape(A, (-1, b, b))), A.shape)


def _lower_solved(R: Array, X: Array, transposed: bool = False) -> Array:
    """R⁻¹ X or R⁻ᵀ X for lower-triangular blocks R (..., b, b) and columns X (..., b, k)."""
    xp, b = array_namespace(R), R.shape[-1]
    if b == 1:
        return X / R
    leading = X.shape[:-2]
    R = xp.reshape(xp.broadcast_to(R, (*leading, b, b)), (-1, b, b))
    flat = xp.reshape(X, (-1, *X.shape[-2:]))
    found = solve_lower_transposed(R, flat) if transposed else solve_lower(R, flat)
    return xp.reshape(found, X.shape)


def _times(A: Array, X: Array) -> Array:
    return A * X if A.shape[-1] == 1 else A @ X


def _times_transposed(A: Array, X: Array) -> Array:
    return A * X if A.shape[-1] == 1 else array_namespace(A).matrix_transpose(A) @ X


def _zeros(like: Array, count: int) -> Array:
    """So many blocks of zeros."""
    xp = array_namespace(like)
    shape = (*like.shape[:-3], count, *like.shape[-2:])
    return xp.zeros(shape, dtype=like.dtype, device=device(like))


def _after(x: Array) -> Array:
    """A block of zeros, then x."""
    return array_namespace(x).concat([_zeros(x, 1), x], axis=-3)


def _ahead(x: Array) -> Array:
    """x, then a block of zeros."""
    return array_namespace(x).concat([x, _zeros(x, 1)], axis=-3)


def _filled(x: Array, count: int) -> Array:
    """x with zeros behind, up to `count` blocks."""
    missing = count - x.shape[-3]
    return x if not missing else array_namespace(x).concat([x, _zeros(x, missing)], axis=-3)


def _added(x: Array, first: Array) -> Array:
    """x with `first` added to its first blocks."""
    return x + _filled(first, x.shape[-3])


def _woven(even: Array, odd: Array) -> Array:
    """Blocks in turn; of even ones there are as many or one more."""
    xp, more = array_namespace(even), even.shape[-3] - odd.shape[-3]
    both = xp.stack([even, _filled(odd, even.shape[-3])], axis=-3)
    shape = (*even.shape[:-3], 2 * even.shape[-3], *even.shape[-2:])
    return xp.reshape(both, shape)[..., : shape[-3] - more, :, :]


def _number(c: Any) -> Any:
    """(batch, 1) as (batch,); a number as it is."""
    return c[..., 0] if getattr(c, "ndim", 0) == 2 else c
