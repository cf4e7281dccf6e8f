"""The path of a stochastic simulator as a distribution: one step after the other."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from pyro.distributions import constraints

from ..backend import whole_number
from .draws_alone import Asking, DrawsAlone, SamplerError, Values, as_rows, check_finite, derived

COUNTER = "k"


class MarkovPath(DrawsAlone):
    """States x_0, …, x_{length-1} of a simulator, each drawn from the one before it.

        def step(x, rng):                         # many states at once, (n, *state), by a NumPy generator
            return x + 0.1 * drift(x) + 0.3 * rng.standard_normal(x.shape)

        x = pyro.sample("x", sp.MarkovPath(step, dist.Normal(torch.zeros(3), 1.0).to_event(1), 64))

    step: a function of states (n, *state), which returns the next ones. Besides, it is called by name with
    what its parameters ask for: rng, generator or seed (as of `Simulated`; without any of them the global
    generators are seeded for the call), k for the number of the step, 0 for that from x_0 to x_1, and the
    names of `given`, {name: tensor}, each (n, *shape of the value). States are NumPy arrays where it takes
    rng or seed, else tensors.

    start: of x_0, a distribution of one state, a tensor for a state that is always the same, or a function as
    the sampler of a `Simulated` with n, and `state`, the shape of what it returns. length: how many states.
    density: ln p(next state given this one), for states (n, *state) and (n, *state) as tensors, and the names
    of `given`; with it, and a start that has one, the path has a density. dims, coords: as of `Simulated`,
    the first axis being time.

    The path's shape is (length, *state). Time grows with length, memory with n × length. The same torch seed
    gives the same draws. Raises: TypeError, ValueError for arguments; SamplerError, which a guide reports
    with the site's name, for states of another shape or not finite, with the step; NotImplementedError for
    log_prob without a density.
    """

    def __init__(
        self,
        step: Any,
        start: Any,
        length: int,
        *,
        given: Mapping[str, Any] | None = None,
        state: int | Sequence[int] | None = None,
        density: Any = None,
        dtype: torch.dtype | None = None,
        dims: str | Sequence[str] | None = None,
        coords: Mapping[str, Any] | None = None,
    ) -> None:
        if given is not None and not isinstance(given, Mapping):
            raise TypeError(f"MarkovPath: given must be {{name: value}}; got {given!r:.80}")
        self.given = {name: torch.as_tensor(value) for name, value in (given or {}).items()}
        self.length = whole_number("MarkovPath: length", length, 1)
        self.step = Asking("step", step, list(self.given), taken=1, optional=(COUNTER,))
        self.start = start
        self.sampler = None
        if callable(start) and not _is_distribution(start):
            if state is None:
                raise TypeError("MarkovPath: a start that is a function needs state=, the shape of one state")
            self.sampler = Asking("start", start, [])
        elif not _is_distribution(start):
            self.start = torch.as_tensor(start)
        self.density, self.dtype = density, dtype
        shape = self._state_shape() if state is None else _sizes(state)
        super().__init__((self.length, *shape), dims, coords)

    def __repr__(self) -> str:
        return f"MarkovPath({self.step.name}, {tuple(self.event_shape)})"

    @property
    def support(self) -> constraints.Constraint:
        return constraints.independent(constraints.real, len(self.event_shape))

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """ln p of paths (..., length, *state), (...)."""
        if self.density is None or not _is_distribution(self.start):
            raise NotImplementedError(
                f"{self!r} has no density: give MarkovPath(density=ln p of the next state given this one) "
                "and a start that is a distribution, or leave it to a guide, which needs draws alone"
            )
        state = tuple(self.event_shape[1:])
        lead = value.shape[: -len(self.event_shape)]
        paths = value.reshape(-1, *self.event_shape)
        first = self.start.log_prob(paths[:, 0])
        first = first.reshape(len(paths), -1).sum(dim=1)
        given = {
            name: part.expand(*lead, *part.shape).reshape(len(paths), *part.shape)
            for name, part in self.given.items()
        }
        before, after = paths[:, :-1].reshape(-1, *state), paths[:, 1:].reshape(-1, *state)
        repeated = {
            name: part[:, None]
            .expand(len(paths), self.length - 1, *part.shape[1:])
            .reshape(-1, *part.shape[1:])
            for name, part in given.items()
        }
        steps: torch.Tensor = self.density(after, before, **repeated)
        return (first + steps.reshape(len(paths), -1).sum(dim=1)).reshape(lead)

    def _rows(self, keys: torch.Tensor, given: Values) -> torch.Tensor:
        key, n, tensors = int(keys[0]), len(keys), self.step.takes_tensors
        arrays: dict[str, Any] = {
            name: value if tensors else value.cpu().numpy() for name, value in given.items()
        }
        first = self._first(key, n)
        states: list[Any] = [first if tensors else first.cpu().numpy()]
        expected = (n, *self.event_shape[1:])
        with self.step.session(derived(key, 1), n) as call:
            for k in range(self.length - 1):
                asked = {COUNTER: k, **arrays} if COUNTER in self.step.optional else arrays
                x = call(states[-1], **asked)
                if tuple(np.shape(x)) != expected:
                    raise SamplerError(
                        f"{self!r}: step {k} gave shape {tuple(np.shape(x))} for {n} states; expected "
                        f"{expected}"
                    )
                states.append(x)
        stacked = torch.stack(states, dim=1) if tensors else np.stack(states, axis=1)
        paths = as_rows(repr(self), stacked, self.dtype)
        self._check_steps(paths)
        return paths

    def _check_steps(self, paths: torch.Tensor) -> None:
        """Raises: SamplerError, naming the first step that gave what is not finite."""
        bad = (~torch.isfinite(paths)).reshape(len(paths), self.length, -1).any(dim=2).any(dim=0)
        if bool(bad.any()):
            k = int(bad.nonzero()[0, 0])
            who = f"{self!r}, step {k - 1}" if k else f"{self!r}, start"
            check_finite(who, paths[:, k], [f"draw {i} of {len(paths)}" for i in range(len(paths))])

    def _first(self, key: int, n: int) -> torch.Tensor:
        """x_0, (n, *state)."""
        expected = (n, *self.event_shape[1:])
        if self.sampler is not None:
            found = as_rows("start", self.sampler(derived(key, 0), n), self.dtype)
        elif isinstance(self.start, torch.Tensor):
            found = as_rows("start", self.start, self.dtype).expand(expected)
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(derived(key, 0))
                found = as_rows("start", self.start.sample((n,)), self.dtype)
        if tuple(found.shape) != expected:
            raise SamplerError(f"{self!r}: the start has shape {tuple(found.shape)}; expected {expected}")
        return found

    def _state_shape(self) -> tuple[int, ...]:
        if isinstance(self.start, torch.Tensor):
            return tuple(self.start.shape)
        return tuple(self.start.batch_shape + self.start.event_shape)


def _is_distribution(start: object) -> bool:
    return isinstance(start, torch.distributions.Distribution)


def _sizes(state: int | Sequence[int]) -> tuple[int, ...]:
    sizes = (state,) if isinstance(state, int) else tuple(state)
    return tuple(whole_number("MarkovPath: state", size, 1) for size in sizes)
