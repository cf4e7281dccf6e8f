"""Exact Gaussian transitions between the times of a path, in torch."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..sde import IsotropicSDE


def checked_times(times: Any, lowest: float, site: str) -> list[float]:
    """Strictly rising times, none below `lowest`, as floats. Raises: ValueError."""
    grid = [float(t) for t in times]
    if not grid or not all(math.isfinite(t) for t in grid):
        raise ValueError(f"{site}: times must be finite numbers, at least one; got {grid}")
    if any(b <= a for a, b in itertools.pairwise(grid)):
        raise ValueError(f"{site}: times must strictly rise; got {grid}")
    if grid[0] < lowest:
        raise ValueError(f"{site}: the first time must be at least {lowest}; got {grid[0]}")
    return grid


@dataclass(frozen=True)
class Transitions:
    """x_k given x_{k-1} ~ N(φ_k x_{k-1}, q_k I) along a path.

    factors: φ; scales: √q; one for each step. `event_dim` is that of one state: 0 or 1.
    """

    factors: tuple[float, ...]
    scales: tuple[float, ...]
    event_dim: int

    @classmethod
    def along(cls, sde: IsotropicSDE, times: Sequence[float], event_dim: int) -> "Transitions":
        """Between neighbouring times. Raises: TypeError for an SDE without exact transitions."""
        if not isinstance(sde, IsotropicSDE):
            raise TypeError(
                f"{type(sde).__name__} has no exact transitions; use an affine SDE such as LinearSDE"
            )
        if sde.shifted:
            raise TypeError(f"{type(sde).__name__} pushes its mean away, which paths do not take yet")
        steps = [sde.transition(s, t) for s, t in itertools.pairwise(times)]
        return cls(
            tuple(float(step.map) for step in steps),
            tuple(math.sqrt(step.covariance) for step in steps),
            event_dim,
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
        z = (after - factors * before) / scales
        terms = -0.5 * z * z - scales.log() - 0.5 * math.log(2 * math.pi)
        return terms.sum(dim=tuple(range(-1 - self.event_dim, 0)))
