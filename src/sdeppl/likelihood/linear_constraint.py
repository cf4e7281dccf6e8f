"""H x_0 = y, without noise."""

import copy
from typing import Any

from ..backend import require_arrays
from .data_sets import checked_data, matched
from .linear_gaussian import require_operator
from .normal_noise import observed_rows
from .observation import Linearisation, Observation, SiteApproximation


class LinearConstraint(Observation):
    """H x_0 = y exactly: a hard constraint, the limit of `LinearGaussian` for R → 0.

    H: (observations, dim) of full row rank; y: (observations,), where NaN means not observed, and the
    row is left out. One backend and dtype. The surrogate has R = 0; y given x_0 has no density.

    Raises: ValueError for shapes that do not fit, infinite data, H that is not finite or whose rows
    depend on one another; BackendMismatch; TypeError for another dtype.
    """

    is_linear = True
    is_gaussian = True
    hard = True

    def __init__(self, H: Any, y: Any) -> None:
        self.backend = require_arrays(type(self).__name__, H=H, y=y)
        xp = self.backend.xp
        require_operator(xp, H, y)
        observed = observed_rows(self.backend, y)
        self.H, self.y = xp.take(H, observed, axis=0), xp.take(y, observed, axis=0)
        self.dim = H.shape[1]
        self.R = xp.zeros_like(self.y)
        if self.count:
            self._check_rank()

    def log_prob(self, x0: Any) -> Any:
        raise TypeError(
            "y = H x_0 without noise has no density given x_0; use LinearGaussian with a small variance "
            "where a density is needed"
        )

    def linearise(self, x0: Any) -> Linearisation:
        return Linearisation(x0 @ self.H.T, self.H)

    def site_approximation(self, linear: Linearisation, variance: Any) -> SiteApproximation:
        return SiteApproximation(matched(self.y, linear.predicted.shape[0]), self.R, 0.0, True)

    def with_data(self, y: Any) -> "LinearConstraint":
        other = copy.copy(self)
        other.y = checked_data(type(self).__name__, y, self.y, self.count)
        return other

    def _check_rank(self) -> None:
        xp, (count, dim) = self.backend.xp, self.H.shape
        # the unit of a row is arbitrary, and does not make it dependent
        lengths = xp.sqrt(xp.sum(self.H * self.H, axis=1, keepdims=True))
        unit = self.H / xp.where(lengths > 0, lengths, xp.ones_like(lengths))
        limit = 10 * max(count, dim) * float(xp.finfo(self.H.dtype).eps)
        smallest = float(xp.min(xp.linalg.svdvals(unit))) if count <= dim else 0.0
        if not smallest > limit:
            raise ValueError(
                f"the {count} rows of H in a constraint on {dim} numbers depend on one another; leave out "
                "the rows that the others imply"
            )
