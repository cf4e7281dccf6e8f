"""The predictor η(x_0) of an observation, of the rows that were observed."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

from .normal_noise import spread_rows
from .observation import Linearisation, NotDifferentiable


class Predictor(ABC):
    """η(x_0), (batch, dim) to (batch, observations), and its Jacobian."""

    has_jacobian: bool = True

    @abstractmethod
    def value(self, x0: Any) -> Any:
        """η(x_0)."""

    @abstractmethod
    def linearise(self, x0: Any) -> Linearisation:
        """η and its Jacobian. Raises: NotDifferentiable where there is none."""

    def bend(self, x0: Any, of_H: Any) -> Any | None:
        """As `Observation.bend`, or None where nothing is better than its differences."""
        return None


@dataclass(frozen=True)
class LinearPredictor(Predictor):
    """η = H x_0 + offset: H (observations, dim), offset (observations,)."""

    H: Any
    offset: Any

    def value(self, x0: Any) -> Any:
        return x0 @ self.H.T + self.offset

    def linearise(self, x0: Any) -> Linearisation:
        return Linearisation(self.value(x0), self.H)


class FunctionPredictor(Predictor):
    """function: x_0 ↦ η of all rows and its Jacobian (batch, observations, dim); `value` without it.

    Either may be None; rows: the indices of those that were observed; places: where all numbers stand among
    them (`places_of`); slopes: as `bend` of `IndependentObservation`, or None.
    """

    def __init__(
        self,
        function: Callable[[Any], Any] | None,
        value: Callable[[Any], Any] | None,
        rows: Any,
        places: Any,
        slopes: Callable[[Any, Any, Any], Any] | None = None,
    ) -> None:
        self.function, self.plain, self.rows = function, value, rows
        self.places, self.slopes = places, slopes
        self.has_jacobian = function is not None

    def bend(self, x0: Any, of_H: Any) -> Any | None:
        if self.slopes is None:
            return None
        return self.slopes(x0, spread_rows(of_H, self.places, 1), None)

    def value(self, x0: Any) -> Any:
        if self.plain is None:
            return self.linearise(x0).predicted
        return array_namespace(x0).take(self.plain(x0), self.rows, axis=1)

    def linearise(self, x0: Any) -> Linearisation:
        if self.function is None:
            raise NotDifferentiable(
                "the predictor was given without its Jacobian; use likelihood='monte-carlo', which needs none"
            )
        xp, (predicted, jacobian) = array_namespace(x0), self.function(x0)
        return Linearisation(xp.take(predicted, self.rows, axis=1), xp.take(jacobian, self.rows, axis=1))
