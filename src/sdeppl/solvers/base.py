"""What a solver is."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar


class Solver(ABC):
    """One step of a scheme; noise, step sizes and the drift come from outside.

    Class attributes: `strong_order` (additive noise), `weak_order`, `noise` (the noise class) and
    `evaluations`, drift or denoiser evaluations per step.
    """

    strong_order: ClassVar[float]
    weak_order: ClassVar[float]
    noise: ClassVar[str]
    evaluations: ClassVar[int]

    @abstractmethod
    def step(self, sde: Any, x: Any, s: float, t: float, z: Any) -> Any:
        """x_t from x_s (..., dim); z are standard normals like x, or None where no noise enters."""
