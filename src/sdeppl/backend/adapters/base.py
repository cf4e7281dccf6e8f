"""What the backend layer asks of an array library, and its errors."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, ClassVar, Literal, TypeVar

import numpy as np
from array_api_compat import array_namespace

from ..typing import Array, Device, DType, Namespace

if TYPE_CHECKING:
    import torch

Special = Literal["gammaln", "log_ndtr", "ndtri"]
Normal = Callable[[tuple[int, ...], DType], Array]
T = TypeVar("T")


class Adapter(ABC):
    """One array library: how to open it, draw with it, and cross to torch and to the host.

    Class attributes: `name`, as in `SDEPPL_BACKEND`, and `selectors`, every form that selects it
    (checked against the file in `backends/`).
    """

    name: ClassVar[str]
    selectors: ClassVar[tuple[str, ...]]

    @classmethod
    @abstractmethod
    def open(cls, device: str) -> tuple[Namespace, Device]:
        """The array namespace and the device object for the text after the colon.

        Raises: BackendUnavailable, in one line, where the library or the device is missing.
        """

    @classmethod
    @abstractmethod
    def owns(cls, array: object) -> bool:
        """Whether `array` belongs to this library; never imports the library."""

    @classmethod
    def device_name(cls, device: Device) -> str:
        """What `open` opens this device by."""
        return str(device)

    @classmethod
    @abstractmethod
    def normal(cls, seed: int, device: Device) -> Normal:
        """A seeded stateful source of standard normals, `(shape, dtype) -> array`, on `device`."""

    @classmethod
    @abstractmethod
    def to_torch(cls, array: Array) -> "torch.Tensor":
        """The same numbers as a torch tensor on the same device; shares memory where it can."""

    @classmethod
    @abstractmethod
    def from_torch(cls, tensor: "torch.Tensor", device: Device) -> Array:
        """A detached tensor as an array of this library on `device`; shares memory where it can."""

    @classmethod
    @abstractmethod
    def to_host(cls, array: Array) -> np.ndarray:
        """The same numbers as a NumPy array."""

    @classmethod
    @abstractmethod
    def special(cls, name: Special, array: Array) -> Array:
        """The function of that name in `scipy.special`, elementwise, in the dtype of `array`."""

    @classmethod
    def readable(cls, array: Array) -> bool:
        """Whether its numbers may be looked at for nothing: on the host, and not while code is traced."""
        return False

    @classmethod
    def no_root(cls) -> type[Exception]:
        """What the library raises for a matrix that is not positive definite, or holds NaN."""
        return np.linalg.LinAlgError

    @classmethod
    def cholesky(cls, matrices: Array) -> Array:
        """L of each of (batch, n, n), NaN for those that are not positive definite."""
        xp = array_namespace(matrices)

        def root(matrix: Array) -> Array:
            try:
                return xp.linalg.cholesky(matrix)
            except cls.no_root():
                return xp.full_like(matrix, math.nan)

        try:
            return xp.linalg.cholesky(matrices)
        except cls.no_root():
            return xp.stack([root(matrices[k, :, :]) for k in range(matrices.shape[0])], axis=0)

    @classmethod
    def solve_triangular(cls, matrix: Array, right: Array, upper: bool) -> Array:
        """matrix⁻¹ right for a triangular matrix (..., n, n): here by the library's solver for any matrix."""
        return array_namespace(matrix).linalg.solve(matrix, right)

    @classmethod
    def free_memory(cls, device: Device) -> int | None:
        """Bytes free on a device with memory of its own; None for the host's."""
        return None

    @classmethod
    def traced(cls) -> bool:
        """Whether code is being traced, for a graph that serves whatever rows it is given."""
        return False

    @classmethod
    def silent(cls) -> AbstractContextManager[object]:
        """Where numbers that overflow, or are none, are met and dealt with: no warnings of them."""
        return nullcontext()

    @classmethod
    def detached(cls, array: Array) -> Array:
        """The same numbers, through which no gradient flows."""
        return array

    @classmethod
    def checkpoint(cls, function: Callable[..., T], *arguments: object) -> T:
        """function(*arguments); what a gradient needs of it is computed again when it is asked for.

        Raises: TypeError where the library takes no gradients.
        """
        raise TypeError(f"only torch takes gradients, so only it has checkpoints; got arrays of {cls.name}")

    @classmethod
    def jvp(cls, function: Callable[[Array], Array], x: Array, v: Array) -> Array:
        """(∂function/∂x) v for x, v (..., dim): here by central differences of order 4, row by row."""
        xp = array_namespace(x)
        size = xp.max(xp.abs(v), axis=-1, keepdims=True)
        scale = float(xp.finfo(x.dtype).eps) ** 0.2 * (1 + xp.max(xp.abs(x), axis=-1, keepdims=True))
        h = xp.where(size > 0, scale / xp.where(size > 0, size, xp.ones_like(size)), xp.ones_like(size))
        near = function(x + h * v) - function(x - h * v)
        far = function(x + 2 * h * v) - function(x - 2 * h * v)
        width = xp.reshape(h, h.shape + (1,) * (near.ndim - h.ndim))
        return (8 * near - far) / (12 * width)

    @classmethod
    def with_pullback(
        cls, function: Callable[[Array], Array], x: Array, width: float
    ) -> tuple[Array, Callable[[Array], Array]]:
        """function(x), and products with its slope: here by `jvp` along v, over steps of part of `width`."""
        xp = array_namespace(x)
        zeros = xp.zeros_like(x[:, :1])

        def product(v: Array) -> Array:
            length = xp.sqrt(xp.sum(v * v, axis=-1, keepdims=True))
            step = width * v / xp.where(length > 0, length, xp.ones_like(length))
            return length / width * cls.jvp(lambda s: function(x + s * step), zeros, xp.ones_like(zeros))

        return function(x), product


class BackendUnavailable(RuntimeError):
    """The chosen backend is not installed, or its device is not there."""


class BackendMismatch(TypeError):
    """Arrays of two libraries, or on two devices, were mixed."""


def require_device(found: object, expected: object, library: str) -> None:
    """Refuse a tensor on another device than the backend's. Raises: BackendMismatch."""
    if found != expected:
        raise BackendMismatch(
            f"got a tensor on {found}, expected {library} on {expected}; "
            "move the module, or choose the backend of its device"
        )
