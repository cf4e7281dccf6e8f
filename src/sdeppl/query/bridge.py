"""Functions of the unconstrained latents, in torch, as functions of standardised arrays of any backend."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from ..backend import Array, Backend, BackendMismatch, from_torch, place, to_torch
from ..backend.sharing import SHARED, cached_property
from ..linalg import Diagonal, LinearOperator, MatrixFree, Selection, placed
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

    def values(self, function: Callable[[torch.Tensor], Any], chunk: int = 16384) -> Callable[[Array], Any]:
        """x ↦ function(z), for z (dim,) ↦ a tensor or a tuple of them; chunk: rows at a time."""

        return partial(self._values, function, chunk)

    def _values(self, function: Callable[[torch.Tensor], Any], chunk: int, x: Array) -> Any:
        found = over_rows(function, self.latents(x), self.vectorised, chunk)
        if isinstance(found, tuple):
            return tuple(self.arrive(part) for part in found)
        return self.arrive(found)

    def with_jacobian(
        self, function: Callable[[torch.Tensor], tuple[torch.Tensor, ...]]
    ) -> Callable[[Array], Any]:
        """x ↦ predictor (batch, n), its Jacobian in x (batch, n, dim), and what else the function gives.

        function: z (dim,) ↦ (predictor (n,), ...).
        """
        mode = cheaper_mode(partial(_and_first, function), self.gaussian.location)
        return self.values(partial(self._flat, mode, function), 4096)

    def _flat(
        self, mode: Any, function: Callable[[torch.Tensor], tuple[torch.Tensor, ...]], z: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        jacobian, (predicted, *rest) = mode(partial(_and_first, function), has_aux=True)(z)
        return (predicted, jacobian * self.gaussian.scale, *rest)

    def bend(self, function: Callable[[torch.Tensor], tuple[torch.Tensor, ...]]) -> "Bend":
        """How the Jacobian and R of `with_jacobian(function)` change; function: z ↦ (predictor (n,)[, R])."""
        return Bend(self, function)

    def gradient(self, function: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Array], Array]:
        """x ↦ ∂function/∂x (batch, dim), for z (dim,) ↦ a number."""
        return self.values(partial(self._slope, function))

    def _slope(self, function: Callable[[torch.Tensor], torch.Tensor], z: torch.Tensor) -> torch.Tensor:
        slope: torch.Tensor = torch.func.grad(function)(z)
        return slope * self.gaussian.scale

    def elementwise(
        self, function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    ) -> Callable[[Array, Array], Array]:
        """The function of arrays of the backend instead of tensors; no latents are among them."""

        return partial(self._elementwise, function)

    def _elementwise(self, function: Callable[..., torch.Tensor], *arrays: Array) -> Array:
        like = self.gaussian.location
        with torch.no_grad():
            return self.arrive(function(*(to_torch(array).to(like) for array in arrays)))

    def arrive(self, tensor: torch.Tensor) -> Array:
        """A tensor as an array of the backend; the model runs where it runs, whatever the backend."""
        try:
            return from_torch(tensor, self.backend)
        except BackendMismatch:
            return place(tensor, self.backend)

    def operator(self, H: torch.Tensor | LinearOperator) -> Array | LinearOperator:
        """H in x, on the backend, for H in z.

        An operator whose rows have one entry each is so again; of others each product goes through torch.
        """
        gaussian, backend = self.gaussian, self.backend
        if isinstance(H, torch.Tensor):
            return place(H * gaussian.scale, backend)
        if H.single_entries is not None:
            index, values = H.single_entries
            scale: Any = gaussian.scale
            found: Any = Diagonal(values * scale[index]) @ Selection(index, H.shape[1], values)
            return placed(found, backend)
        forward, backward = partial(self._forward, H), partial(self._backward, H)
        like = place(gaussian.location, backend)
        return MatrixFree(forward, backward, H.shape, like, several=True)

    def _forward(self, H: LinearOperator, v: Array) -> Array:
        found: Any = H.matvec(self.gaussian.scale * to_torch(v).to(self.gaussian.location))
        return self.arrive(found)

    def _backward(self, H: LinearOperator, w: Array) -> Array:
        found: Any = H.rmatvec(to_torch(w).to(self.gaussian.location))
        return self.arrive(self.gaussian.scale * found)

    def latents(self, x: Array) -> torch.Tensor:
        """z (batch, dim) in torch."""
        z: torch.Tensor = self.gaussian.location + self.gaussian.scale * to_torch(x).to(
            self.gaussian.location
        )
        return z


def _and_first(
    function: Callable[[torch.Tensor], tuple[torch.Tensor, ...]], z: torch.Tensor
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    found = function(z)
    return found[0], found


@dataclass(frozen=True)
class Bend:
    """x, of_H, of_R ↦ ∂/∂x (Σ of_H ∘ ∂predictor/∂x + Σ of_R ∘ R), (batch, dim); of_H or of_R may be None.

    One gradient through the Jacobian gives all of it. None where the model has an operation that torch does
    not differentiate twice, which is tried at the first call.
    """

    bridge: Bridge
    function: Callable[[torch.Tensor], tuple[torch.Tensor, ...]]

    def __call__(self, x: Array, of_H: Array, of_R: Array) -> Array | None:
        if not self._twice:
            return None
        z = self.bridge.latents(x)
        parts = [to_torch(part).to(z).flatten(1) for part in (of_H, of_R) if part is not None]
        rows = torch.cat([z, *parts], dim=1)
        slope = self._slope if of_H is not None else self._noise_slope
        return self.bridge.arrive(over_rows(slope, rows, self.bridge.vectorised, 4096))

    def _predictor(self, z: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        return _and_first(self.function, z)

    @cached_property
    def _mode(self) -> Any:
        return cheaper_mode(self._predictor, self.bridge.gaussian.location)

    @cached_property
    def _twice(self) -> bool:
        location = self.bridge.gaussian.location
        with torch.no_grad():
            numbers = location.numel() * self.function(location)[0].numel()
        try:
            self._slope(torch.cat([location, torch.zeros(numbers).to(location)]))
        except (NotImplementedError, RuntimeError):
            return False
        return True

    def _slope(self, row: torch.Tensor) -> torch.Tensor:
        """Of one row: z, the weights of the Jacobian and, if any, those of R, one after the other."""
        scale = self.bridge.gaussian.scale
        z, weights = row[: scale.numel()], row[scale.numel() :]

        def total(z: torch.Tensor) -> torch.Tensor:
            jacobian, (_, *R) = self._mode(self._predictor, has_aux=True)(z)
            of_H, of_R = weights[: jacobian.numel()], weights[jacobian.numel() :]
            sum_H = (jacobian * scale * of_H.reshape(jacobian.shape)).sum()
            return sum_H + (R[0] * of_R.reshape(R[0].shape)).sum() if of_R.numel() else sum_H

        slope: torch.Tensor = torch.func.grad(total)(z) * scale
        return slope

    def _noise_slope(self, row: torch.Tensor) -> torch.Tensor:
        """Of one row: z, then the weights of R."""
        scale = self.bridge.gaussian.scale

        def total(z: torch.Tensor) -> torch.Tensor:
            R = self.function(z)[1]
            return (R * row[scale.numel() :].reshape(R.shape)).sum()

        slope: torch.Tensor = torch.func.grad(total)(row[: scale.numel()]) * scale
        return slope


def cheaper_mode(function: Callable[[torch.Tensor], tuple[torch.Tensor, Any]], z: torch.Tensor) -> Any:
    """`torch.func.jacfwd` where z (dim,) has fewer numbers than the function's value, else `jacrev`.

    One costs a pass for each number of z, the other one for each of the value. An operation in torch may
    lack the first; whether the function has one is tried at z.
    """
    with torch.no_grad():
        if z.numel() >= function(z)[0].numel():
            return torch.func.jacrev
    try:
        with SHARED:
            torch.func.jacfwd(function, has_aux=True)(z)
    except (NotImplementedError, RuntimeError):
        return torch.func.jacrev
    return torch.func.jacfwd
