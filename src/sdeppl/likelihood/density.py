"""p(y given x_0) as a function of x_0, and no more."""

import copy
from collections.abc import Callable
from typing import Any

from ..backend import Array, TorchFunction, backend_of, require_arrays, whole_number
from .observation import Linearisation, NotDifferentiable, Observation, SiteApproximation, possible


class DensityObservation(Observation):
    """Any ln p(y given x_0), y held fixed: a black box, a simulator's likelihood, a classifier.

    log_prob: x_0 (batch, dim) ↦ (batch,), of each row alone, normalised over y where ln p(y) matters; NaN
    counts as zero density;
    dim: numbers in x_0; like: an array of the backend and dtype that x_0 will have. gradient: x_0 ↦
    ∂ ln p/∂x_0 (batch, dim), or None. recorded: x_0 ↦ the same function as log_prob for many batches like
    x_0, as fast as it can be made, or None. There is no predictor, so nothing is linearised.

    Raises: TypeError, BackendMismatch for a `like` that is no array of real numbers; ValueError, at a call,
    for another shape than (batch,).
    """

    has_jacobian = False

    def __init__(
        self,
        log_prob: Callable[[Array], Array],
        dim: int,
        like: Array,
        gradient: Callable[[Array], Array] | None = None,
        recorded: Callable[[Array], Callable[[Array], Array]] | None = None,
    ) -> None:
        self.backend = require_arrays(type(self).__name__, like=like)
        self.dim = whole_number(f"{type(self).__name__}: dim", dim, 1)
        self.function = log_prob
        self.gradient = gradient
        self.recorded = recorded

    @property
    def count(self) -> int:
        """1: there is something observed, of whatever size."""
        return 1

    @property
    def sets(self) -> None:
        """None: the density is of one data set."""

    def log_prob(self, x0: Array) -> Array:
        values = self.function(x0)
        if tuple(values.shape) != (x0.shape[0],):
            raise ValueError(
                f"DensityObservation: log_prob must return ({x0.shape[0]},) for x_0 {tuple(x0.shape)}; got "
                f"{tuple(values.shape)}"
            )
        return possible(values)

    def for_rows(self, x0: Array) -> "DensityObservation":
        if self.recorded is None:
            return self
        other = copy.copy(self)
        other.function = self.recorded(x0)
        return other

    def undefined_share(self, x0: Array) -> float:
        xp, values = self.backend.xp, self.function(x0)
        return int(xp.count_nonzero(xp.isnan(values))) / values.shape[0]

    def log_prob_gradient(self, x0: Array) -> Array:
        return super().log_prob_gradient(x0) if self.gradient is None else self.gradient(x0)

    def linearise(self, x0: Array) -> Linearisation:
        raise NotDifferentiable(
            "an observation that is known by its density alone has no predictor to linearise; use "
            "likelihood='monte-carlo', which needs none"
        )

    def site_approximation(self, linear: Linearisation, variance: Array) -> SiteApproximation:
        raise NotDifferentiable(
            "an observation that is known by its density alone has no Gaussian form; use "
            "likelihood='monte-carlo', which needs none"
        )


def classifier_observation(module: Any, label: int, dim: int, like: Array) -> DensityObservation:
    """ln p(y = label given x_0) of a torch module that maps x_0 (batch, dim) to logits (batch, classes).

    The softmax's logarithm, with its gradient by one pullback through the module (classifier guidance). It
    must have been trained on clean x_0. like: an array of the backend and dtype that x_0 will have; arrays
    cross to torch and back on one device.

    Raises: ValueError, at a call, for a label that is not one of the classes, BackendMismatch where the
    module is on another device. Source: Dhariwal & Nichol 2021, section 4.
    """
    function, label = TorchFunction(module), whole_number("classifier_observation: label", label)

    def chosen(logits: Array) -> tuple[Array, Array]:
        """Softmax (batch, classes), and ln of its entry for the label (batch,)."""
        xp = backend_of(logits).xp
        if logits.ndim != 2 or not 0 <= label < logits.shape[1]:
            raise ValueError(
                f"classifier: expected logits (batch, classes) with classes > label = {label}; got "
                f"{tuple(logits.shape)}"
            )
        shifted = logits - xp.max(logits, axis=1, keepdims=True)
        total = xp.sum(xp.exp(shifted), axis=1, keepdims=True)
        return xp.exp(shifted) / total, shifted[:, label] - xp.log(total[:, 0])

    def log_prob(x0: Array) -> Array:
        return chosen(function(x0))[1]

    def gradient(x0: Array) -> Array:
        logits, pullback = function.with_pullback(x0)
        backend = backend_of(logits)
        classes = backend.xp.arange(logits.shape[1], dtype=backend.xp.int64, device=backend.device)
        hit = backend.xp.astype(classes == label, logits.dtype)
        return pullback(hit - chosen(logits)[0])

    return DensityObservation(log_prob, dim, like, gradient)
