"""Exact Gaussian transitions between the times of a path, in torch."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..backend import real_times
from ..sde import IsotropicSDE


def checked_times(times: Any, lowest: float, site: str) -> list[float]:
    """Strictly rising times, none below `lowest`, as floats. Raises: ValueError."""
    grid = real_times(f"{site}: ", times)
    if not grid or not all(math.isfinite(t) for t in grid):
        raise ValueError(f"{site}: times must be finite numbers, at least one; got {grid}")
    if any(b <= a for a, b in itertools.pairwise(grid)):
        raise ValueError(f"{site}: times must strictly rise; got {grid}")
    if grid[0] < lowest:
        raise ValueError(f"{site}: the first time must be at least {lowest}; got {grid[0]}")
    return grid


@dataclass(frozen=True)
class Transitions:
    """x_k given x_{k-1} ~ N(φ_k x_{k-1} + m_k, q_k I) along a path.

    factors: φ; scales: √q; one for each step; shifts: m, (steps, *state) in float64, or None where there
    are none. `event_dim` is that of one state: 0 or 1.
    """

    factors: tuple[float, ...]
    scales: tuple[float, ...]
    event_dim: int
    shifts: torch.Tensor | None = None

    @classmethod
    def along(cls, sde: IsotropicSDE, times: Sequence[float], state: torch.Size) -> "Transitions":
        """Between neighbouring times, of states of shape `state`.

        Raises: TypeError for an SDE without exact transitions; ValueError for times at which it adds no
        noise, or shifts of another shape than the states.
        """
        if not isinstance(sde, IsotropicSDE):
            raise TypeError(
                f"a path needs an SDE with x_t = α x_0 + σ ε for numbers α and σ, such as LinearSDE; got "
                f"{type(sde).__name__}"
            )
        steps = [sde.transition(s, t) for s, t in itertools.pairwise(times)]
        for step, (s, t) in zip(steps, itertools.pairwise(times), strict=True):
            if not step.covariance > 0:
                raise ValueError(
                    f"{type(sde).__name__} adds no noise from {s} to {t}: its times are 0 and later, and "
                    "must differ by more than rounding"
                )
        return cls(
            tuple(float(step.map) for step in steps),
            tuple(math.sqrt(step.covariance) for step in steps),
            len(state),
            _shifts(sde, [step.shift for step in steps], state) if sde.shifted and steps else None,
        )

    @property
    def axis(self) -> int:
        """The axis of a path along which time runs."""
        return -1 - self.event_dim

    def path(self, start: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """The states after `start` (..., *state), from standard normals (..., steps, *state)."""
        states, x = [], start
        for k, (factor, scale) in enumerate(zip(self.factors, self.scales, strict=True)):
            x = factor * x + scale * noise.select(self.axis, k)
            x = x if self.shifts is None else x + self.shifts[k].to(x)
            states.append(x)
        return torch.stack(states, dim=self.axis)

    def log_density(self, path: torch.Tensor) -> torch.Tensor:
        """ln p(x_1, …, x_n given x_0) for path (..., steps + 1, *state): (...)."""
        steps = len(self.scales)
        before = path.narrow(self.axis, 0, steps)
        after = path.narrow(self.axis, 1, steps)
        shape = (steps,) + (1,) * self.event_dim
        factors = path.new_tensor(self.factors).reshape(shape)
        scales = path.new_tensor(self.scales).reshape(shape)
        mean = factors * before if self.shifts is None else factors * before + self.shifts.to(before)
        z = (after - mean) / scales
        terms = -0.5 * z * z - scales.log() - 0.5 * math.log(2 * math.pi)
        return terms.sum(dim=tuple(range(-1 - self.event_dim, 0)))


def _shifts(sde: IsotropicSDE, shifts: Sequence[Any], state: torch.Size) -> torch.Tensor:
    rows = [torch.as_tensor(shift, dtype=torch.float64) for shift in shifts]
    for row in rows:
        if row.shape not in ((), state):
            raise ValueError(
                f"{type(sde).__name__} shifts states of shape {tuple(row.shape)}; these have shape "
                f"{tuple(state)}"
            )
    return torch.stack([row.expand(state) for row in rows])
