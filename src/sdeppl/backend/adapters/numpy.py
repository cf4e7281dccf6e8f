"""NumPy, and array-api-strict: NumPy with only the standard's functions, for tests."""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
from array_api_compat import is_array_api_strict_namespace, is_numpy_array

from ..typing import Array, Device, Namespace
from .base import Adapter, BackendUnavailable, Normal, Special, require_device

if TYPE_CHECKING:
    import torch


class NumpyAdapter(Adapter):
    """NumPy on the CPU."""

    name = "numpy"
    selectors = ("numpy",)

    @classmethod
    def open(cls, device: str) -> tuple[Namespace, Device]:
        import array_api_compat.numpy as xp

        if device not in ("", "cpu"):
            raise BackendUnavailable(f"numpy has no device {device!r}; use 'numpy'")
        return xp, "cpu"

    @classmethod
    def owns(cls, array: object) -> bool:
        return is_numpy_array(array)

    @classmethod
    def normal(cls, seed: int, device: Device) -> Normal:
        generator = np.random.Generator(np.random.SFC64(seed))
        return lambda shape, dtype: generator.standard_normal(shape, dtype=dtype)

    @classmethod
    def to_torch(cls, array: Any) -> "torch.Tensor":
        import torch

        # torch refuses read-only memory and aborts on negative strides: both are copied
        strides_are_positive = all(stride >= 0 for stride in array.strides)
        if not (array.flags.writeable and strides_are_positive and array.dtype.isnative):
            array = np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
        return torch.from_numpy(array)

    @classmethod
    def from_torch(cls, tensor: "torch.Tensor", device: Device) -> Array:
        require_device(tensor.device.type, "cpu", "numpy")
        return np.from_dlpack(tensor)

    @classmethod
    def to_host(cls, array: Any) -> np.ndarray:
        return array

    @classmethod
    def silent(cls) -> AbstractContextManager[object]:
        return np.errstate(over="ignore", invalid="ignore", divide="ignore")

    @classmethod
    def readable(cls, array: Array) -> bool:
        return True

    @classmethod
    def special(cls, name: Special, array: Array) -> Array:
        import scipy.special

        found: Array = getattr(scipy.special, name)(array)
        return found


class StrictAdapter(Adapter):
    """array-api-strict on any of its simulated devices."""

    name = "strict"
    selectors = ("strict", "strict:<device>")

    @classmethod
    def open(cls, device: str) -> tuple[Namespace, Device]:
        try:
            import array_api_strict as xp
        except ImportError as error:
            raise BackendUnavailable(
                f"backend 'strict' needs array-api-strict: pip install 'sdeppl[test]' ({error})"
            ) from error
        try:
            return xp, xp.Device(device or "CPU_DEVICE")
        except ValueError as error:
            raise BackendUnavailable(f"array-api-strict has no device {device!r}: {error}") from error

    @classmethod
    def owns(cls, array: object) -> bool:
        namespace = getattr(array, "__array_namespace__", None)
        return namespace is not None and is_array_api_strict_namespace(namespace())

    @classmethod
    def device_name(cls, device: Device) -> str:
        return str(device).split("'")[1]

    @classmethod
    def normal(cls, seed: int, device: Device) -> Normal:
        import array_api_strict as xp

        generator = np.random.Generator(np.random.SFC64(seed))
        return lambda shape, dtype: xp.asarray(generator.standard_normal(shape), dtype=dtype, device=device)

    @classmethod
    def to_torch(cls, array: Any) -> "torch.Tensor":
        import torch

        # its devices are simulated and all hold NumPy memory, which the bridge may read; copied,
        # so that nothing written in torch changes a strict array behind its back
        return torch.from_numpy(cls.to_host(array).copy())

    @classmethod
    def from_torch(cls, tensor: "torch.Tensor", device: Device) -> Array:
        import array_api_strict as xp

        require_device(tensor.device.type, "cpu", "array-api-strict")
        return xp.asarray(tensor.numpy(), device=device)

    @classmethod
    def to_host(cls, array: Any) -> np.ndarray:
        import array_api_strict as xp

        return np.asarray(array.to_device(xp.Device("CPU_DEVICE")))

    @classmethod
    def silent(cls) -> AbstractContextManager[object]:
        return NumpyAdapter.silent()

    @classmethod
    def readable(cls, array: Array) -> bool:
        import array_api_strict as xp

        return bool(array.device == xp.Device("CPU_DEVICE"))

    @classmethod
    def special(cls, name: Special, array: Array) -> Array:
        return cls._as(NumpyAdapter.special(name, cls.to_host(array)), array)

    @classmethod
    def _as(cls, numbers: Array, like: Array) -> Array:
        import array_api_strict as xp

        return xp.asarray(numbers, dtype=like.dtype, device=like.device)
