"""What was observed: p(y given x_0), and what a mean likelihood needs of it."""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Self, TypeAlias

from array_api_compat import device, is_array_api_obj

from ..backend import Array, Backend, array_namespace, numerical_gradient, real_number
from ..backend.sharing import warn
from ..linalg import Dense, Diagonal, LinearOperator, Selection, as_covariance, as_operator

Bend: TypeAlias = Callable[[Array, Any, Any], Array | None]  # x_0, of_H, of_R ↦ as `Observation.bend`

LARGEST = 2**22  # numbers in one array of Jacobians of which differences are taken


def possible(log_density: Array) -> Array:
    """NaN, as of densities that overflow or a solver that gives up, counts as zero density."""
    xp = array_namespace(log_density)
    return xp.where(xp.isnan(log_density), -math.inf * xp.ones_like(log_density), log_density)


def bounded(predicted: Array) -> Array:
    """What a predictor, or its Jacobian, gives, within what can still be squared; 0 for NaN.

    Guidance needs numbers at points that no draw reaches, where an exponential may overflow; what such a
    point means for y, `log_prob` alone says.
    """
    xp, most = array_namespace(predicted), _largest(predicted)
    return xp.clip(xp.where(xp.isnan(predicted), xp.zeros_like(predicted), predicted), min=-most, max=most)


def positive(R: Array) -> Array:
    """Variances (batch, n) within what can be divided by; NaN is the largest. Covariances as they are."""
    if R.ndim != 2:
        return R
    xp, most = array_namespace(R), _largest(R) ** 2
    return xp.clip(xp.where(xp.isnan(R), most * xp.ones_like(R), R), min=1 / most, max=most)


def _largest(values: Array) -> float:
    return 1e-4 * math.sqrt(float(array_namespace(values).finfo(values.dtype).max))


class NotDifferentiable(TypeError):
    """An observation has no Jacobian to linearise it with."""


class Linearisation:
    """The predictor η near a batch of x_0: η(x_0) as `predicted` (batch, observations), its Jacobian H.

    H: an operator, or a matrix (observations, dim) where it is the same for all rows, else (batch,
    observations, dim). R: None, but where the noise depends on x_0: its covariance at these x_0, as an
    operator, variances (batch, observations) or covariances (batch, observations, observations).
    """

    def __init__(self, predicted: Array, H: Array | LinearOperator, R: Array | LinearOperator | None = None):
        self.predicted, self.jacobian = predicted, as_operator(H)
        self.noise = None if R is None else as_covariance(R, leading_axis=True)

    @property
    def H(self) -> Array:
        """All entries of the Jacobian."""
        return self.jacobian.dense()

    @property
    def R(self) -> Array | None:
        """Variances or covariances of noise that depends on x_0."""
        return None if self.noise is None else entries(self.noise)

    def forward(self, v: Array) -> Array:
        """The former name of `jacobian.matvec`."""
        warn("Linearisation.forward is jacobian.matvec now", DeprecationWarning, stacklevel=2)
        return self.jacobian.matvec(v)

    def adjoint(self, w: Array) -> Array:
        """The former name of `jacobian.rmatvec`."""
        warn("Linearisation.adjoint is jacobian.rmatvec now", DeprecationWarning, stacklevel=2)
        return self.jacobian.rmatvec(w)


class SiteApproximation:
    """p(y given η) near some η as exp(log_scale) N(y; η, R), row by row.

    y: (observations,) or (batch, observations); R: an operator, or a number for each observation where
    `diagonal`, (observations,) or (batch, observations), else covariances (observations, observations) or
    (batch, observations, observations). A variance is 0 where the observation is exact. log_scale: (batch,),
    or 0.0 where nothing is scaled.
    """

    def __init__(
        self,
        y: Array,
        R: Array | LinearOperator,
        log_scale: Array | float = 0.0,
        diagonal: bool | None = None,
    ) -> None:
        if not isinstance(R, LinearOperator) and diagonal is not None:
            R = Diagonal(R) if diagonal else Dense(R, positive=True)
        self.y, self.noise, self.log_scale = y, as_covariance(R), log_scale

    @property
    def diagonal(self) -> bool:
        """Whether the numbers are independent given η."""
        return self.noise.is_diagonal

    @property
    def R(self) -> Array:
        """Variances where `diagonal`, else covariances."""
        return entries(self.noise)

    def add_noise(self, matrix: Array) -> Array:
        """The former name of `noise.added_to`."""
        warn("add_noise is noise.added_to now", DeprecationWarning, stacklevel=2)
        return self.noise.added_to(matrix)

    def noise_product(self, v: Array) -> Array:
        """The former name of `noise.matvec`."""
        warn("noise_product is noise.matvec now", DeprecationWarning, stacklevel=2)
        return self.noise.matvec(v)


def entries(R: LinearOperator) -> Array:
    """Variances where R is diagonal, else all entries."""
    return R.diagonal() if R.is_diagonal else R.dense()


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
    y: Array
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

    def for_rows(self, x0: Array) -> "Observation":
        """The same for `log_prob` of many batches like x_0, as fast as it can be made."""
        return self

    def undefined_share(self, x0: Array) -> float:
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

    def with_data(self, y: Array) -> "Observation":
        """The same observation of other data: y (count,), or many data sets (data sets, count).

        Of many, row i of x_0 belongs to data set i, and of k times as many rows each k neighbours to one.
        y: in the units of this y, without what was not observed. Raises: TypeError where the density is
        not a function of the data; ValueError for another shape, NaN or infinity.
        """
        raise TypeError(
            f"{type(self).__name__} holds one data set: its density is a function of x_0 alone; make one for "
            "each data set"
        )

    def _of_data(self, y: Array) -> Self:
        """`with_data`, where the density is a function of y and of what does not depend on it."""
        other = copy.copy(self)
        other.y = checked_data(type(self).__name__, y, self.y, self.count)
        return other

    def of_sets(self, index: Array) -> "Observation":
        """The data sets `index` (rows,), one for each row of x_0; itself where there is one for all."""
        if self.sets is None:
            return self
        chosen = copy.copy(self)
        chosen.y = array_namespace(index).take(self.y, index, axis=0)
        return chosen

    @abstractmethod
    def log_prob(self, x0: Array) -> Array:
        """ln p(y given x_0), normalised as a density of y: (batch, dim) to (batch,).

        Raises: TypeError where y has no density, as under a hard constraint.
        """

    @abstractmethod
    def linearise(self, x0: Array) -> Linearisation:
        """η and its Jacobian at x0 (batch, dim). Raises: NotDifferentiable where there is none."""

    def bend(self, x0: Array, of_H: Array | None, of_R: Array | None = None) -> Array:
        """∂/∂x_0 (Σ of_H ∘ H + Σ of_R ∘ R) at x0, (batch, dim): how H and R of `linearise` change.

        of_H: (batch, observations, dim) and of_R, as R there: either None for nothing. Here by differences,
        of 4 dim linearisations; a model that torch differentiates twice takes one product.
        """

        def value(rows: Array, index: Array) -> Array:
            xp, linear = array_namespace(rows), self.linearise(rows)
            pairs = [(w, part) for w, part in ((of_H, linear.H), (of_R, linear.R)) if w is not None]
            sums = [xp.take(w, index, axis=0) * part for w, part in pairs]
            return sum(xp.sum(xp.reshape(one, (rows.shape[0], -1)), axis=1) for one in sums)

        return numerical_gradient(value, x0, LARGEST // max(self.count * self.dim, 1))

    def log_prob_gradient(self, x0: Array) -> Array:
        """∂ ln p(y given x_0)/∂x_0, (batch, dim), by the Jacobian where there is one, else by differences.

        Those take 4 dim evaluations of `log_prob`, to about 1e-10 in float64.
        """
        if not self.has_jacobian:
            at_once = LARGEST // (self.count + self.dim)
            return numerical_gradient(lambda rows, index: self.of_sets(index).log_prob(rows), x0, at_once)
        # Hᵀ R⁻¹ r + ½ ∂R/∂x_0 · (R⁻¹ r rᵀ R⁻¹ - R⁻¹), r = y - η, the second where R depends on x_0
        linear = self.linearise(x0)
        site = self.site_approximation(linear, 0 * linear.predicted)
        pull = site.noise.solve(site.y - linear.predicted)
        by_mean = linear.jacobian.rmatvec(pull)
        if linear.noise is None:
            return by_mean
        if site.noise.is_diagonal:
            return by_mean + self.bend(x0, None, 0.5 * (pull * pull - 1 / site.noise.diagonal()))
        outer = pull[:, :, None] * pull[:, None, :]
        return by_mean + self.bend(x0, None, 0.5 * (outer - site.noise.inverse().dense()))

    @abstractmethod
    def site_approximation(self, linear: Linearisation, variance: Array) -> SiteApproximation:
        """p(y given η) as a Gaussian of η, where η ~ N(linear.predicted, diag(variance)).

        variance: (batch, observations) or (observations,), in units of η². Gaussian noise is its own
        surrogate, whatever the variance.
        """


def observed_numbers(backend: Backend, y: Array) -> Selection:
    """Those of y (observations,) that are not NaN. Raises: ValueError for infinite data."""
    xp = backend.xp
    if bool(xp.any(xp.isinf(y))):
        raise ValueError("the data hold infinity; mark what was not observed with NaN")
    return Selection(xp.nonzero(~xp.isnan(y))[0], y.shape[0], y)


def checked_operator(H: Array | LinearOperator, y: Array) -> LinearOperator:
    """H as an operator, of (observations, dim) for y (observations,).

    Raises: ValueError where they do not fit, or H holds NaN or infinity, as far as its entries are at hand.
    """
    if len(H.shape) != 2 or tuple(y.shape) != (H.shape[0],):
        raise ValueError(
            f"expected H (observations, dim) and y (observations,); got {tuple(H.shape)} and {tuple(y.shape)}"
        )
    operator = as_operator(H)
    xp = array_namespace(operator.like)
    if operator.materialised and not bool(xp.all(xp.isfinite(operator.dense()))):
        raise ValueError("the operator H holds NaN or infinity")
    return operator


def noise_covariance(backend: Backend, R: Any, observed: Selection) -> LinearOperator:
    """That of the observed numbers, from that of all: a number, variances, a covariance or an operator.

    Raises: ValueError where R does not fit or is not positive definite, as far as its entries are at hand.
    """
    xp, count, number = backend.xp, observed.shape[1], real_number(R)
    if number is not None:
        R = xp.full((count,), number, dtype=backend.dtype, device=backend.device)
    if R is None:
        raise TypeError("R must be a number or an array, variances or covariance; got None")
    if tuple(R.shape) not in ((count,), (count, count)):
        raise ValueError(f"expected R of shape ({count},) or ({count}, {count}); got {tuple(R.shape)}")
    noise = as_covariance(R)
    if observed.shape[0] < count:
        noise = noise.block(observed.index)
    if observed.shape[0] == 0:  # no library factors a matrix without entries
        return Diagonal(xp.zeros((0,), dtype=backend.dtype, device=backend.device))
    if noise.materialised:
        _check_noise(entries(noise))
    return noise


def _check_noise(R: Array) -> None:
    xp = array_namespace(R)
    if not bool(xp.all(xp.isfinite(R))):
        raise ValueError("the noise covariance R holds NaN or infinity; mark what was not observed in y")
    if R.ndim == 2 and bool(xp.any(xp.abs(R - R.T) > 1e-6 * xp.max(xp.abs(R)))):
        raise ValueError("the noise covariance R must be symmetric")
    smallest = float(xp.min(xp.linalg.eigvalsh(R) if R.ndim == 2 else R))
    if not smallest > 0:
        raise ValueError(
            f"the noise covariance R must be positive definite; its smallest eigenvalue is {smallest:.3g}"
        )


def checked_data(name: str, y: Any, like: Array, count: int) -> Array:
    """y (count,) or (data sets, count), an array of like's library, device and dtype.

    Raises: TypeError for another kind of array; ValueError for another shape, NaN or infinity.
    """
    shape = tuple(y.shape) if is_array_api_obj(y) else type(y).__name__
    if not is_array_api_obj(y) or y.ndim not in (1, 2) or y.shape[-1] != count:
        raise ValueError(
            f"{name}: data must be ({count},) or (data sets, {count}), as many numbers as were observed; got "
            f"{shape}"
        )
    xp = array_namespace(like)
    if array_namespace(y) is not xp or device(y) != device(like) or y.dtype != like.dtype:
        raise TypeError(f"{name}: data sets must be an array like the first, in {like.dtype}; got {y.dtype}")
    if not bool(xp.all(xp.isfinite(y))):
        raise ValueError(
            f"{name}: many data sets must all be observed in the same numbers, without NaN or infinity"
        )
    return y


def matched(values: Array, batch: int) -> Array:
    """(data sets, ...) repeated for `batch` rows of x_0, neighbours of one set; (observations,) as it is.

    Raises: ValueError where the rows cannot be shared out evenly.
    """
    if values.ndim == 1 or values.shape[0] == batch:
        return values
    sets = values.shape[0]
    if sets == 0 or batch % sets:
        raise ValueError(f"{batch} rows of x_0 cannot be shared out among {sets} data sets")
    xp, shape = array_namespace(values), tuple(values.shape)
    each = xp.broadcast_to(values[:, None, ...], (sets, batch // sets, *shape[1:]))
    return xp.reshape(each, (batch, *shape[1:]))
