"""Looking at functions of the latents where the draws from the prior are."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..backend.sharing import SHARED
from .reader import shared

SLOW_PROBES = 16
CHUNK = 64
LARGEST = 2**22  # numbers in the latents of one chunk
FAILURES = (RuntimeError, NotImplementedError, ValueError, TypeError)

Function = Callable[[torch.Tensor], Any]


@dataclass(frozen=True)
class Probes:
    """Unconstrained draws (at least 4, dim), and the relative tolerance to which numbers agree there."""

    draws: torch.Tensor
    tolerance: float

    def values(self, functions: Sequence[Function], rows: int | None = None) -> list[Any]:
        """Of each function its values at all draws (or the first `rows`), and True; at the first few, and
        False, where vmap cannot run it; or what it raised there too.

        functions: z (dim,) ↦ a tensor or a tuple of them. The model is run once for all of them.
        """
        answers: list[Any] = [None] * len(functions)

        def call(z: torch.Tensor) -> tuple[Any, ...]:
            found = []
            for k, value in enumerate(shared(functions, z)):
                try:
                    found.append(value())
                except FAILURES as error:
                    answers[k] = error
                    found.append(z.sum())  # not read
            return tuple(found)

        try:
            together = over_rows(call, self.draws[:rows], True, CHUNK)
        except FAILURES as error:
            together = [error] * len(functions)
            answers = list(together)
        slow = [k for k, error in enumerate(answers) if error is not None]
        found = self._one_by_one([functions[k] for k in slow], rows) if slow else []
        for k, value in enumerate(together):
            if answers[k] is None:
                answers[k] = (value, True)
        for k, value in zip(slow, found, strict=True):
            answers[k] = value if isinstance(value, Exception) else (value, False)
        return answers

    def _one_by_one(self, functions: Sequence[Function], rows: int | None) -> list[Any]:
        """The values of each at the first few draws, without vmap, or what it raised."""
        found: list[list[Any]] = [[] for _ in functions]
        failed: dict[int, Exception] = {}
        with SHARED, torch.no_grad():
            for z in self.draws[:rows][:SLOW_PROBES]:
                for k, value in enumerate(shared(functions, z)):
                    try:
                        found[k].append(value())
                    except FAILURES as error:
                        failed.setdefault(k, error)
        return [failed[k] if k in failed else _stack(values) for k, values in enumerate(found)]

    def agree(self, one: torch.Tensor, other: torch.Tensor) -> bool:
        """Whether two densities (draws,) or predictors are the same to what the model's dtype resolves."""
        tolerance = 100 * self.tolerance
        return torch.allclose(one, other, rtol=tolerance, atol=tolerance, equal_nan=True)

    def affine(
        self, functions: Sequence[Function], values: Sequence[torch.Tensor]
    ) -> list[tuple[torch.Tensor, torch.Tensor] | None]:
        """Of each function H (n, dim) and offset (n,) with function(z) = H z + offset at all draws seen, else
        None.

        The Jacobian at the first draw must lead to the values (draws, n) at all the others.
        """
        sizes = [value.shape[1] for value in values]

        def every(z: torch.Tensor) -> torch.Tensor:
            return torch.cat([value() for value in shared(functions, z)])

        with torch.no_grad():
            Hs = jacobian(every, self.draws[0]).split(sizes)
        return [self._affine(H, value) for H, value in zip(Hs, values, strict=True)]

    def _affine(self, H: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
        steps = self.draws[1 : values.shape[0]] - self.draws[0]
        size = values[1:].abs() + values[0].abs() + steps.abs() @ H.abs().T
        if bool(((values[1:] - values[0] - steps @ H.T).abs() <= self.tolerance * size).all()):
            return H, values[0] - H @ self.draws[0]
        return None


def jacobian(function: Callable[[torch.Tensor], torch.Tensor], z: torch.Tensor) -> torch.Tensor:
    """(n, dim) of a function z (dim,) ↦ (n,), by backward passes: some at a time, or one by one where vmap
    cannot run them."""
    chunk = max(CHUNK, LARGEST // max(z.numel(), 1))
    try:
        found: torch.Tensor = torch.func.jacrev(function, chunk_size=chunk)(z)
        return found
    except FAILURES:
        value, backward = torch.func.vjp(function, z)[:2]
        return torch.stack([backward(unit)[0] for unit in torch.eye(len(value), dtype=value.dtype)])


def over_rows(function: Function, rows: torch.Tensor, vectorised: bool, chunk: int = 16384) -> Any:
    """The function of z (dim,) at each row (batch, dim), stacked; under vmap, or one by one.

    function: z ↦ a tensor or a tuple of them. No graph is kept of parameters inside it.
    """

    def named(row: torch.Tensor) -> Any:  # of what has no name vmap takes the repr, with all data in it
        return function(row)

    with SHARED, torch.no_grad():
        if vectorised:
            chunk = min(chunk, max(CHUNK, LARGEST // max(rows.shape[1], 1)))
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="There is a performance drop")
                return torch.func.vmap(named, randomness="different", chunk_size=chunk)(rows)
        return _stack([function(row) for row in rows])


def _stack(found: Sequence[Any]) -> Any:
    if isinstance(found[0], torch.Tensor):
        return torch.stack(tuple(found))
    return tuple(torch.stack(parts) for parts in zip(*found, strict=True))
