"""A root of the inverse of a large covariance, as far as each number is known by those near to it."""

from collections.abc import Callable
from dataclasses import dataclass

from array_api_compat import device

from ..backend import Array, array_namespace, column_layers, earlier_neighbours
from ..backend.sharing import cached_property
from .operators import Positions, cholesky, solve_lower_transposed, total

NEIGHBOURS = 12  # of each number: twice as many save a tenth of the iterations, and take longer to find
ROWS = 2**14  # small matrices that are factored at once


@dataclass(frozen=True)
class NearestRoot:
    """L, sparse and lower triangular in some order, with Lᵀ L near the inverse of a covariance S.

    Row i has the weights by which number i is told from its neighbours among those before it, divided by the
    deviation that is left: L S Lᵀ has ones along its diagonal. columns, weights: of each row, (n, k + 1), the
    last of number i itself. A product takes 2 n (k + 1) operations. Source: Vecchia 1988; Kolotilina &
    Yeremin 1993 (FSAI); Schäfer, Katzfuss & Owhadi 2021.
    """

    columns: Array
    weights: Array

    @classmethod
    def of(
        cls, positions: Positions, entries: Callable[[Array, Array], Array], like: Array
    ) -> "NearestRoot | None":
        """With S_ij by entries(i, j) of index arrays that can be broadcast together; None where S is not
        positive definite to rounding. n k³ operations, and n k² numbers in blocks.

        like: as of `LinearOperator`.
        """
        xp, parts = array_namespace(like), list[Array]()
        columns, missing = earlier_neighbours(*positions, NEIGHBOURS)
        n, k = columns.shape
        unit = xp.eye(k, dtype=like.dtype, device=device(like))
        for first in range(0, n, ROWS):
            own, gone = (part[first : min(first + ROWS, n), :] for part in (columns, missing))
            matrix = entries(own[:, :, None], own[:, None, :])
            matrix = xp.where(gone[:, :, None] | gone[:, None, :], unit, matrix)
            last = xp.broadcast_to(unit[:, k - 1 :], (own.shape[0], k, 1))
            weights = solve_lower_transposed(cholesky(matrix), last)[..., 0]
            parts.append(xp.where(gone, xp.zeros_like(weights), weights))
        weights = xp.concat(parts)
        return cls(columns, weights) if bool(xp.all(xp.isfinite(weights))) else None

    def matvec(self, v: Array) -> Array:
        """L v of rows (..., n)."""
        take = array_namespace(v).take
        places = range(self.columns.shape[1])
        return total(self.weights[:, j] * take(v, self.columns[:, j], axis=-1) for j in places)

    def rmatvec(self, w: Array) -> Array:
        """Lᵀ w of rows."""
        xp, (place, layers) = array_namespace(w), self._transposed
        rows, weights = layers[-1]
        found = weights * xp.take(w, rows, axis=-1)
        for rows, weights in reversed(layers[:-1]):
            part, done = weights * xp.take(w, rows, axis=-1), found.shape[-1]
            found = xp.concat([found + part[..., :done], part[..., done:]], axis=-1)
        return xp.take(found, place, axis=-1)

    def near_inverse(self, v: Array) -> Array:
        """Lᵀ L v of rows, near S⁻¹ v."""
        return self.rmatvec(self.matvec(v))

    def logdet(self) -> Array:
        """ln det L, ()."""
        xp = array_namespace(self.weights)
        return xp.sum(xp.log(self.weights[:, -1]))

    @cached_property
    def _transposed(self) -> tuple[Array, list[tuple[Array, Array]]]:
        return column_layers(self.columns, self.weights)
