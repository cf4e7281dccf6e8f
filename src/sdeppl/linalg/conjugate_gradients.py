"""Conjugate gradients, row by row."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..backend import Array, all_without_sync, array_namespace


def conjugate_gradients(
    product: Callable[[Array], tuple[Array, Array]],
    right: Array,
    tolerance: float,
    iterations: int,
    precondition: Callable[[Array], Array] | None = None,
    learned: bool = False,
) -> Array:
    """What `iterated` solves, without the number of iterations."""
    return iterated(product, right, tolerance, iterations, precondition, learned)[0]


def iterated(
    product: Callable[[Array], tuple[Array, Array]],
    right: Array,
    tolerance: float,
    iterations: int,
    precondition: Callable[[Array], Array] | None = None,
    learned: bool = False,
    look: int = 0,
) -> tuple[Array, int]:
    """A v for the v with S_i v_i = r_i in each row i, S_i symmetric positive definite, A linear; and how many
    iterations were made.

    product: v ↦ (S v, A v) row by row; right: (batch, n); a row stops moving once its residual is below
    tolerance × |r_i|, and where the host can see at no cost that all have stopped, so do the products.
    precondition: r ↦ P r row by row, with P positive definite and near S⁻¹; the iterations are then as
    many as P S has distinct eigenvalues, nearly. Rows that have not got there after `iterations`, or
    that meet a direction along which S is not positive, are NaN, never a wrong number.

    learned: S is a network's, and so neither quite symmetric nor positive along every direction. A row then
    stops where S is not positive, as trust-region methods do, and gives the v of its smallest residual: 0
    at worst, never NaN. look: after how many iterations it is seen whether all rows have stopped, even where
    the host must wait for a device to see it; 0 for never there. Source: Golub & Van Loan, Matrix
    Computations, algorithms 11.3.3 and 11.5.1; Steihaug 1983, for stopping at negative curvature.
    """
    xp = array_namespace(right)
    rows = _Rows.start(right, tolerance, precondition)
    wanted: Any = 0.0
    best, least = wanted, rows.squared
    for count in range(iterations + 1):
        seen = bool(look) and count % look == 0 and not bool(xp.any(rows.going))
        if seen or count == iterations or all_without_sync(~rows.going):
            break
        image, mapped = product(rows.direction)
        step, rows = rows.moved(image, precondition, learned)
        wanted = wanted + step * mapped
        if learned:
            better = rows.squared < least
            best, least = xp.where(better, wanted, best), xp.where(better, rows.squared, least)
    if isinstance(wanted, float):  # nothing to solve, or no iteration allowed
        wanted = best = 0 * product(right)[1]
    if learned:
        return best, count
    return xp.where(rows.squared <= rows.goal, wanted, xp.nan * rows.one), count


@dataclass(frozen=True)
class _Rows:
    """Where each row stands: whether it still goes, r, the direction, r·r and r·P r; numbers (batch, 1)."""

    goal: Array
    going: Array
    residual: Array
    direction: Array
    squared: Array
    along: Array
    one: Array

    @classmethod
    def start(cls, right: Array, tolerance: float, precondition: Callable[[Array], Array] | None) -> "_Rows":
        near = right if precondition is None else precondition(right)
        squared, one = _dot(right, right), array_namespace(right).ones_like(right[:, :1])
        goal = tolerance**2 * squared
        return cls(goal, squared > goal, right, near, squared, _dot(right, near), one)

    def moved(
        self, image: Array, precondition: Callable[[Array], Array] | None, learned: bool
    ) -> tuple[Array, "_Rows"]:
        """The step along the direction, 0 for rows that have stopped, and where they are then."""
        xp, one = array_namespace(image), self.one
        curvature = _dot(self.direction, image)
        positive = curvature > 0
        going = self.going & positive if learned else self.going
        # NaN where the curvature is not positive; it stays NaN
        length = xp.where(positive, self.along / xp.where(positive, curvature, one), xp.nan * one)
        step = xp.where(going, length, 0 * one)
        residual = self.residual - step * image
        near = residual if precondition is None else precondition(residual)
        next_along = _dot(residual, near)
        # a row that has stopped keeps its direction, which would grow without bound otherwise
        ratio = next_along / xp.where(going, self.along, one)
        direction = xp.where(going, near + ratio * self.direction, self.direction)
        squared = xp.where(going, _dot(residual, residual), self.squared)
        along = xp.where(going, next_along, self.along)
        return step, _Rows(self.goal, going & (squared > self.goal), residual, direction, squared, along, one)


def _dot(a: Array, b: Array) -> Array:
    """Σ a b of each row, (batch, 1)."""
    return array_namespace(a).sum(a * b, axis=-1, keepdims=True)
