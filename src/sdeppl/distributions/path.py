"""SDE paths as Pyro distributions: of a state, of x0 as it turns to noise, and by their increments."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution, constraints
from pyro.infer.reparam.reparam import Reparam

from ..backend import real_times
from ..sde import IsotropicSDE
from .typing import Site


def checked_times(times: object, lowest: float, site: str) -> list[float]:
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


def _shifts(sde: IsotropicSDE, shifts: Sequence[object], state: torch.Size) -> torch.Tensor:
    rows = [torch.as_tensor(shift, dtype=torch.float64) for shift in shifts]
    for row in rows:
        if row.shape not in ((), state):
            raise ValueError(
                f"{type(sde).__name__} shifts states of shape {tuple(row.shape)}; these have shape "
                f"{tuple(state)}"
            )
    return torch.stack([row.expand(state) for row in rows])


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

    def expand(self, batch_shape: Sequence[int], _instance: object = None) -> "SDEPath":
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


def _as_state(x_init: object) -> torch.Tensor:
    try:
        state = torch.as_tensor(x_init)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"x_init, or x0, must be numbers or a distribution; got {x_init!r:.80}") from error
    return state if state.is_floating_point() else state.to(torch.get_default_dtype())


class Diffusion(SDEPath):
    """x_t at `times` for the forward SDE that starts from the site x0: event shape (times, *x0).

    sde: an affine SDE; x0: the value of a site, a number or (..., dim); times: rising, in (0, T].
    Sampling it shows the noising; `ScoreGuide` reads the forward SDE from it and reverses it. No
    posterior query and no NUTS run includes it, since nothing that is observed depends on it.

    Raises: ValueError for times outside (0, T] or not rising; TypeError for an SDE that is not
    affine.
    """

    def __init__(
        self,
        sde: IsotropicSDE,
        x0: torch.Tensor,
        times: Sequence[float] | torch.Tensor,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(sde, x0, times, t0=0.0, validate_args=validate_args)
        if self.times[-1] > sde.T:
            raise ValueError(f"Diffusion: times must be in (0, {sde.T}]; got {self.times[-1]}")


class WienerReparam(Reparam):
    """Replace an `SDEPath` site by its start and its standard normal increments.

    `nuts(..., reparam={"level": WienerReparam()})` samples `level_start` and `level_noise` and makes
    `level` from them; the posterior is the same, its geometry another. It mixes better where the
    observations say little, the path itself where they say much.

    Raises: TypeError for a site that is not an `SDEPath`.
    """

    def apply(self, msg: Site) -> Any:
        name, fn = msg["name"], msg["fn"]
        if not isinstance(fn, SDEPath):
            raise TypeError(f"site '{name}': WienerReparam needs an SDEPath; got {type(fn).__name__}")
        if msg["is_observed"]:
            raise ValueError(f"site '{name}' is observed; WienerReparam is for latent paths")
        start = fn.x_init
        if fn.random_start:
            start = pyro.sample(f"{name}_start", fn.x_init)
        shape = (*fn.batch_shape, len(fn.transitions.scales), *fn.event_shape[1:])
        zeros = torch.zeros(shape, dtype=start.dtype, device=start.device)
        noise = pyro.sample(f"{name}_noise", dist.Normal(zeros, 1.0).to_event(fn.event_dim))
        path = fn.assemble(start.expand(fn.batch_shape + fn.event_shape[1:]), noise)
        return {
            "fn": dist.Delta(path, event_dim=fn.event_dim).mask(False),
            "value": path,
            "is_observed": True,
        }
