"""CuPy. Runs only where a CUDA device is; here it is tested as far as that allows."""

from typing import TYPE_CHECKING, Any

import numpy as np
from array_api_compat import is_cupy_array

from ..typing import Array, Device, DType, Namespace
from .base import Adapter, BackendUnavailable, Normal, Special, require_device

if TYPE_CHECKING:
    import torch


def _one_line(error: Exception) -> str:
    """CuPy's messages are banners of many lines; this is the last, which names the cause."""
    return (str(error).strip("= \n").splitlines() or [type(error).__name__])[-1].strip()


class CupyAdapter(Adapter):
    """CuPy on a CUDA device."""

    name = "cupy"
    selectors = ("cupy", "cupy:<index>")

    @classmethod
    def open(cls, device: str) -> tuple[Namespace, Device]:
        try:
            import cupy
        except ImportError as error:
            raise BackendUnavailable(
                f"backend 'cupy' needs CuPy: pip install 'sdeppl[cupy]' ({_one_line(error)})"
            ) from error
        try:
            found = cupy.cuda.Device(int(device or 0))
            found.compute_capability  # noqa: B018 - asks the driver, which fails without a device
        except Exception as error:  # CuPy raises several kinds, each meaning no usable device
            raise BackendUnavailable(
                f"backend 'cupy' needs a CUDA device, and none is usable: {_one_line(error)}"
            ) from error
        import array_api_compat.cupy as xp

        return xp, found

    @classmethod
    def owns(cls, array: object) -> bool:
        return is_cupy_array(array)

    @classmethod
    def device_name(cls, device: Device) -> str:
        return str(device.id)

    @classmethod
    def normal(cls, seed: int, device: Device) -> Normal:
        import cupy

        with device:
            generator = cupy.random.Generator(cupy.random.XORWOW(seed))

        def draw(shape: tuple[int, ...], dtype: DType) -> Array:
            with device:
                return generator.standard_normal(shape, dtype=dtype)

        return draw

    @classmethod
    def to_torch(cls, array: Any) -> "torch.Tensor":
        import torch

        return torch.from_dlpack(array)

    @classmethod
    def from_torch(cls, tensor: "torch.Tensor", device: Device) -> Array:
        import cupy

        require_device(str(tensor.device), f"cuda:{device.id}", "cupy")
        return cupy.from_dlpack(tensor)

    @classmethod
    def to_host(cls, array: Any) -> np.ndarray:
        import cupy

        return cupy.asnumpy(array)

    @classmethod
    def special(cls, name: Special, array: Array) -> Array:
        import cupyx.scipy.special

        found: Array = getattr(cupyx.scipy.special, name)(array)
        return found

    @classmethod
    def free_memory(cls, device: Device) -> int | None:
        import cupy

        with device:
            free, _ = device.mem_info
            return int(free + cupy.get_default_memory_pool().free_bytes())
