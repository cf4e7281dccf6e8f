"""Operators whose structure is worth more than their entries: eigenvectors, low rank, blocks, stacks."""

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any

from array_api_compat import device

from ..backend import Array, array_namespace
from ..backend.sharing import cached_property
from .operators import (
    Dense,
    Diagonal,
    Diagonalisable,
    LinearOperator,
    Positions,
    Symmetric,
    Triangular,
    cholesky,
    chosen,
    common_batch,
    log_size,
    matvec,
    rmatvec,
    row_by_row,
    scaled_identity,
    total,
)


class Subspace(LinearOperator):
    """Q inner Qᵀ + across (I - Q Qᵀ): any operator on few directions, a multiple of I across them.

    Q: (n, q), orthonormal columns; inner: an operator of q numbers; across: a number or an array ().
    """

    def __init__(self, Q: Array, inner: LinearOperator, across: Any) -> None:
        super().__init__((Q.shape[0], Q.shape[0]), inner.batch, Q)
        self.Q, self.inner, self.across = Q, inner, across

    def matvec(self, v: Array) -> Array:
        along = v @ self.Q
        return self.across * v + (self.inner.matvec(along) - self.across * along) @ self.Q.T

    def rmatvec(self, w: Array) -> Array:
        return self.T.matvec(w)

    def matmat(self, M: Array) -> Array:
        along = self.Q.T @ M
        return self.across * M + self.Q @ (self.inner.matmat(along) - self.across * along)

    def solve(self, b: Array) -> Array:
        along = b @ self.Q
        return b / self.across + (self.inner.solve(along) - along / self.across) @ self.Q.T

    def rsolve(self, b: Array) -> Array:
        return self.T.solve(b)

    def solve_columns(self, M: Array) -> Array:
        along = self.Q.T @ M
        return M / self.across + self.Q @ (self.inner.solve_columns(along) - along / self.across)

    def sqrt(self) -> LinearOperator:
        return Subspace(self.Q, self.inner.sqrt(), self.across**0.5)

    def logdet(self) -> Array:
        rest = self.Q.shape[0] - self.Q.shape[1]
        return self.inner.logdet() + rest * log_size(self.across)

    def shifted(self, c: Any) -> LinearOperator:
        shifted = super().shifted(c) if getattr(c, "ndim", 0) else None
        return shifted or Subspace(self.Q, self.inner.shifted(c), self.across + c)

    def __mul__(self, c: Any) -> LinearOperator:
        scaled = super().__mul__(c) if getattr(c, "ndim", 0) else None
        return scaled or Subspace(self.Q, self.inner * c, c * self.across)

    @property
    def T(self) -> LinearOperator:
        """With the transposed inner one."""
        return Subspace(self.Q, self.inner.T, self.across)

    def _take(self, index: Array | int) -> LinearOperator:
        return Subspace(self.Q, self.inner.take(index), self.across)


class LowRankUpdate(Symmetric):
    """D + U K⁻¹ Uᵀ, as of low rank plus diagonal: D a symmetric operator whose equations are easy.

    U: (n, q) or (batch, n, q); K: symmetric positive definite, (q, q) or (batch, q, q), None for I.
    `solve` by Woodbury's identity and `logdet` by the lemma of its name cost q² n beside D's; `sqrt` takes
    the eigenvectors of a q × q matrix. Source: Golub & Van Loan, Matrix Computations, section 2.1.4.
    """

    def __init__(self, D: LinearOperator, U: Array, K: Array | None = None) -> None:
        own = (part.shape[0] if part is not None and part.ndim == 3 else None for part in (U, K))
        super().__init__(D.shape, common_batch(D.batch, *own), U)
        self.D, self.U = D, U
        self.K = scaled_identity(1.0, U.shape[-1], U).dense() if K is None else K

    def matvec(self, v: Array) -> Array:
        inside = row_by_row(array_namespace(v).linalg.solve, self.K, rmatvec(self.U, v))
        return self.D.matvec(v) + matvec(self.U, inside)

    def dense(self) -> Array:
        self._identity()
        xp = array_namespace(self.U)
        inside = xp.linalg.solve(self.K, xp.matrix_transpose(self.U))
        return self.D.added_to(self.U @ inside)

    def solve(self, b: Array) -> Array:
        xp = array_namespace(b)
        scaled = self.D.solve_columns(self.U)
        inner = self.K + xp.matrix_transpose(self.U) @ scaled
        alone = self.D.solve(b)
        return alone - matvec(scaled, row_by_row(xp.linalg.solve, inner, rmatvec(self.U, alone)))

    def sqrt(self) -> LinearOperator:
        """D^½ (I + W G Wᵀ) with W Wᵀ = D^-½ U K⁻¹ Uᵀ D^-½: the root of I + W Wᵀ is symmetric."""
        xp, root = array_namespace(self.U), self.D.sqrt()
        white = root.solve_columns(self.U)
        factor = Triangular(cholesky(self.K))
        W = xp.matrix_transpose(factor.solve_columns(xp.matrix_transpose(white)))
        values, basis = xp.linalg.eigh(xp.matrix_transpose(W) @ W)
        core = (basis * (xp.sqrt(1 + xp.clip(values, min=0.0)) + 1)[..., None, :]) @ xp.matrix_transpose(
            basis
        )
        unit = scaled_identity(1.0, self.shape[0], self.like)
        return root @ LowRankUpdate(unit, W, core)

    def logdet(self) -> Array:
        xp = array_namespace(self.U)
        inner = self.K + xp.matrix_transpose(self.U) @ self.D.solve_columns(self.U)
        grown = xp.linalg.slogdet(inner).logabsdet - xp.linalg.slogdet(self.K).logabsdet
        return self.D.logdet() + grown

    def diagonal(self) -> Array:
        xp = array_namespace(self.U)
        inside = xp.linalg.solve(self.K, xp.matrix_transpose(self.U))
        return self.D.diagonal() + xp.sum(self.U * xp.matrix_transpose(inside), axis=-1)

    def block(self, index: Array | slice) -> LinearOperator:
        if isinstance(index, slice):
            U = self.U[..., index, :]
        else:
            U = array_namespace(self.U).take(self.U, index, axis=-2)
        return LowRankUpdate(self.D.block(index), U, self.K)

    def shifted(self, c: Any) -> LinearOperator:
        return LowRankUpdate(self.D.shifted(c), self.U, self.K)

    def _take(self, index: Array | int) -> LinearOperator:
        return LowRankUpdate(self.D.take(index), chosen(self.U, index, 2), chosen(self.K, index, 2))


class _Parts(LinearOperator):
    """Several operators, whose results are put one after the other."""

    def __init__(self, shape: tuple[int, int], parts: Sequence[LinearOperator]) -> None:
        super().__init__(shape, common_batch(*(part.batch for part in parts)), parts[0].like)
        ends = accumulate((part.shape[0] for part in parts), initial=0)
        self.parts, self.places = tuple(parts), [slice(*pair) for pair in pairwise(ends)]
        self.materialised = all(part.materialised for part in parts)


class BlockDiagonal(_Parts):
    """Square operators along the diagonal, of numbers that are put one after the other."""

    def __init__(self, parts: Sequence[LinearOperator]) -> None:
        n = sum(part.shape[0] for part in parts)
        super().__init__((n, n), parts)
        self.is_diagonal = all(part.is_diagonal for part in parts)

    def matvec(self, v: Array) -> Array:
        return self._each(lambda part, own: part.matvec(own), v)

    def rmatvec(self, w: Array) -> Array:
        return self._each(lambda part, own: part.rmatvec(own), w)

    def dense(self) -> Array:
        xp, n, rows = array_namespace(self.like), self.shape[0], []
        for part, place in zip(self.parts, self.places, strict=True):
            block = _repeated(part.dense(), self.batch, 2)
            before, after = (
                xp.zeros((*block.shape[:-1], size), dtype=block.dtype, device=device(block))
                for size in (place.start, n - place.stop)
            )
            rows.append(xp.concat([before, block, after], axis=-1))
        return xp.concat(rows, axis=-2)

    def diagonal(self) -> Array:
        parts = [_repeated(part.diagonal(), self.batch, 1) for part in self.parts]
        return array_namespace(self.like).concat(parts, axis=-1)

    def solve(self, b: Array) -> Array:
        return self._each(lambda part, own: part.solve(own), b)

    def rsolve(self, b: Array) -> Array:
        return self._each(lambda part, own: part.rsolve(own), b)

    def sqrt(self) -> LinearOperator:
        return BlockDiagonal([part.sqrt() for part in self.parts])

    def logdet(self) -> Array:
        return total(part.logdet() for part in self.parts)

    @property
    def T(self) -> LinearOperator:
        """The transposed blocks."""
        return BlockDiagonal([part.T for part in self.parts])

    def _each(self, function: Callable[[LinearOperator, Array], Array], v: Array) -> Array:
        pairs = zip(self.parts, self.places, strict=True)
        return array_namespace(v).concat([function(part, v[..., place]) for part, place in pairs], axis=-1)

    def _take(self, index: Array | int) -> LinearOperator:
        return BlockDiagonal([part.take(index) for part in self.parts])


class Blocks(Symmetric):
    """Covariances, each of some of n numbers that are independent of the others: all goes part by part.

    parts: symmetric operators; places: of each the slices of the n numbers that it acts on, one after the
    other, which together are all of them once; by default parts follow one another. A product costs what
    those of the parts do.

    Raises: ValueError where parts and places do not fit.
    """

    def __init__(
        self, parts: Sequence[LinearOperator], places: Sequence[Sequence[slice]] | None = None
    ) -> None:
        if places is None:
            ends = accumulate((part.shape[0] for part in parts), initial=0)
            places = [[slice(*pair)] for pair in pairwise(ends)]
        n = sum(part.shape[0] for part in parts)
        super().__init__((n, n), common_batch(*(part.batch for part in parts)), parts[0].like)
        self.parts, self.places = tuple(parts), tuple(tuple(place) for place in places)
        sizes = [sum(one.stop - one.start for one in place) for place in self.places]
        pieces = sorted((one.start, one.stop) for place in self.places for one in place)
        follows = [stop for _, stop in pieces[:-1]] == [start for start, _ in pieces[1:]]
        whole = bool(pieces) and pieces[0][0] == 0 and pieces[-1][1] == n
        if sizes != [part.shape[0] for part in parts] or not (follows and whole):
            raise ValueError(f"blocks of {[part.shape[0] for part in parts]} numbers do not fill {places}")

    def matvec(self, v: Array) -> Array:
        return self._by_parts(lambda part, own: part.matvec(own), v)

    def solve(self, b: Array) -> Array:
        return self._by_parts(lambda part, own: part.solve(own), b)

    def whiten(self, v: Array) -> Array:
        return self._by_parts(lambda part, own: part.whiten(own), v)

    def whiten_adjoint(self, w: Array) -> Array:
        return self._by_parts(lambda part, own: part.whiten_adjoint(own), w)

    def inverse(self) -> LinearOperator:
        return self._of([part.inverse() for part in self.parts])

    def sqrt(self) -> LinearOperator:
        return self._of([part.sqrt() for part in self.parts])

    def gain(self, alpha: Any, sigma: Any, factor: Any = 1.0) -> LinearOperator:
        return self._of([part.gain(alpha, sigma, factor) for part in self.parts])

    def shifted(self, c: Any) -> LinearOperator:
        return self._of([part.shifted(c) for part in self.parts])

    def __mul__(self, c: Any) -> LinearOperator:
        return self._of([part * c for part in self.parts])

    def diagonal(self) -> Array:
        return self._joined([_repeated(part.diagonal(), self.batch, 1) for part in self.parts])

    def logdet(self) -> Array:
        return total(part.logdet() for part in self.parts)

    def block(self, index: Array | slice) -> LinearOperator:
        """All its entries, those of each part by that part's own `block`."""
        if not self.shared or isinstance(index, slice):
            return super().block(index)
        xp = array_namespace(self.like)
        owner, number = self._owners
        mine, blocks = xp.take(owner, index), []
        chosen = [xp.nonzero(mine == k)[0] for k in range(len(self.parts))]
        for part, own in zip(self.parts, chosen, strict=True):
            if own.shape[0]:
                blocks.append(part.block(xp.take(number, xp.take(index, own))))
        if len(blocks) == 1:
            return blocks[0]
        back = xp.argsort(xp.concat(chosen))
        together = BlockDiagonal(blocks).dense()
        return Dense(xp.take(xp.take(together, back, axis=0), back, axis=1))

    def positions(self, index: Array) -> Positions | None:
        """Where all numbers are of one part."""
        if len(self.parts) > 1 or len(self.places[0]) > 1:
            return None
        return self.parts[0].positions(index)

    def entries(self, rows: Array, columns: Array) -> Array:
        return self.parts[0].entries(rows, columns)

    @cached_property
    def _owners(self) -> tuple[Array, Array]:
        """Of each of the n numbers its part, and its number there."""
        xp, like = array_namespace(self.like), self.like
        runs, starts = [], [0] * len(self.parts)
        for k, place in enumerate(self.places):
            for one in place:
                runs.append((one.start, one.stop - one.start, k, starts[k]))
                starts[k] += one.stop - one.start
        owners, numbers = [], []
        for _, size, k, first in sorted(runs):
            numbers.append(xp.arange(first, first + size, dtype=xp.int64, device=device(like)))
            owners.append(k * xp.ones_like(numbers[-1]))
        return xp.concat(owners), xp.concat(numbers)

    def _by_parts(self, function: Callable[[LinearOperator, Array], Array], v: Array) -> Array:
        return self._joined(
            [function(part, own) for part, own in zip(self.parts, self._split(v), strict=True)]
        )

    def _of(self, parts: Sequence[LinearOperator]) -> LinearOperator:
        return blocks_in_places(parts, self.places)

    def _split(self, v: Array) -> list[Array]:
        """The numbers of each part."""
        xp = array_namespace(v)
        pieces = [[v[..., one] for one in place] for place in self.places]
        return [piece[0] if len(piece) == 1 else xp.concat(piece, axis=-1) for piece in pieces]

    def _joined(self, parts: Sequence[Array]) -> Array:
        """Of the numbers of each part, all in their places."""
        pieces: list[tuple[int, Array]] = []
        for part, place in zip(parts, self.places, strict=True):
            first = 0
            for one in place:
                last = first + one.stop - one.start
                pieces.append((one.start, part[..., first:last]))
                first = last
        ordered = [piece for _, piece in sorted(pieces, key=lambda pair: pair[0])]
        return ordered[0] if len(ordered) == 1 else array_namespace(self.like).concat(ordered, axis=-1)

    def _take(self, index: Array | int) -> LinearOperator:
        return self._of([part.take(index) for part in self.parts])


class DiagonalisableBlocks(Blocks, Diagonalisable):  # type: ignore[misc]  # mypy: overrides of both bases
    """`Blocks` of diagonalisable operators: f(A) acts on each part by itself. Eigenvalues are those of the
    parts, in their order."""

    parts: tuple[Diagonalisable, ...]

    @cached_property
    def eigenvalues(self) -> Array:
        """Of the parts, one after the other, as `inside` has its numbers."""
        pairs = zip(self.parts, self._coordinates, strict=True)
        xp, values = array_namespace(self.like), []
        for part, count in pairs:
            own = part.eigenvalues
            values.append(xp.broadcast_to(own, (*own.shape[:-1], count)))
        return xp.concat([_repeated(own, self.batch, 1) for own in values], axis=-1)

    def inside(self, v: Array) -> Array:
        pairs = zip(self.parts, self._split(v), strict=True)
        return array_namespace(v).concat([part.inside(own) for part, own in pairs], axis=-1)

    def outside(self, u: Array) -> Array:
        pairs = zip(self.parts, pairwise(accumulate(self._coordinates, initial=0)), strict=True)
        return self._joined([part.outside(u[..., first:last]) for part, (first, last) in pairs])

    def map(self, function: Callable[[Array], Array]) -> "DiagonalisableBlocks":
        return DiagonalisableBlocks([part.map(function) for part in self.parts], self.places)

    @cached_property
    def _coordinates(self) -> list[int]:
        """How many numbers `inside` gives for each part."""
        like, xp = self.like, array_namespace(self.like)
        sizes = [1 if part.batch is None else part.batch for part in self.parts]
        shapes = [(rows, part.shape[0]) for rows, part in zip(sizes, self.parts, strict=True)]
        nothing = [xp.zeros(shape, dtype=like.dtype, device=device(like)) for shape in shapes]
        return [part.inside(zero).shape[-1] for part, zero in zip(self.parts, nothing, strict=True)]


def blocks_in_places(
    parts: Sequence[LinearOperator], places: Sequence[Sequence[slice]] | None = None
) -> LinearOperator:
    """`Blocks`, diagonalisable where all parts are; a part that is alone, by itself."""
    if len(parts) == 1:
        return parts[0]
    kept = [part for part in parts if isinstance(part, Diagonalisable)]
    return DiagonalisableBlocks(kept, places) if len(kept) == len(parts) else Blocks(parts, places)


class Stack(_Parts):
    """Operators on the same numbers, their results one after the other."""

    def __init__(self, parts: Sequence[LinearOperator]) -> None:
        super().__init__((sum(part.shape[0] for part in parts), parts[0].shape[1]), parts)

    def matvec(self, v: Array) -> Array:
        return array_namespace(v).concat([part.matvec(v) for part in self.parts], axis=-1)

    def rmatvec(self, w: Array) -> Array:
        pairs = zip(self.parts, self.places, strict=True)
        return total(part.rmatvec(w[..., place]) for part, place in pairs)

    @property
    def single_entries(self) -> tuple[Array, Array] | None:
        """Those of the parts."""
        found = [part.single_entries for part in self.parts]
        known = [one for one in found if one is not None]
        if len(known) < len(found):
            return None
        concat = array_namespace(self.like).concat
        return concat([places for places, _ in known]), concat([values for _, values in known])

    def dense(self) -> Array:
        parts = [_repeated(part.dense(), self.batch, 2) for part in self.parts]
        return array_namespace(self.like).concat(parts, axis=-2)

    def _take(self, index: Array | int) -> LinearOperator:
        return Stack([part.take(index) for part in self.parts])


def stacked(parts: Sequence[LinearOperator]) -> LinearOperator:
    """`Stack`, as one matrix where all entries are at hand."""
    stack = Stack(parts)
    return Dense(stack.dense()) if stack.materialised else stack


def block_diagonal(parts: Sequence[LinearOperator]) -> LinearOperator:
    """`BlockDiagonal`, as `Diagonal` where all parts are."""
    blocks = BlockDiagonal(parts)
    return Diagonal(blocks.diagonal()) if blocks.is_diagonal else blocks


def _repeated(array: Array, batch: int | None, axes: int) -> Array:
    """An array of `axes` axes with the leading one that others have."""
    if batch is None or array.ndim > axes:
        return array
    return array_namespace(array).broadcast_to(array, (batch, *array.shape))
