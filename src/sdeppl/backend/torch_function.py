"""A torch module as a function on arrays of any backend, with vector–Jacobian products."""

from collections.abc import Callable
from typing import Any

from .errors import require_device
from .resolve import backend_of
from .transfer import from_torch, to_torch


class TorchFunction:
    """x ↦ module(x, *numbers) for x (batch, dim) of any backend on the module's device.

    Arrays cross by DLPack and come back in the library and dtype of x; the module runs in its own
    dtype and without dropout. Each row's output depends on that row only, as every eps-net's does.
    No graph is kept, unless x is a tensor that needs a gradient.

    Raises: BackendMismatch where x and the module are on different devices.
    """

    def __init__(self, module: Any) -> None:
        if not callable(getattr(module, "parameters", None)):
            raise TypeError(f"TorchFunction takes a torch module; got a {type(module).__name__}")
        self.module = module.eval()
        self.parameter = next(module.parameters(), None)

    def __call__(self, x: Any, *numbers: float) -> Any:
        """module(x, *numbers), (batch, dim)."""
        import torch

        with torch.set_grad_enabled(wants_gradient(x)):
            if isinstance(x, torch.Tensor):  # not detached, so that derivatives pass through
                return self._run(x, numbers).to(x.dtype)
            return from_torch(self._run(to_torch(x), numbers), backend_of(x))

    def with_pullback(self, x: Any, *numbers: float) -> tuple[Any, Callable[[Any], Any]]:
        """The value at x, and v ↦ vᵀ ∂module/∂x row by row, from one evaluation.

        The pullback takes v (batch, dim), or several at once, (k, batch, dim), which is faster.
        """
        import torch

        backend, is_torch = backend_of(x), isinstance(x, torch.Tensor)
        tensor = x if is_torch else to_torch(x)  # not detached, so that derivatives pass through
        value, pull = backend_of(tensor).adapter.with_pullback(lambda z: self._run(z, numbers), tensor, 1.0)

        def pullback(v: Any) -> Any:
            found = pull((v if is_torch else to_torch(v)).to(value.dtype))
            return found if is_torch else from_torch(found, backend)

        return value.to(x.dtype) if is_torch else from_torch(value, backend), pullback

    def bilinear_slope(self, x: Any, left: Any, right: Any, *numbers: float) -> Any:
        """∂/∂x Σ_a l_aᵀ (∂module/∂x) r_a row by row, (batch, dim), for left and right (batch, dim, k).

        Differentiated twice in torch, whatever the library of x; one evaluation of batch × k rows.
        """
        import torch

        from .twice import second_derivative

        backend, is_torch = backend_of(x), isinstance(x, torch.Tensor)
        inputs, outer, inner = (a if is_torch else to_torch(a) for a in (x, left, right))

        def rows(tensor: Any) -> Any:
            return tensor.movedim(-1, 1).flatten(0, 1)

        def value(z: Any) -> Any:
            repeated = rows(z[..., None].expand(inner.shape))
            output, vjp, *_ = torch.func.vjp(lambda r: self._run(r, numbers), repeated)
            return (vjp(rows(outer).to(output.dtype))[0] * rows(inner)).sum()

        with torch.set_grad_enabled(wants_gradient(x)):  # which grad itself disregards
            slope = second_derivative(lambda: torch.func.grad(value)(inputs))
        return slope if is_torch else from_torch(slope, backend)

    def _run(self, tensor: Any, numbers: tuple[float, ...]) -> Any:
        if self.parameter is None:  # which runs wherever and in whatever dtype it is given
            return self.module(tensor, *numbers)
        require_device(tensor.device, self.parameter.device, "an array for this module")
        return self.module(tensor.to(self.parameter.dtype), *numbers)


def wants_gradient(array: Any) -> bool:
    """Whether it is a tensor that a gradient is to pass through; torch is imported for nothing else."""
    if not getattr(array, "requires_grad", False):
        return False
    import torch

    return torch.is_grad_enabled()
