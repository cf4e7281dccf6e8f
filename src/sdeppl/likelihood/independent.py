"""Numbers y_i that are independent given their predictors η_i, with any distribution."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ..backend import Array, Backend, backend_of, real_number, require_arrays, require_same, whole_number
from ..linalg import Diagonal, LinearOperator, Selection
from .families import ConvolvedFamily, Family
from .observation import (
    Bend,
    Linearisation,
    NotDifferentiable,
    Observation,
    SiteApproximation,
    checked_operator,
    matched,
    observed_numbers,
    possible,
)
from .tilted_moments import Quadrature, gaussian_of, mode_bracket

BLOCK = 2**18  # numbers in the largest intermediate array, as long as a row of x_0 allows it


class Predictor(ABC):
    """η(x_0), (batch, dim) to (batch, observations), and its Jacobian."""

    has_jacobian: bool = True

    @abstractmethod
    def value(self, x0: Array) -> Array:
        """η(x_0)."""

    @abstractmethod
    def linearise(self, x0: Array) -> Linearisation:
        """η and its Jacobian. Raises: NotDifferentiable where there is none."""

    def bend(self, x0: Array, of_H: Array | None) -> Array | None:
        """As `Observation.bend`, or None where nothing is better than its differences."""
        return None


@dataclass(frozen=True)
class LinearPredictor(Predictor):
    """η = H x_0 + offset: H of (observations, dim), offset (observations,)."""

    jacobian: LinearOperator
    offset: Array

    @property
    def H(self) -> Array:
        """All entries of the operator."""
        return self.jacobian.dense()

    def value(self, x0: Array) -> Array:
        return self.jacobian.matvec(x0) + self.offset

    def linearise(self, x0: Array) -> Linearisation:
        return Linearisation(self.value(x0), self.jacobian)


class FunctionPredictor(Predictor):
    """function: x_0 ↦ η of all rows and its Jacobian (batch, observations, dim); `value` without it.

    Either may be None; observed: those that were; slopes: as `bend` of `IndependentObservation`, or None.
    """

    def __init__(
        self,
        function: Callable[[Array], tuple[Array, Array]] | None,
        value: Callable[[Array], Array] | None,
        observed: Selection,
        slopes: Bend | None = None,
    ) -> None:
        self.function, self.plain, self.observed, self.slopes = function, value, observed, slopes
        self.has_jacobian = function is not None

    def bend(self, x0: Array, of_H: Array | None) -> Array | None:
        if self.slopes is None:
            return None
        return self.slopes(x0, None if of_H is None else self.observed.T.matmat(of_H), None)

    def value(self, x0: Array) -> Array:
        if self.plain is None:
            return self.linearise(x0).predicted
        return self.observed.matvec(self.plain(x0))

    def linearise(self, x0: Array) -> Linearisation:
        if self.function is None:
            raise NotDifferentiable(
                "the predictor was given without its Jacobian; use likelihood='monte-carlo', which needs none"
            )
        predicted, jacobian = self.function(x0)
        return Linearisation(self.observed.matvec(predicted), self.observed.matmat(jacobian))


class IndependentObservation(Observation):
    """p(y given x_0) = Π_i p(y_i given η_i), with a predictor η_i(x_0) for each number.

    log_density: (eta, y) ↦ ln p(y_i given η_i), elementwise, eta (..., observations) and y (observations,):
    one of `sdeppl.likelihood.families`, such as Poisson(), or any function; it sees only the rows that were
    observed. y: (observations,), where NaN means not observed; whole numbers may be integers.
    η = H x_0 + offset with H (observations, dim) and offset (observations,), a number or None; or function:
    x_0 (batch, dim) ↦ η (batch, observations) and its Jacobian (batch, observations, dim), with dim, the
    numbers in x_0, and y of a real dtype. value: x_0 ↦ η alone, where that is cheaper, or all that there is.
    bend: (x_0, of_H, None) ↦ as `Observation.bend`, of all rows, where something beats its differences.

    The surrogate has the value and the slope of ln ∫ p(y_i given η_i) N(η_i; predicted_i, v_i) dη_i, and its
    curvature where that is negative: in closed form or by a one-dimensional rule of the family's own, else
    by a trapezoidal rule of `nodes` nodes about the peak, see `Quadrature`.

    Raises: ValueError for shapes that do not fit and data outside the support; BackendMismatch; TypeError for
    another dtype, and where not exactly one predictor is given.
    Source: Zoeter & Heskes 2005 (Gaussian quadrature in expectation propagation).
    """

    def __init__(
        self,
        log_density: Callable[[Array, Array], Array],
        y: Array,
        *,
        H: Array | LinearOperator | None = None,
        offset: Array | float | None = None,
        function: Callable[[Array], tuple[Array, Array]] | None = None,
        value: Callable[[Array], Array] | None = None,
        dim: int | None = None,
        nodes: int = 32,
        bend: Bend | None = None,
    ) -> None:
        name = type(self).__name__
        if (H is None) == (function is None and value is None):
            raise TypeError(f"{name} takes either H or a function (or its value alone) for the predictor")
        nodes = whole_number(f"{name}: nodes", nodes, 8)
        dim = None if dim is None else whole_number(f"{name}: dim", dim, 1)
        if y.ndim != 1:
            raise ValueError(f"{name}: y must be (observations,); got {tuple(y.shape)}")
        self.backend, y = _common(name, y, H)
        observed = observed_numbers(self.backend, y)
        self.predictor: Predictor
        if H is not None:
            operator = checked_operator(H, y)
            self.predictor, self.dim = _linear(name, self.backend, operator, offset, observed), H.shape[1]
        elif dim is None or offset is not None:
            raise TypeError(f"{name}: a function needs dim, the numbers in x_0, and takes no offset")
        else:
            self.predictor = FunctionPredictor(function, value, observed, bend)
            self.dim = dim
        self.has_jacobian = self.predictor.has_jacobian
        self.nodes = nodes
        self.y = observed.matvec(y)
        self.log_density = log_density
        if isinstance(log_density, Family):
            self.log_density = log_density.rows(y, observed.index)
        self._prepare()

    def _prepare(self) -> None:
        """What depends on y: whether it is in the support, and where its density is."""
        if isinstance(self.log_density, Family):
            self.log_density.require_data(self.y)
        if self.count and not isinstance(self.log_density, ConvolvedFamily):
            bracket = mode_bracket(self.backend, self.log_density, self.y)
            self.quadrature = Quadrature(self.log_density, bracket, self.nodes)

    def with_data(self, y: Array) -> "IndependentObservation":
        other = self._of_data(y)
        other._prepare()
        return other

    def of_sets(self, index: Array) -> "IndependentObservation":
        if self.sets is None:
            return self
        return self._with(lambda values: self.backend.xp.take(values, index, axis=0))

    @property
    def columns(self) -> int:
        """One for each number in x_0 or in y, whichever are fewer, of a predictor that is a function."""
        affine = isinstance(self.predictor, LinearPredictor)
        return 0 if affine or not self.has_jacobian else min(self.dim, self.count)

    def log_prob(self, x0: Array) -> Array:
        y = matched(self.y, x0.shape[0])
        return possible(self.backend.xp.sum(self.log_density(self.predictor.value(x0), y), axis=-1))

    def linearise(self, x0: Array) -> Linearisation:
        return self.predictor.linearise(x0)

    def bend(self, x0: Array, of_H: Array | None, of_R: Array | None = None) -> Array:
        found = self.predictor.bend(x0, of_H)
        return super().bend(x0, of_H) if found is None else found

    def site_approximation(self, linear: Linearisation, variance: Array) -> SiteApproximation:
        xp, predicted = self.backend.xp, linear.predicted
        if self.count == 0:
            return SiteApproximation(self.y, Diagonal(self.y))
        variance = xp.broadcast_to(variance, predicted.shape)
        rows = max(1, BLOCK // (self.nodes * self.count))
        count = predicted.shape[0]
        blocks = [slice(i, min(i + rows, count)) for i in range(0, max(count, 1), rows)]
        parts = [
            self._matched(block, count)._surrogate(predicted[block, :], variance[block, :])
            for block in blocks
        ]
        if len(parts) == 1:
            return parts[0]
        y, R, log_scale = (xp.concat([getattr(p, k) for p in parts]) for k in ("y", "R", "log_scale"))
        return SiteApproximation(y, Diagonal(R), log_scale)

    def _with(self, function: Callable[[Array], Array]) -> "IndependentObservation":
        """With the function of y (data sets, observations), and of what depends on it."""
        other = copy.copy(self)
        other.y = function(self.y)
        if self.count and not isinstance(self.log_density, ConvolvedFamily):
            other.quadrature = replace(self.quadrature, bracket=self.quadrature.bracket.map(function))
        return other

    def _matched(self, block: slice, count: int) -> "IndependentObservation":
        """For a block of `count` rows of x_0."""
        if self.sets is None or (self.sets == count and block == slice(0, count)):
            return self
        return self._with(lambda values: matched(values, count)[block, :])

    def _surrogate(self, predicted: Array, variance: Array) -> SiteApproximation:
        """For a block of rows."""
        if isinstance(self.log_density, ConvolvedFamily):
            tilt = self.log_density.tilted_moments(predicted, self.y, variance, self.nodes)
            return gaussian_of(tilt, predicted, variance, self.log_density.scale)
        variance = self.quadrature.resolved(predicted, variance)
        tilt = self.quadrature.tilted_moments(predicted, self.y, variance)
        return gaussian_of(tilt, predicted, variance, self.quadrature.bracket.width)


def _common(name: str, y: Array, H: Any) -> tuple[Backend, Array]:
    """The backend of y and H, and y in its dtype; whole numbers and booleans take the dtype of H."""
    if H is None:
        return require_arrays(name, y=y), y
    like = H.like if isinstance(H, LinearOperator) else H
    xp = require_arrays(name, H=like).xp
    require_same(backend_of(like), y=y)
    if not xp.isdtype(y.dtype, "real floating"):
        y = xp.astype(y, like.dtype)
    return require_arrays(name, H=like, y=y), y


def _linear(
    name: str, backend: Backend, operator: LinearOperator, offset: Any, observed: Selection
) -> LinearPredictor:
    xp, count = backend.xp, observed.shape[1]
    if offset is None or real_number(offset) is not None:
        offset = xp.full((count,), float(offset or 0.0), dtype=backend.dtype, device=backend.device)
    require_arrays(name, H=operator.like, offset=offset)
    if tuple(offset.shape) != (count,) or not bool(xp.all(xp.isfinite(offset))):
        raise ValueError(f"{name}: offset must be finite and ({count},); got shape {tuple(offset.shape)}")
    kept = operator if observed.shape[0] == count else operator.rows(observed.index)
    return LinearPredictor(kept, observed.matvec(offset))
