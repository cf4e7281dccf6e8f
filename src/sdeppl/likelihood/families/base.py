"""What a family of distributions p(y given η) of single numbers is."""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, ClassVar

from array_api_compat import array_namespace, is_array_api_obj

from ...backend import Array, require_arrays
from ..tilted_moments import TiltedMoments


class Family(ABC):
    """ln p(y given η) of numbers y that are independent given their predictors η.

    `family(eta, y)`: elementwise, eta (..., observations), y (observations,). A subclass is a frozen
    dataclass; its fields named in `per_row` are numbers or arrays (observations,), one for each y, the rest
    is common to all. `support`: in words, for messages.
    """

    per_row: ClassVar[tuple[str, ...]] = ()
    support: ClassVar[str] = "any number"

    @abstractmethod
    def __call__(self, eta: Array, y: Array) -> Array:
        """ln p(y given η), normalised over y."""

    def supports(self, y: Array) -> Array:
        """Whether each y is in the support, an array of booleans."""
        return y == y

    def rows(self, y: Array, kept: Array) -> "Family":
        """The family of the rows `kept`, indices, out of those of y.

        Raises: ValueError for parameters of another shape; BackendMismatch, TypeError for another dtype.
        """
        taken, shape = {}, tuple(y.shape)
        for name, value in self.arrays().items():
            xp = require_arrays(type(self).__name__, y=y, **{name: value}).xp
            if tuple(value.shape) != shape:
                raise ValueError(
                    f"{type(self).__name__}: {name} must be a number or of shape {shape}, as y is; got "
                    f"{tuple(value.shape)}"
                )
            taken[name] = xp.take(value, kept, axis=0)
        return replace(self, **taken) if taken else self  # type: ignore[type-var]

    def arrays(self) -> dict[str, Any]:
        """The parameters that differ from row to row."""
        values = {name: getattr(self, name) for name in self.per_row}
        return {name: value for name, value in values.items() if is_array_api_obj(value)}

    def require_data(self, y: Array) -> None:
        """Check y (..., observations). Raises: ValueError naming the first that is outside the support."""
        xp = array_namespace(y)
        outside = xp.reshape(y, (-1,))[xp.reshape(~self.supports(y), (-1,))]
        if outside.shape[0]:
            raise ValueError(
                f"{type(self).__name__} takes {self.support}; got {float(outside[0]):g}, one of "
                f"{outside.shape[0]} such values. Correct the data, or mark them as not observed with NaN"
            )


class ConvolvedFamily(Family):
    """A family whose mean over η ~ N(predicted, v) is known, so that nothing need be searched for.

    `scale`: a number or an array (observations,), how far η must move to matter.
    """

    scale: Any

    @abstractmethod
    def tilted_moments(self, predicted: Array, y: Array, variance: Array, nodes: int) -> TiltedMoments:
        """p(y given η) under η ~ N(predicted, variance), elementwise; nodes: of a quadrature, if any."""


def require_numbers(family: Family, positive: tuple[str, ...]) -> None:
    """Check that these parameters are positive and finite, each a number or an array.

    Raises: ValueError.
    """
    for name in positive:
        value = getattr(family, name)
        if is_array_api_obj(value):
            xp = array_namespace(value)
            fine = bool(xp.all((value > 0) & xp.isfinite(value)))
        else:
            fine = isinstance(value, float) and 0 < value < float("inf")
        if not fine:
            raise ValueError(
                f"{type(family).__name__}: {name} must be positive and finite, number or array; got {value!r}"
            )


def softplus(x: Array) -> Array:
    """ln(1 + e^x), elementwise, without overflow."""
    xp = array_namespace(x)
    return xp.clip(x, min=0.0) + xp.log1p(xp.exp(-xp.abs(x)))
