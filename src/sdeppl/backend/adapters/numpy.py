"""NumPy."""

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from array_api_compat import is_numpy_array

from ..errors import BackendUnavailable, require_device
from .base import Adapter, Normal


class NumpyAdapter(Adapter):
    """NumPy on the CPU."""

    name = "numpy"
    selectors = ("numpy",)

    @classmethod
    def open(cls, device: str) -> tuple[Any, Any]:
        import array_api_compat.numpy as xp

        if device not in ("", "cpu"):
            raise BackendUnavailable(f"numpy has no device {device!r}; use 'numpy'")
        return xp, "cpu"

    @classmethod
    def owns(cls, array: Any) -> bool:
        return is_numpy_array(array)

    @classmethod
    def normal(cls, seed: int, device: Any) -> Normal:
        generator = np.random.Generator(np.random.SFC64(seed))
        return lambda shape, dtype: generator.standard_normal(shape, dtype=dtype)

    @classmethod
    def to_torch(cls, array: Any) -> Any:
        import torch

        # torch refuses read-only memory and aborts on negative strides: both are copied
        strides_are_positive = all(stride >= 0 for stride in array.strides)
        if not (array.flags.writeable and strides_are_positive and array.dtype.isnative):
            array = np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
        return torch.from_numpy(array)

    @classmethod
    def from_torch(cls, tensor: Any, device: Any) -> Any:
        require_device(tensor.device.type, "cpu", "numpy")
        return np.from_dlpack(tensor)

    @classmethod
    def to_host(cls, array: Any) -> Any:
        return array

    @classmethod
    def silent(cls) -> AbstractContextManager[Any]:
        return np.errstate(over="ignore", invalid="ignore", divide="ignore")

    @classmethod
    def readable(cls, array: Any) -> bool:
        return True

    @classmethod
    def lgamma(cls, array: Any) -> Any:
        from scipy.special import gammaln

        return gammaln(array)

    @classmethod
    def log_ndtr(cls, array: Any) -> Any:
        from scipy.special import log_ndtr

        return log_ndtr(array)

    @classmethod
    def ndtri(cls, array: Any) -> Any:
        from scipy.special import ndtri

        return ndtri(array)
