"""The trajectory of an SDE as a Pyro distribution."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution, constraints

from ..sde import IsotropicSDE
from .transitions import Transitions, checked_times


class SDEPath(TorchDistribution):
    """States of dx = (f x + u) dt + g dW at `times`: event shape (times,), or (times, dim) for vectors.

    sde: an affine SDE, whose transitions are exact, so nothing is discretised. x_init: the
    distribution of the first state, at times[0], with event shape () or (dim,); or a known state at
    t0 < times[0], a number or (..., dim). times: strictly rising, in the SDE's unit of time. Batch
    shape: that of x_init. `rsample` and `log_prob` are exact and differentiable in x_init.

    Raises: ValueError for times that do not rise, or a known state at times[0] (a path that starts
    there has no density), or an SDE whose shift has another shape than the states; TypeError for an
    SDE that is not affine.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        sde: IsotropicSDE,
        x_init: Any,
        times: Sequence[float] | torch.Tensor,
        t0: float = 0.0,
        validate_args: bool | None = None,
    ) -> None:
        self.sde = sde
        self.random_start = isinstance(x_init, torch.distributions.Distribution)
        self.x_init: Any = x_init if self.random_start else _as_state(x_init)
        self.has_rsample = not self.random_start or x_init.has_rsample
        self.times = checked_times(times, float("-inf") if self.random_start else t0, "SDEPath")
        self.t0 = t0
        if self.random_start:
            batch_shape, state = x_init.batch_shape, x_init.event_shape
        else:
            # a known state is a number, or a vector in its last dimension
            batch_shape, state = self.x_init.shape[:-1], self.x_init.shape[-1:]
            if self.times[0] == t0:
                raise ValueError(
                    f"SDEPath: x_init is a known state at t0={t0}, so the path's first time must be "
                    "later; leave that time out, or give the distribution of the first state"
                )
        if len(state) > 1:
            raise ValueError(f"SDEPath: a state has shape () or (dim,); got {tuple(state)}")
        grid = self.times if self.random_start else [t0, *self.times]
        self.transitions = Transitions.along(sde, grid, state)
        event_shape = torch.Size([len(self.times)]) + state
        super().__init__(batch_shape, event_shape, validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.independent(constraints.real, len(self.event_shape))

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "SDEPath":
        batch_shape = torch.Size(batch_shape)
        state = self.event_shape[1:]
        new = type(self).__new__(type(self))
        new.__dict__.update(self.__dict__)
        # not by the constructor: to it, a batch of known numbers is one vector
        new.x_init = self.x_init.expand(batch_shape if self.random_start else batch_shape + state)
        TorchDistribution.__init__(new, batch_shape, self.event_shape, validate_args=False)
        return new

    def rsample(self, sample_shape: Sequence[int] = ()) -> torch.Tensor:
        start = self._start(torch.Size(sample_shape))
        batch = start.shape[: start.dim() - self.transitions.event_dim]
        shape = (*batch, len(self.transitions.scales), *self.event_shape[1:])
        return self.assemble(start, torch.randn(shape, dtype=start.dtype, device=start.device))

    def assemble(self, start: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """The path (..., times, *state) from its first or known state and standard normals."""
        if not self.transitions.scales:
            return start.unsqueeze(self.transitions.axis)
        later = self.transitions.path(start, noise)
        if not self.random_start:
            return later
        return torch.cat([start.unsqueeze(self.transitions.axis), later], dim=self.transitions.axis)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        if self._validate_args:
            self._validate_sample(value)
        axis = self.transitions.axis
        if self.random_start:
            first = self.x_init.log_prob(value.select(axis, 0))
            return first + self.transitions.log_density(value)
        shape = (*value.shape[:axis], 1, *self.event_shape[1:])
        known = self.x_init.unsqueeze(axis).expand(shape)
        return self.transitions.log_density(torch.cat([known, value], dim=axis))

    def _start(self, sample_shape: torch.Size) -> torch.Tensor:
        if self.random_start:
            return self.x_init.rsample(sample_shape) if self.has_rsample else self.x_init.sample(sample_shape)
        return self.x_init.expand(sample_shape + self.x_init.shape)


def _as_state(x_init: Any) -> torch.Tensor:
    try:
        state = torch.as_tensor(x_init)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"x_init, or x0, must be numbers or a distribution; got {x_init!r:.80}") from error
    return state if state.is_floating_point() else state.to(torch.get_default_dtype())
