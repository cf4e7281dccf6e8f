"""y = A(x_0) + noise."""

import copy
from collections.abc import Callable
from typing import Any

from ..backend import real_number, require_arrays, whole_number
from .data_sets import checked_data, matched
from .normal_noise import NormalNoise, observed_noise, observed_rows, places_of, spread_rows
from .observation import (
    Linearisation,
    NotDifferentiable,
    Observation,
    SiteApproximation,
    bounded,
    positive,
    possible,
)


class NonlinearGaussian(Observation):
    """y = A(x_0) + noise, noise ~ N(0, R), with A linearised where the mean likelihood needs it.

    function: x_0 (batch, dim) ↦ A(x_0) (batch, observations) and its Jacobian (batch, observations,
    dim), arrays of one backend; dim: numbers in x_0; y and R as for `LinearGaussian`. Or R is None, and
    the function returns R(x_0) as a third: variances (batch, observations) or covariances (batch,
    observations, observations), positive (definite).
    value: x_0 ↦ the same without the Jacobian, that is A(x_0), or A(x_0) and R(x_0) where R is None;
    `log_prob` uses it, and where it is all there is (function None) nothing is linearised.
    bend: as `Observation.bend`, of all rows of the function, where there is something quicker and more exact
    than its differences.

    Raises: as `LinearGaussian`; TypeError where there is neither function nor value.
    """

    is_gaussian = True

    def __init__(
        self,
        function: Callable[[Any], tuple[Any, ...]] | None,
        dim: int,
        y: Any,
        R: Any,
        *,
        value: Callable[[Any], Any] | None = None,
        bend: Callable[[Any, Any, Any], Any] | None = None,
    ) -> None:
        name = type(self).__name__
        if function is None and value is None:
            raise TypeError(f"{name} needs a function, or at least its value without a Jacobian")
        self.backend = require_arrays(name, y=y, R=R if real_number(R) is None else None)
        if y is None:
            raise TypeError(f"{name}: y must be an array (observations,); got None")
        if y.ndim != 1:
            raise ValueError(f"expected y (observations,); got {tuple(y.shape)}")
        self.dim = whole_number(f"{name}: dim", dim, 1)
        self.function, self.value, self.slopes = function, value, bend
        self.has_jacobian = function is not None
        self.observed, self.places = observed_rows(self.backend, y), places_of(y)
        self.y = self.backend.xp.take(y, self.observed, axis=0)
        self.R: Any = None
        self.noise: NormalNoise | None = None
        if R is not None:
            self.R = observed_noise(self.backend, R, y.shape[0], self.observed)
            self.noise = NormalNoise(self.R, self.R.ndim == 1)

    @property
    def columns(self) -> int:
        """One for each number in x_0 or in y, whichever are fewer."""
        return min(self.dim, self.count) if self.has_jacobian else 0

    def log_prob(self, x0: Any) -> Any:
        predicted, R = self.predict(x0)
        noise = self.noise or NormalNoise(R, R.ndim == 2)
        return possible(noise.log_density(matched(self.y, x0.shape[0]) - predicted))

    def linearise(self, x0: Any) -> Linearisation:
        if self.function is None:
            raise NotDifferentiable(
                f"{type(self).__name__} was given no Jacobian; use likelihood='monte-carlo', which needs none"
            )
        predicted, jacobian, *R = self.function(x0)
        noise = positive(self._keep_noise(R[0])) if self.R is None else None
        return Linearisation(bounded(self._keep(predicted)), bounded(self._keep(jacobian)), noise)

    def bend(self, x0: Any, of_H: Any | None, of_R: Any = None) -> Any:
        spread_H, spread_R = None if of_H is None else self._spread(of_H, 1), of_R
        if of_R is not None:
            spread_R = self._spread(of_R, 1)
            spread_R = self._spread(spread_R, 2) if of_R.ndim == 3 else spread_R
        found = None if self.slopes is None else self.slopes(x0, spread_H, spread_R)
        return super().bend(x0, of_H, of_R) if found is None else found

    def site_approximation(self, linear: Linearisation, variance: Any) -> SiteApproximation:
        y = matched(self.y, linear.predicted.shape[0])
        if self.R is None:
            return SiteApproximation(y, linear.R, 0.0, linear.R.ndim == 2)
        return SiteApproximation(y, self.R, 0.0, self.R.ndim == 1)

    def with_data(self, y: Any) -> "NonlinearGaussian":
        other = copy.copy(self)
        other.y = checked_data(type(self).__name__, y, self.y, self.count)
        return other

    def predict(self, x0: Any) -> tuple[Any, Any]:
        """A(x_0) of the observed rows; R(x_0), or None where R is constant."""
        if self.value is None:
            linear = self.linearise(x0)
            return linear.predicted, linear.R
        if self.R is not None:
            return self._keep(self.value(x0)), None
        predicted, R = self.value(x0)
        return self._keep(predicted), self._keep_noise(R)

    def _keep(self, rows: Any) -> Any:
        return self.backend.xp.take(rows, self.observed, axis=1)

    def _keep_noise(self, R: Any) -> Any:
        xp, kept = self.backend.xp, self._keep(R)
        if R.ndim == 3 and self.count:
            return xp.take(kept, self.observed, axis=2)
        return xp.reshape(kept, (R.shape[0], self.count))

    def _spread(self, kept: Any, axis: int) -> Any:
        """What belongs to the observed rows among all, 0 at the others."""
        return spread_rows(kept, self.places, axis)
