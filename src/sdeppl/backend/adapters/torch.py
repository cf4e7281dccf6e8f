"""PyTorch."""

from collections.abc import Callable
from typing import Any, TypeAlias

from array_api_compat import is_torch_array

from ..sharing import SHARED
from ..typing import Device, Namespace
from .base import Adapter, BackendUnavailable, Normal, Special, T, require_device

Tensor: TypeAlias = Any  # a torch.Tensor, where the base class has an array of any library


class TorchAdapter(Adapter):
    """PyTorch on the CPU or on a CUDA device."""

    name = "torch"
    selectors = ("torch", "torch:cpu", "torch:cuda", "torch:cuda:<index>")

    @classmethod
    def open(cls, device: str) -> tuple[Namespace, Device]:
        try:
            import array_api_compat.torch as xp
            import torch
        except ImportError as error:
            raise BackendUnavailable(f"backend 'torch' needs torch: pip install torch ({error})") from error
        try:
            found = torch.device(device or "cpu")
        except RuntimeError as error:
            raise BackendUnavailable(
                f"torch has no device {device!r}; use 'torch', 'torch:cuda' or 'torch:cuda:<index>'"
            ) from error
        if found.type not in ("cpu", "cuda"):
            raise BackendUnavailable(
                f"torch on {found.type!r} is not supported; use 'torch', 'torch:cuda' or 'torch:cuda:<index>'"
            )
        if found.type == "cpu":
            found = torch.device("cpu")  # as tensors report it, whatever index was asked for
        if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
            raise BackendUnavailable(
                f"backend 'torch:{device}' needs a CUDA device and a CUDA build of torch; torch "
                f"{torch.__version__} sees {torch.cuda.device_count()} CUDA devices; use 'torch' for the CPU"
            )
        if found.type == "cuda" and found.index is None:
            found = torch.device("cuda", torch.cuda.current_device())
        return xp, found

    @classmethod
    def owns(cls, array: object) -> bool:
        return is_torch_array(array)

    @classmethod
    def normal(cls, seed: int, device: Device) -> Normal:
        import torch

        generator = torch.Generator(device=device).manual_seed(seed)
        return lambda shape, dtype: torch.randn(shape, generator=generator, dtype=dtype, device=device)

    @classmethod
    def to_torch(cls, array: Tensor) -> Tensor:
        return array.detach()

    @classmethod
    def from_torch(cls, tensor: Tensor, device: Device) -> Tensor:
        require_device(tensor.device, device, "torch")
        return tensor

    @classmethod
    def to_host(cls, array: Tensor) -> Tensor:
        import torch

        host = array.detach().cpu()
        if host.layout != torch.strided:
            host = host.to_dense()
        # NumPy has no bfloat16
        return (host.float() if host.dtype == torch.bfloat16 else host).resolve_conj().resolve_neg().numpy()

    @classmethod
    def special(cls, name: Special, array: Tensor) -> Tensor:
        import torch

        return getattr(torch.special, name)(array)

    @classmethod
    def readable(cls, array: Tensor) -> bool:
        import torch

        return array.device.type == "cpu" and not torch.compiler.is_compiling()

    @classmethod
    def no_root(cls) -> type[Exception]:
        import torch

        return torch.linalg.LinAlgError

    @classmethod
    def cholesky(cls, matrices: Tensor) -> Tensor:
        import torch

        root, info = torch.linalg.cholesky_ex(matrices)
        return torch.where((info == 0)[:, None, None], root, torch.nan)

    @classmethod
    def solve_triangular(cls, matrix: Tensor, right: Tensor, upper: bool) -> Tensor:
        import torch

        return torch.linalg.solve_triangular(matrix, right, upper=upper)

    @classmethod
    def free_memory(cls, device: Device) -> int | None:
        import torch

        if device.type != "cuda":
            return None
        free, _ = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # held for reuse
        return int(free + unused)

    @classmethod
    def traced(cls) -> bool:
        import torch

        return bool(torch.compiler.is_compiling())

    @classmethod
    def detached(cls, array: Tensor) -> Tensor:
        return array.detach()

    @classmethod
    def checkpoint(cls, function: Callable[..., T], *arguments: object) -> T:
        from torch.utils.checkpoint import checkpoint

        # torch's global random state is left alone: nothing that is solved draws from it
        return checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)

    @classmethod
    def jvp(cls, function: Callable[[Tensor], Tensor], x: Tensor, v: Tensor) -> Tensor:
        from ..twice import forward_derivative

        # rows that share memory, as those of a broadcast array, cannot be made dual
        with SHARED:  # torch has one count of such derivatives within each other for all threads
            return forward_derivative(function, x.contiguous(), v.contiguous())

    @classmethod
    def with_pullback(
        cls, function: Callable[[Tensor], Tensor], x: Tensor, width: float
    ) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        import torch

        wanted = torch.is_grad_enabled() and x.requires_grad
        with torch.set_grad_enabled(wanted):  # which vjp itself disregards
            value, vjp, *_ = torch.func.vjp(function, x)

        def pullback(v: Tensor) -> Tensor:
            with torch.set_grad_enabled(wanted):
                if v.ndim == value.ndim:
                    return vjp(v, retain_graph=True)[0]
                return torch.func.vmap(lambda one: vjp(one, retain_graph=True)[0])(v)

        return value, pullback
