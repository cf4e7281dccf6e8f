"""Functions of the unconstrained latents, in torch, as functions of standardised arrays of any backend."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ..backend import Backend, BackendMismatch, from_torch, place, to_torch
from ..tracing import over_rows
from .gaussian_part import GaussianPart


@dataclass(frozen=True)
class Bridge:
    """From arrays x (batch, dim) of the backend to z = location + scale · x in torch, and back.

    vectorised: whether the functions of z are fit for vmap; else they are called row by row.
    """

    gaussian: GaussianPart
    backend: Backend
    vectorised: bool

    def values(self, function: Callable[[torch.Tensor], Any], chunk: int = 16384) -> Callable[[Any], Any]:
        """x ↦ function(z), for z (dim,) ↦ a tensor or a tuple of them; chunk: rows at a time."""

        def call(x: Any) -> Any:
            found = over_rows(function, self._latents(x), self.vectorised, chunk)
            if isinstance(found, tuple):
                return tuple(self.arrive(part) for part in found)
            return self.arrive(found)

        return call

    def with_jacobian(
        self, function: Callable[[torch.Tensor], tuple[torch.Tensor, ...]]
    ) -> Callable[[Any], tuple[Any, ...]]:
        """x ↦ predictor (batch, n), its Jacobian in x (batch, n, dim), and what else the function gives.

        function: z (dim,) ↦ (predictor (n,), ...).
        """

        def one(z: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
            found = function(z)
            return found[0], found

        differentiate = cheaper_mode(one, self.gaussian.location)

        def flat(z: torch.Tensor) -> tuple[torch.Tensor, ...]:
            jacobian, (predicted, *rest) = differentiate(one, has_aux=True)(z)
            return (predicted, jacobian * self.gaussian.scale, *rest)

        return self.values(flat, 4096)

    def gradient(self, function: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Any], Any]:
        """x ↦ ∂function/∂x (batch, dim), for z (dim,) ↦ a number."""
        slope = torch.func.grad(function)
        return self.values(lambda z: slope(z) * self.gaussian.scale)

    def elementwise(
        self, function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    ) -> Callable[[Any, Any], Any]:
        """The function of arrays of the backend instead of tensors; no latents are among them."""

        def call(*arrays: Any) -> Any:
            like = self.gaussian.location
            with torch.no_grad():
                return self.arrive(function(*(to_torch(array).to(like) for array in arrays)))

        return call

    def arrive(self, tensor: torch.Tensor) -> Any:
        """A tensor as an array of the backend; the model runs where it runs, whatever the backend."""
        try:
            return from_torch(tensor, self.backend)
        except BackendMismatch:
            return place(tensor, self.backend)

    def _latents(self, x: Any) -> torch.Tensor:
        z: torch.Tensor = self.gaussian.location + self.gaussian.scale * to_torch(x).to(
            self.gaussian.location
        )
        return z


def cheaper_mode(function: Callable[[torch.Tensor], tuple[torch.Tensor, Any]], z: torch.Tensor) -> Any:
    """`torch.func.jacfwd` where z (dim,) has fewer numbers than the function's value, else `jacrev`.

    One costs a pass for each number of z, the other one for each of the value. An operation in torch may
    lack the first; whether the function has one is tried at z.
    """
    with torch.no_grad():
        if z.numel() >= function(z)[0].numel():
            return torch.func.jacrev
    try:
        torch.func.jacfwd(function, has_aux=True)(z)
    except (NotImplementedError, RuntimeError):
        return torch.func.jacrev
    return torch.func.jacfwd
