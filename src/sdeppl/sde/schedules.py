"""Noise schedules β(t) of the variance-preserving SDE."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from ..backend import python_floats


class Schedule(ABC):
    """β(t) > 0 on [0, T], with its integral from 0."""

    @abstractmethod
    def beta(self, t: Any) -> Any:
        """β(t), per unit of time."""

    @abstractmethod
    def integral(self, t: Any) -> Any:
        """∫_0^t β(r) dr."""


@dataclass(frozen=True)
class ConstantSchedule(Schedule):
    """β(t) = β. Raises: ValueError for β ≤ 0."""

    value: float

    def __post_init__(self) -> None:
        python_floats(self)
        if not 0 < self.value < math.inf:
            raise ValueError(f"ConstantSchedule: β must be positive and finite; got {self.value!r}")

    def beta(self, t: Any) -> Any:
        return self.value + 0.0 * t

    def integral(self, t: Any) -> Any:
        return self.value * t


@dataclass(frozen=True)
class LinearSchedule(Schedule):
    """β(t) = β_min + (β_max - β_min) t / T.

    Raises: ValueError unless 0 < β_min ≤ β_max and T > 0. Source: Song et al. 2021, appendix C.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    T: float = 1.0

    def __post_init__(self) -> None:
        python_floats(self)
        if not (0 < self.beta_min <= self.beta_max < math.inf and self.T > 0):
            raise ValueError(f"LinearSchedule: need 0 < beta_min <= beta_max < ∞ and T > 0; got {self}")

    def beta(self, t: Any) -> Any:
        return self.beta_min + (self.beta_max - self.beta_min) / self.T * t

    def integral(self, t: Any) -> Any:
        return self.beta_min * t + (self.beta_max - self.beta_min) / (2 * self.T) * t * t
