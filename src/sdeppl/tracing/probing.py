"""Looking at functions of the latents where the draws from the prior are."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ..backend.sharing import SHARED

SLOW_PROBES = 16
CHUNK = 64
LARGEST = 2**22  # numbers in the latents of one chunk
FAILURES = (RuntimeError, NotImplementedError, ValueError, TypeError)


@dataclass(frozen=True)
class Probes:
    """Unconstrained draws (at least 4, dim), and the relative tolerance to which numbers agree there."""

    draws: torch.Tensor
    tolerance: float

    def values(self, function: Callable[[torch.Tensor], Any]) -> tuple[Any, bool]:
        """The function at all draws, and True; at the first few, and False, where vmap cannot run it.

        function: z (dim,) ↦ a tensor or a tuple of them.
        """
        try:
            return over_rows(function, self.draws, True, CHUNK), True
        except FAILURES:
            return over_rows(function, self.draws[:SLOW_PROBES], False), False

    def agree(self, one: torch.Tensor, other: torch.Tensor) -> bool:
        """Whether two densities (draws,) or predictors are the same to what the model's dtype resolves."""
        tolerance = 100 * self.tolerance
        return torch.allclose(one, other, rtol=tolerance, atol=tolerance, equal_nan=True)

    def affine(
        self, function: Callable[[torch.Tensor], torch.Tensor], values: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """H (n, dim) and offset (n,) with function(z) = H z + offset at all draws seen, else None.

        The Jacobian at the first draw must lead to the values (draws, n) at all the others.
        """
        with torch.no_grad():
            H = torch.func.jacrev(function)(self.draws[0])
        steps = self.draws[1 : values.shape[0]] - self.draws[0]
        size = values[1:].abs() + values[0].abs() + steps.abs() @ H.abs().T
        if bool(((values[1:] - values[0] - steps @ H.T).abs() <= self.tolerance * size).all()):
            return H, values[0] - H @ self.draws[0]
        return None

    def differentiable(
        self, function: Callable[[torch.Tensor], torch.Tensor], values: torch.Tensor, vectorised: bool
    ) -> tuple[bool, bool]:
        """Whether the function (n,) or () has a gradient that accounts for it, and whether under vmap.

        Not where it cannot be taken (NumPy inside), is not finite where the value is, is another one than
        differences show (.item(), .detach()), or is zero in latents that the value depends on (round,
        argmax, comparisons).
        """
        weights = torch.rand(values[0].shape, generator=torch.Generator().manual_seed(0), dtype=values.dtype)

        def mixed(z: torch.Tensor) -> torch.Tensor:
            return ((0.5 + weights) * function(z)).sum()

        for under_vmap in (True, False)[not vectorised :]:
            rows = self.draws if under_vmap else self.draws[:SLOW_PROBES]
            try:
                slopes = over_rows(torch.func.grad(mixed), rows, under_vmap, CHUNK)
            except FAILURES:
                continue
            finite = torch.isfinite(values[: len(rows)].reshape(len(rows), -1)).all(dim=1)
            return self._accounts_for(mixed, rows[finite], slopes[finite], under_vmap), under_vmap
        return False, vectorised

    def _accounts_for(
        self,
        function: Callable[[torch.Tensor], torch.Tensor],
        rows: torch.Tensor,
        slopes: torch.Tensor,
        vectorised: bool,
    ) -> bool:
        """Whether the slopes (rows, dim) of a function z ↦ () are finite and explain how it changes."""
        if not torch.isfinite(slopes).all():
            return False
        generator = torch.Generator().manual_seed(1)
        spread = self.draws.std(dim=0) * torch.randn(rows.shape, generator=generator, dtype=rows.dtype)
        precise = self.tolerance < 1e-6
        step, tolerance, eps = (1e-5, 1e-3, 2e-16) if precise else (1e-2, 0.1, 1e-7)
        up, down = (over_rows(function, rows + sign * step * spread, vectorised, CHUNK) for sign in (1, -1))
        secants, tangents = (up - down) / (2 * step), (slopes * spread).sum(dim=1)
        limit = tolerance * (secants.abs() + tangents.abs()) + 100 * eps * (up.abs() + down.abs()) / step
        # a kink between two points is no fault; a slope that is mostly another one is
        if bool(((secants - tangents).abs() <= limit).double().mean() < 0.5):
            return False
        silent = (slopes == 0).all(dim=0)
        if not silent.any():
            return True
        # moving only what the gradient is silent about must change nothing
        before = over_rows(function, rows, vectorised, CHUNK)
        after = over_rows(function, torch.where(silent, rows.roll(1, 0), rows), vectorised, CHUNK)
        return torch.allclose(before, after, rtol=self.tolerance, atol=self.tolerance, equal_nan=True)


def over_rows(
    function: Callable[[torch.Tensor], Any], rows: torch.Tensor, vectorised: bool, chunk: int = 16384
) -> Any:
    """The function of z (dim,) at each row (batch, dim), stacked; under vmap, or one by one.

    function: z ↦ a tensor or a tuple of them. No graph is kept of parameters inside it.
    """
    with SHARED, torch.no_grad():
        if vectorised:
            chunk = min(chunk, max(CHUNK, LARGEST // max(rows.shape[1], 1)))
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="There is a performance drop")
                return torch.func.vmap(function, randomness="different", chunk_size=chunk)(rows)
        found = [function(row) for row in rows]
    if isinstance(found[0], torch.Tensor):
        return torch.stack(found)
    return tuple(torch.stack(parts) for parts in zip(*found, strict=True))
