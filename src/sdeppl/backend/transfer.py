"""Crossing between array libraries: DLPack, zero-copy where the libraries allow it."""

from typing import TYPE_CHECKING, Any

import numpy as np

from .adapters.base import BackendMismatch
from .data import host_numbers
from .resolve import Backend, backend_of, resolve
from .typing import Array

if TYPE_CHECKING:
    import torch

FOREIGN = ("float128", "float96", "longdouble")


def to_torch(array: Array) -> "torch.Tensor":
    """`array` of any backend as a detached torch tensor on the same device.

    Memory is shared, except for read-only, negatively strided or byte-swapped NumPy arrays and
    for array-api-strict, which are copied. Raises: TypeError for an object that is no array.
    """
    return backend_of(array).adapter.to_torch(array)


def from_torch(tensor: "torch.Tensor", backend: Backend) -> Array:
    """A torch tensor, detached, as an array of `backend` in the backend's dtype.

    Raises: BackendMismatch where the tensor is on another device than the backend's.
    """
    import torch

    dtype = getattr(torch, backend.dtype_name)  # before crossing: not all devices have all
    return backend.adapter.from_torch(tensor.detach().to(dtype), backend.device)


def to_host(array: Array) -> np.ndarray:
    """`array` of any backend as a NumPy array; an explicit transfer, so a device may be crossed."""
    return backend_of(array).adapter.to_host(array)


def convert(array: Array, backend: Backend) -> Array:
    """`array` of any library on the same device as an array of `backend`, in its dtype.

    Raises: BackendMismatch where the devices differ; use `place` to copy data to a device.
    """
    here = backend_of(array)
    if here.name == backend.name and here.device == backend.device:
        return backend.xp.astype(array, backend.dtype, copy=False)
    return from_torch(here.adapter.to_torch(array), backend)


def place(data: Any, backend: Backend | str | None = None) -> Array:
    """Data as an array of `backend`, in its dtype.

    data: an array of any library, a Series, a list, a number: what `host_numbers` takes. It is an explicit
    transfer, which goes through host memory where library or device differ. backend: also by name, as in
    SDEPPL_BACKEND, which is taken where none is given. Raises: TypeError for what is not real numbers.
    """
    backend = resolve(backend)
    here = _backend_if_any(data) if _is_plain(data) else None
    same = here is not None and (here.name, here.device) == (backend.name, backend.device)
    if same and backend.xp.isdtype(data.dtype, ("bool", "integral", "real floating")):
        return backend.xp.astype(data, backend.dtype, copy=False)
    host = np.array(host_numbers(data))
    return backend.xp.asarray(host, dtype=backend.dtype, device=backend.device)


def _is_plain(array: object) -> bool:
    """Whether an array means by its numbers what others do."""
    sparse = str(getattr(array, "layout", "torch.strided")) != "torch.strided"
    return not sparse and not isinstance(array, np.ma.MaskedArray | np.matrix)


def _backend_if_any(array: object) -> Backend | None:
    try:
        return backend_of(array)
    except TypeError:
        return None


def require_same(backend: Backend, **arrays: object) -> None:
    """Check that named arrays are of one library and device. Raises: BackendMismatch, naming both."""
    for name, array in arrays.items():
        try:
            here = backend_of(array)
        except TypeError as error:
            raise TypeError(f"{name}: {error}") from None
        if (here.name, here.device) != (backend.name, backend.device):
            raise BackendMismatch(
                f"{name} is of {here.name} on {here.device}, expected {backend.name} on "
                f"{backend.device}; convert it with sdeppl.backend.convert"
            )


def require_arrays(who: str, **arrays: object) -> Backend:
    """The backend of named arrays of real numbers that share library, device and dtype; None is passed over.

    Raises: TypeError, BackendMismatch, naming who asks and the argument.
    """
    first: tuple[str, Backend] | None = None
    for name, array in arrays.items():
        if array is None:
            continue
        try:
            here = backend_of(array)
        except TypeError:
            raise TypeError(
                f"{who}: {name} must be an array of NumPy, torch or CuPy; got {type(array).__name__}; make "
                "it one with numpy.asarray (of a Series .to_numpy()) or torch.as_tensor"
            ) from None
        if not _is_plain(array):
            raise TypeError(
                f"{who}: {name} is a {type(array).__name__} that is masked, sparse or a matrix; give a plain "
                "array"
            )
        first = first or (name, here)
        if (here.name, here.device) != (first[1].name, first[1].device):
            raise BackendMismatch(
                f"{who}: {name} is of {here.name} on {here.device}, expected {first[1].name} on "
                f"{first[1].device} as of {first[0]}; convert it with sdeppl.backend.convert"
            )
        if here.dtype != first[1].dtype:
            raise TypeError(
                f"{who}: {first[0]} is {first[1].dtype}, {name} {here.dtype}; give them one dtype"
            )
        if not here.xp.isdtype(here.dtype, "real floating"):
            raise TypeError(f"{who}: {name}: expected arrays of a real floating dtype; got {here}")
        if here.dtype_name in FOREIGN or here.dtype_name[0] in "<>":
            raise TypeError(f"{who}: {name} is of {here.dtype_name}; give it as .astype('float64')")
    if first is None:
        raise TypeError(f"{who} needs at least one array")
    return first[1]


def require_floating(backend: Backend) -> None:
    """Check that arrays hold real numbers; whole ones would cut noise and means to integers.

    Raises: TypeError.
    """
    if not backend.xp.isdtype(backend.dtype, "real floating"):
        raise TypeError(f"expected arrays of a real floating dtype; got {backend}")
