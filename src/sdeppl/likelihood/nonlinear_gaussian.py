"""y = A(x_0) + noise."""

from collections.abc import Callable
from typing import Any

from ..backend import Array, real_number, require_arrays, whole_number
from ..linalg import as_covariance
from .observation import (
    Bend,
    Linearisation,
    NotDifferentiable,
    Observation,
    SiteApproximation,
    bounded,
    entries,
    matched,
    noise_covariance,
    observed_numbers,
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
        function: Callable[[Array], tuple[Array, ...]] | None,
        dim: int,
        y: Array,
        R: Any,
        *,
        value: Callable[[Array], Any] | None = None,
        bend: Bend | None = None,
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
        self.observed = observed_numbers(self.backend, y)
        self.y = self.observed.matvec(y)
        self.noise = None if R is None else noise_covariance(self.backend, R, self.observed)

    @property
    def R(self) -> Array | None:
        """Variances or covariance, where it is the same at all x_0."""
        return None if self.noise is None else entries(self.noise)

    @property
    def columns(self) -> int:
        """One for each number in x_0 or in y, whichever are fewer."""
        return min(self.dim, self.count) if self.has_jacobian else 0

    def log_prob(self, x0: Array) -> Array:
        predicted, R = self.predict(x0)
        noise = self.noise or as_covariance(R, leading_axis=True)
        return possible(noise.log_normal(matched(self.y, x0.shape[0]) - predicted))

    def linearise(self, x0: Array) -> Linearisation:
        if self.function is None:
            raise NotDifferentiable(
                f"{type(self).__name__} was given no Jacobian; use likelihood='monte-carlo', which needs none"
            )
        predicted, jacobian, *R = self.function(x0)
        noise = positive(self._keep_noise(R[0])) if self.noise is None else None
        kept = self.observed.matmat(jacobian)
        return Linearisation(bounded(self.observed.matvec(predicted)), bounded(kept), noise)

    def bend(self, x0: Array, of_H: Array | None, of_R: Array | None = None) -> Array:
        found = None
        if self.slopes is not None:
            back = self.observed.T
            all_R = of_R if of_R is None or of_R.ndim == 2 else back.matmat(of_R)
            all_R = None if all_R is None else back.matvec(all_R)
            found = self.slopes(x0, None if of_H is None else back.matmat(of_H), all_R)
        return super().bend(x0, of_H, of_R) if found is None else found

    def site_approximation(self, linear: Linearisation, variance: Array) -> SiteApproximation:
        noise = linear.noise if self.noise is None else self.noise
        assert noise is not None
        return SiteApproximation(matched(self.y, linear.predicted.shape[0]), noise)

    def with_data(self, y: Array) -> "NonlinearGaussian":
        return self._of_data(y)

    def predict(self, x0: Array) -> tuple[Array, Array | None]:
        """A(x_0) of the observed rows; R(x_0), or None where R is constant."""
        if self.value is None:
            linear = self.linearise(x0)
            return linear.predicted, linear.R
        if self.noise is not None:
            return self.observed.matvec(self.value(x0)), None
        predicted, R = self.value(x0)
        return self.observed.matvec(predicted), self._keep_noise(R)

    def _keep_noise(self, R: Array) -> Array:
        if R.ndim == 2:
            return self.observed.matvec(R)
        kept = self.observed.matvec(self.observed.matmat(R))
        # no library factors a matrix without entries
        return kept if self.count else self.backend.xp.reshape(kept, (R.shape[0], 0))
