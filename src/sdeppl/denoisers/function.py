"""A black box as a denoiser."""

from collections.abc import Callable
from typing import Literal

from ..backend import Array, Backend, resolve, whole_number, with_pullback
from ..linalg import LinearOperator
from ..sde import IsotropicSDE, require_isotropic
from .base import Denoiser, Moments, tweedie_covariance

Prediction = Literal["mean", "eps", "score", "v"]


class CallableDenoiser(Denoiser):
    """A function of (x (batch, dim), t) that was trained or derived elsewhere, as a denoiser.

    function: gives what `predicts` says, (batch, dim): 'mean', E[x_0 given x_t]; 'eps', E[ε given x_t];
    'score', ∂ ln p(x_t); or 'v', E[α ε - σ x_0 given x_t]. Each row of the result depends on that row of x
    alone. A torch module for the arrays of another library goes in as `TorchFunction(module)`.
    covariance: (x, t) ↦ a `linalg.LinearOperator`; None for Tweedie's, σ²/α ∂mean/∂x: in torch by products
    with the function's slope, from one evaluation; on other libraries by differences of order 4 over steps
    of a small part of σ, four evaluations a product, in which the slope is taken as symmetric, as that of an
    exact mean is. dim: numbers in x_0. backend: that of the arrays it takes and returns; SDEPPL_BACKEND by
    default.

    Raises: ValueError for dim below 1, or an unknown prediction. Source: Efron 2011 (Tweedie's formula);
    Salimans & Ho 2022, for v.
    """

    def __init__(
        self,
        sde: IsotropicSDE,
        function: Callable[[Array, float], Array],
        covariance: Callable[[Array, float], LinearOperator] | None = None,
        dim: int = 0,
        backend: Backend | str | None = None,
        predicts: Prediction = "mean",
    ) -> None:
        require_isotropic(sde, type(self).__name__)
        dim = whole_number("CallableDenoiser: dim, the count of numbers in x_0,", dim, 1)
        if predicts not in ("mean", "eps", "score", "v"):
            raise ValueError(
                f"CallableDenoiser: predicts must be 'mean', 'eps', 'score' or 'v'; got {predicts!r}"
            )
        self.sde = sde
        self.dim = dim
        self.backend = resolve(backend)
        self.predicts = predicts
        self._function = function
        self._covariance = covariance

    def __call__(self, x: Array, t: float) -> Moments:
        if self._covariance is not None:
            return Moments(self.mean(x, t), self._covariance(x, t))
        of_x, of_function = self._weights(t)
        alpha, sigma = self.sde.alpha_sigma(t)
        value, pull = self._with_pullback(x, t)

        def pullback(v: Array) -> Array:
            return of_x * v + of_function * pull(v) if of_x else pull(v)

        several = self.backend.name == "torch" or hasattr(self._function, "with_pullback")
        return Moments(self._mean(x, t, value), tweedie_covariance(sigma**2 / alpha, pullback, x, several))

    def mean(self, x: Array, t: float) -> Array:
        return self._mean(x, t, self._function(x, t))

    def _mean(self, x: Array, t: float, value: Array) -> Array:
        of_x, of_function = self._weights(t)
        return of_x * self.sde.centre(x, t) + of_function * value if of_x else value

    def _weights(self, t: float) -> tuple[float, float]:
        """a and b of E[x_0 given x_t] = a (x_t - shift) + b function."""
        if self.predicts == "mean":
            return 0.0, 1.0
        alpha, sigma = self.sde.alpha_sigma(t)
        if self.predicts == "v":
            return alpha / (alpha**2 + sigma**2), -sigma / (alpha**2 + sigma**2)
        return 1 / alpha, (sigma**2 if self.predicts == "score" else -sigma) / alpha

    def _with_pullback(self, x: Array, t: float) -> tuple[Array, Callable[[Array], Array]]:
        if hasattr(self._function, "with_pullback"):  # of a module behind the bridge, exactly
            value, pull = self._function.with_pullback(x, t)
            return value, pull
        return with_pullback(lambda inputs: self._function(inputs, t), x, self.sde.sigma(t))
