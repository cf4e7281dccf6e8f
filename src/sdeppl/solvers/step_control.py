"""How long the next step should be, from the error of the last."""

import math
from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

from ..backend import Array, backend_of, python_floats, whole_number


@dataclass(frozen=True)
class PIController:
    """Steps whose estimated error stays below atol + rtol |x|, by a proportional–integral rule.

    Error: root mean square over the components of a row of e/(atol + rtol max(|x_s|, |x_t|)), then
    the largest over rows, so the steps depend on the whole batch, and each costs one host
    synchronisation. A step is taken where it is ≤ 1. The next is longer by the factor
    safety err^{-(integral + proportional)/k} err_before^{proportional/k}, within min_factor and max_factor,
    for an error ∝ h^k; after a step that is not taken by safety err^{-1/k} < 1, and right after that
    no longer. With integral = .3 and proportional = .4 it is Söderlind's PI.3.4; proportional = 0 and
    integral = 1 is the plain rule.

    rtol, and atol in units of x, of the error of one step, not of the whole solve. first_step: in
    units of time; chosen where None. max_step: no step is longer, but by a sixteenth; a drift that is
    zero but for short pulses needs it, lest they be stepped over. max_steps: steps tried, at most.

    Raises: ValueError for values out of range. Source: Hairer, Nørsett & Wanner 1993, sections II.4
    and (vol. II, 1996) IV.2; Söderlind 2002.
    """

    rtol: float = 1e-5
    atol: float = 1e-7
    integral: float = 0.3
    proportional: float = 0.4
    safety: float = 0.9
    min_factor: float = 0.2
    max_factor: float = 5.0
    first_step: float | None = None
    max_step: float = math.inf
    max_steps: int = 100_000

    def __post_init__(self) -> None:
        steps = whole_number("PIController: max_steps", self.max_steps, 1)
        python_floats(self)
        object.__setattr__(self, "max_steps", steps)
        if not (self.rtol >= 0 and self.atol >= 0 and self.rtol + self.atol > 0):
            raise ValueError(
                f"PIController: rtol and atol must be ≥ 0, one > 0; got {self.rtol}, {self.atol}"
            )
        if not (0 < self.min_factor < 1 < self.max_factor and 0 < self.safety < 1):
            raise ValueError(
                "PIController needs 0 < min_factor < 1 < max_factor and 0 < safety < 1; got "
                f"{self.min_factor}, {self.max_factor}, {self.safety}"
            )
        if not (self.integral > 0 and self.proportional >= 0):
            raise ValueError(
                "PIController needs integral > 0 and proportional ≥ 0; got "
                f"{self.integral}, {self.proportional}"
            )
        if self.first_step is not None and not self.first_step > 0:
            raise ValueError(f"PIController: first_step must be a positive time; got {self.first_step}")
        if not self.max_step > 0:
            raise ValueError(f"PIController: max_step must be a positive time; got {self.max_step}")

    def row_errors(self, error: Any, *states: Any) -> Array:
        """The error of each row in units of the tolerance, (...), for errors like the states (..., dim)."""
        xp = array_namespace(error)
        size = xp.abs(states[0])
        for state in states[1:]:
            size = xp.maximum(size, xp.abs(state))
        ratio = error / (self.atol + self.rtol * size)
        return xp.sqrt(xp.mean(ratio * ratio, axis=-1))

    def norm(self, error: Any, *states: Any) -> float:
        """The largest of `row_errors`; inf where one is NaN."""
        errors = backend_of(error).adapter.detached(self.row_errors(error, *states))
        found = float(array_namespace(errors).max(errors))
        return math.inf if math.isnan(found) else found

    def factor(self, error: float, before: float, order: float, rejected: bool) -> float:
        """Next step over this one, after this one's `error` and `before`, that of the last taken one.

        rejected: whether this step was tried in another length before.
        """
        error = max(error, 1e-10)
        if error > 1:
            return max(self.safety * error ** (-1 / order), self.min_factor)
        power = -(self.integral + self.proportional) / order
        raw = self.safety * error**power * max(before, 1e-4) ** (self.proportional / order)
        return min(max(raw, self.min_factor), 1.0 if rejected else self.max_factor)
