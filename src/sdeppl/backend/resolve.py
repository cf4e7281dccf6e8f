"""Which array library, device and dtype: from `backend=` or the environment variable SDEPPL_BACKEND."""

import os
from dataclasses import dataclass
from typing import Any

import array_api_compat

from .adapters import ADAPTERS, Adapter
from .adapters.base import BackendMismatch, BackendUnavailable
from .typing import Device, DType, Namespace

ENVIRONMENT_VARIABLE = "SDEPPL_BACKEND"
DEFAULT = "torch"


@dataclass(frozen=True)
class Backend:
    """An array namespace with the device and the real dtype that arrays are made with.

    Shapes and units: none; a value, compared by its fields. Made by `resolve` or `backend_of`.
    """

    name: str
    xp: Namespace
    device: Device
    dtype: DType

    @property
    def adapter(self) -> type[Adapter]:
        """How this library draws, and crosses to torch and the host."""
        return ADAPTERS[self.name]

    @property
    def dtype_name(self) -> str:
        """'float64' or 'float32', whatever the library calls it."""
        return str(self.dtype).rsplit(".", 1)[-1]

    @property
    def itemsize(self) -> int:
        """Bytes of a number."""
        return 4 if self.dtype_name == "float32" else 8

    def __reduce__(self) -> tuple[object, ...]:
        # a namespace is a module, which pickle does not take
        return _opened, (self.name, self.adapter.device_name(self.device), self.dtype_name)

    def __str__(self) -> str:
        return f"{self.name} on {self.device} in {self.dtype_name}"


def resolve(backend: "str | Backend | None" = None, dtype: str = "float64") -> Backend:
    """The backend that `backend`, else SDEPPL_BACKEND, else torch on the CPU, stands for.

    `backend`: 'numpy', 'torch', 'torch:cuda', 'torch:cuda:1', 'cupy', 'cupy:1' (or 'strict', for
    tests). `dtype`: 'float64' or 'float32'; posteriors of badly scaled latents want the former.

    Raises: ValueError for a name that is not one of these, BackendUnavailable where the library or
    its device is missing. Nothing falls back to another backend.
    """
    if isinstance(backend, Backend):
        return backend
    if backend is not None and not isinstance(backend, str):
        raise TypeError(f"backend must be a name such as 'numpy', or a Backend; got {backend!r}")
    source = "backend=" if backend is not None else f"{ENVIRONMENT_VARIABLE}="
    text = backend if backend is not None else os.environ.get(ENVIRONMENT_VARIABLE) or DEFAULT
    name, _, device_name = text.partition(":")
    if name not in ADAPTERS:
        valid = ", ".join(s for adapter in ADAPTERS.values() for s in adapter.selectors)
        raise ValueError(f"{source}{text!r} names no backend; valid are: {valid}")
    if not isinstance(dtype, str) or dtype not in ("float32", "float64"):
        raise ValueError(f"dtype={dtype!r} is not a real dtype; use 'float64' or 'float32'")
    try:
        xp, device = ADAPTERS[name].open(device_name)
    except BackendUnavailable as error:
        raise BackendUnavailable(f"{source}{text!r}: {error}") from error
    as_arrays_report_it = xp.empty(0, dtype=getattr(xp, dtype)).dtype  # not NumPy's scalar type
    return Backend(name, xp, device, as_arrays_report_it)


def _opened(name: str, device: str, dtype: str) -> Backend:
    """A backend that was pickled. Raises: BackendUnavailable where it is missing here."""
    xp, found = ADAPTERS[name].open(device)
    return Backend(name, xp, found, xp.empty(0, dtype=getattr(xp, dtype)).dtype)


def backend_of(*arrays: Any) -> Backend:
    """The backend of arrays that share one; the dtype is that of the first.

    Raises: BackendMismatch, naming both, where they are of two libraries or on two devices;
    TypeError for an object that is no array.
    """
    found: Backend | None = None
    for array in arrays:
        name = next((n for n, adapter in ADAPTERS.items() if adapter.owns(array)), None)
        if name is None:
            raise TypeError(f"expected an array of {', '.join(ADAPTERS)}; got {type(array).__name__}")
        xp = array_api_compat.array_namespace(array)
        this = Backend(name, xp, array_api_compat.device(array), array.dtype)
        if found is None:
            found = this
        elif (found.name, found.device) != (this.name, this.device):
            raise BackendMismatch(
                f"arrays of {found.name} on {found.device} and of {this.name} on {this.device} "
                "do not mix; convert one with sdeppl.backend.convert"
            )
    if found is None:
        raise TypeError("backend_of needs at least one array")
    return found
