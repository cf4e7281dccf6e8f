"""What was observed: p(y given x_0), and what a mean likelihood needs of it."""

import copy
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace, device

from ..backend import Backend, numerical_gradient

LARGEST = 2**22  # numbers in one array of Jacobians of which differences are taken


def possible(log_density: Any) -> Any:
    """NaN, as of densities that overflow or a solver that gives up, counts as zero density."""
    xp = array_namespace(log_density)
    return xp.where(xp.isnan(log_density), -math.inf * xp.ones_like(log_density), log_density)


def bounded(predicted: Any) -> Any:
    """What a predictor, or its Jacobian, gives, within what can still be squared; 0 for NaN.

    Guidance needs numbers at points that no draw reaches, where an exponential may overflow; what such a
    point means for y, `log_prob` alone says.
    """
    xp, most = array_namespace(predicted), _largest(predicted)
    return xp.clip(xp.where(xp.isnan(predicted), xp.zeros_like(predicted), predicted), min=-most, max=most)


def positive(R: Any) -> Any:
    """Variances (batch, n) within what can be divided by; NaN is the largest. Covariances as they are."""
    if R.ndim != 2:
        return R
    xp, most = array_namespace(R), _largest(R) ** 2
    return xp.clip(xp.where(xp.isnan(R), most * xp.ones_like(R), R), min=1 / most, max=most)


def _largest(values: Any) -> float:
    return 1e-4 * math.sqrt(float(array_namespace(values).finfo(values.dtype).max))


class NotDifferentiable(TypeError):
    """An observation has no Jacobian to linearise it with."""


@dataclass(frozen=True)
class Linearisation:
    """The predictor η near a batch of x_0: η(x_0) as `predicted` (batch, observations), its Jacobian H.

    H: (observations, dim) where it is the same for all rows, else (batch, observations, dim).
    R: None, but where the noise depends on x_0: variances (batch, observations) or covariances
    (batch, observations, observations) at these x_0.
    """

    predicted: Any
    H: Any
    R: Any = None

    def forward(self, v: Any) -> Any:
        """H v row by row: (batch, dim) to (batch, observations)."""
        return v @ self.H.T if self.H.ndim == 2 else (self.H @ v[..., None])[..., 0]

    def adjoint(self, w: Any) -> Any:
        """Hᵀ w row by row: (batch, observations) to (batch, dim)."""
        return w @ self.H if self.H.ndim == 2 else (w[..., None, :] @ self.H)[..., 0, :]


@dataclass(frozen=True)
class SiteApproximation:
    """p(y given η) near some η as exp(log_scale) N(y; η, R), row by row.

    y: (observations,) or (batch, observations); log_scale: (batch,), or 0.0 where nothing is scaled.
    R: where `diagonal`, variances (observations,) or (batch, observations); else covariances
    (observations, observations) or (batch, observations, observations). A variance is 0 where the
    observation is exact.
    """

    y: Any
    R: Any
    log_scale: Any
    diagonal: bool

    def add_noise(self, matrix: Any) -> Any:
        """matrix (..., observations, observations) + R."""
        if not self.diagonal:
            return matrix + self.R
        xp = array_namespace(self.R)
        identity = xp.eye(self.R.shape[-1], dtype=self.R.dtype, device=device(self.R))
        return matrix + self.R[..., None, :] * identity

    def noise_product(self, v: Any) -> Any:
        """R v row by row: (batch, observations)."""
        return v * self.R if self.diagonal else (self.R @ v[..., None])[..., 0]


class Observation(ABC):
    """p(y given x_0) for data y, through a predictor η(x_0), on arrays x_0 (batch, dim) of `backend`.

    NaN in y means not observed: those rows are left out everywhere, and `count` is what is left. y is
    (observations,), or of many data sets at once (data sets, observations), see `with_data`.
    `is_linear`: η is affine with one H for all rows, and the noise Gaussian with one R, so that closed
    forms apply; `is_gaussian`: the noise is Gaussian, its R may depend on x_0; `has_jacobian`: whether
    `linearise` works; `hard`: no noise at all, and so no density.
    """

    backend: Backend
    dim: int
    y: Any
    is_linear: bool = False
    is_gaussian: bool = False
    has_jacobian: bool = True
    hard: bool = False

    def __repr__(self) -> str:
        sets = "" if self.sets is None else f" in {self.sets} data sets"
        return f"{type(self).__name__}({self.count} observed{sets}, dim={self.dim}; {self.backend})"

    @property
    def count(self) -> int:
        """Number of observed values, of each data set where there are many."""
        count: int = self.y.shape[-1]
        return count

    def for_rows(self, x0: Any) -> "Observation":
        """The same for `log_prob` of many batches like x_0, as fast as it can be made."""
        return self

    def undefined_share(self, x0: Any) -> float:
        """Share of the rows at which a density that is all there is gives NaN, which counts as zero."""
        return 0.0

    @property
    def columns(self) -> int:
        """How many derivatives of the predictor a linearisation takes for a row: none where it is affine."""
        return 0

    @property
    def sets(self) -> int | None:
        """Number of data sets, or None where there is one, which all x_0 share."""
        return self.y.shape[0] if self.y.ndim == 2 else None

    def with_data(self, y: Any) -> "Observation":
        """The same observation of other data: y (count,), or many data sets (data sets, count).

        Of many, row i of x_0 belongs to data set i, and of k times as many rows each k neighbours to one.
        y: in the units of this y, without what was not observed. Raises: TypeError where the density is
        not a function of the data; ValueError for another shape, NaN or infinity.
        """
        raise TypeError(
            f"{type(self).__name__} holds one data set: its density is a function of x_0 alone; make one for "
            "each data set"
        )

    def of_sets(self, index: Any) -> "Observation":
        """The data sets `index` (rows,), one for each row of x_0; itself where there is one for all."""
        if self.sets is None:
            return self
        chosen = copy.copy(self)
        chosen.y = array_namespace(index).take(self.y, index, axis=0)
        return chosen

    @abstractmethod
    def log_prob(self, x0: Any) -> Any:
        """ln p(y given x_0), normalised as a density of y: (batch, dim) to (batch,).

        Raises: TypeError where y has no density, as under a hard constraint.
        """

    @abstractmethod
    def linearise(self, x0: Any) -> Linearisation:
        """η and its Jacobian at x0 (batch, dim). Raises: NotDifferentiable where there is none."""

    def bend(self, x0: Any, of_H: Any | None, of_R: Any = None) -> Any:
        """∂/∂x_0 (Σ of_H ∘ H + Σ of_R ∘ R) at x0, (batch, dim): how H and R of `linearise` change.

        of_H: (batch, observations, dim) and of_R, as R there: either None for nothing. Here by differences,
        of 4 dim linearisations; a model that torch differentiates twice takes one product.
        """

        def value(rows: Any, index: Any) -> Any:
            xp, linear = array_namespace(rows), self.linearise(rows)
            pairs = [(w, part) for w, part in ((of_H, linear.H), (of_R, linear.R)) if w is not None]
            sums = [xp.take(w, index, axis=0) * part for w, part in pairs]
            return sum(xp.sum(xp.reshape(one, (rows.shape[0], -1)), axis=1) for one in sums)

        return numerical_gradient(value, x0, LARGEST // max(self.count * self.dim, 1))

    @abstractmethod
    def site_approximation(self, linear: Linearisation, variance: Any) -> SiteApproximation:
        """p(y given η) as a Gaussian of η, where η ~ N(linear.predicted, diag(variance)).

        variance: (batch, observations) or (observations,), in units of η². Gaussian noise is its own
        surrogate, whatever the variance.
        """
