"""y = H x_0 + noise, or H x_0 = y without any."""

from typing import Any

from ..backend import Array, Backend, real_number, require_arrays
from ..linalg import Diagonal, LinearOperator, Selection
from .observation import (
    Linearisation,
    Observation,
    SiteApproximation,
    checked_operator,
    entries,
    matched,
    noise_covariance,
    observed_numbers,
)


class AffineObservation(Observation):
    """What H x_0 and y, with noise of a constant covariance or with none, have in common.

    `jacobian`: H of what was observed; `noise`: R.
    """

    is_linear = True
    is_gaussian = True
    jacobian: LinearOperator
    noise: LinearOperator

    def _hold(self, H: Array | LinearOperator, y: Array, **arrays: Any) -> tuple[Backend, Selection]:
        """Check H and y; keep what was observed of them. Raises: as the subclass."""
        given = H.like if isinstance(H, LinearOperator) else H
        self.backend = require_arrays(type(self).__name__, H=given, y=y, **arrays)
        if H is None or y is None:
            raise TypeError("H and y must be arrays, (observations, dim) and (observations,); got None")
        operator = checked_operator(H, y)
        if not operator.shared:
            raise ValueError(f"the operator H must be one for all rows of x_0; got {operator!r}")
        observed = observed_numbers(self.backend, y)
        all_seen = observed.shape[0] == observed.shape[1]
        self.jacobian = operator if all_seen else operator.rows(observed.index)
        self.y = observed.matvec(y)
        self.dim = operator.shape[1]
        return self.backend, observed

    @property
    def H(self) -> Array:
        """All entries of the operator, (observed, dim)."""
        return self.jacobian.dense()

    @property
    def R(self) -> Array:
        """Variances (observed,), or the covariance (observed, observed)."""
        return entries(self.noise)

    def linearise(self, x0: Array) -> Linearisation:
        return Linearisation(self.jacobian.matvec(x0), self.jacobian)

    def site_approximation(self, linear: Linearisation, variance: Array) -> SiteApproximation:
        return SiteApproximation(matched(self.y, linear.predicted.shape[0]), self.noise)

    def with_data(self, y: Array) -> "AffineObservation":
        return self._of_data(y)


class LinearGaussian(AffineObservation):
    """y = H x_0 + noise, noise ~ N(0, R).

    H: (observations, dim), an array or a `linalg.LinearOperator`; y: (observations,), where NaN means not
    observed, and the row is left out; R: a variance for all (a float), variances (observations,), a
    covariance (observations, observations), positive definite, or an operator. One backend and dtype.

    Raises: ValueError for shapes that do not fit, infinite data, H that is not finite or R that is not
    positive definite, as far as entries are at hand; BackendMismatch; TypeError for another dtype.
    """

    def __init__(self, H: Array | LinearOperator, y: Array, R: Any) -> None:
        given = R.like if isinstance(R, LinearOperator) else None if real_number(R) is not None else R
        backend, observed = self._hold(H, y, R=given)
        self.noise = noise_covariance(backend, R, observed)

    def log_prob(self, x0: Array) -> Array:
        return self.noise.log_normal(matched(self.y, x0.shape[0]) - self.jacobian.matvec(x0))


class LinearConstraint(AffineObservation):
    """H x_0 = y exactly: a hard constraint, the limit of `LinearGaussian` for R → 0.

    H: (observations, dim) of full row rank; y: (observations,), where NaN means not observed, and the
    row is left out. One backend and dtype. The site approximation has R = 0; y given x_0 has no density.

    Raises: ValueError for shapes that do not fit, infinite data, H that is not finite or whose rows
    depend on one another; BackendMismatch; TypeError for another dtype.
    """

    hard = True

    def __init__(self, H: Array | LinearOperator, y: Array) -> None:
        self._hold(H, y)
        self.noise = Diagonal(0 * self.y)
        if self.count:
            self._check_rank()

    def log_prob(self, x0: Array) -> Array:
        raise TypeError(
            "y = H x_0 without noise has no density given x_0; use LinearGaussian with a small variance "
            "where a density is needed"
        )

    def _check_rank(self) -> None:
        xp, H, (count, dim) = self.backend.xp, self.H, self.jacobian.shape
        # the unit of a row is arbitrary, and does not make it dependent
        lengths = xp.sqrt(xp.sum(H * H, axis=1, keepdims=True))
        unit = H / xp.where(lengths > 0, lengths, xp.ones_like(lengths))
        limit = 10 * max(count, dim) * float(xp.finfo(H.dtype).eps)
        smallest = float(xp.min(xp.linalg.svdvals(unit))) if count <= dim else 0.0
        if not smallest > limit:
            raise ValueError(
                f"the {count} rows of H in a constraint on {dim} numbers depend on one another; leave out "
                "the rows that the others imply"
            )
