"""Where arrays live: the backend of an array, data of any container, and the way between libraries."""

import datetime
import os
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from decimal import Decimal
from numbers import Integral, Number, Real
from typing import TYPE_CHECKING, Any

import array_api_compat
import numpy as np

from .adapters import ADAPTERS, Adapter
from .adapters.base import BackendMismatch, BackendUnavailable
from .typing import Array, Device, DType, Namespace

ENVIRONMENT_VARIABLE = "SDEPPL_BACKEND"
DEFAULT = "torch"


_NAMESPACES: dict[type, Namespace] = {}


def array_namespace(*arrays: Any) -> Namespace:
    """That of `array_api_compat`, which looks at each type once here: a microsecond, in calls of fifty."""
    if len(arrays) != 1:
        return array_api_compat.array_namespace(*arrays)
    kind = type(arrays[0])
    if kind not in _NAMESPACES:
        _NAMESPACES[kind] = array_api_compat.array_namespace(arrays[0])
    return _NAMESPACES[kind]


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
        xp = array_namespace(array)
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


DATES = "are dates or times; give numbers, such as days since the first"
TEXT = "are not numbers but text; convert it first"
TIMES = datetime.date, datetime.time, datetime.timedelta, np.datetime64, np.timedelta64
LARGEST = 2**63 - 1


class _Refused(TypeError):
    """What is wrong with data, in words that go on from "the data"."""


def host_numbers(value: object, what: str = "the data") -> np.ndarray:
    """Real numbers as a NumPy array of a native dtype: bool, int64 or smaller, float64 or smaller.

    value: an array of any library or backend, on any device; a pandas Series or frame, an xarray DataArray,
    whatever has `__array__` or `__dlpack__`; a number, of NumPy or Python, Decimal and Fraction among them;
    lists and tuples of all these. The order is the data's own: labels and indexes are not looked at. Masked
    entries, and pandas' NA, become NaN. Memory may be shared. what: how errors begin.

    Raises: TypeError for complex numbers, dates, text, None, ragged lists and what holds no numbers.
    """
    try:
        return _numbers(value)
    except _Refused as error:
        raise TypeError(f"{what} {error}") from error


def _numbers(value: object) -> np.ndarray:
    host = _array(value)
    kind = host.dtype.kind
    if kind == "O":
        return _of_items(host)
    if kind == "c":
        raise _Refused("are complex; give real and imaginary parts as real numbers")
    if kind in "Mm":
        raise _Refused(DATES)
    if kind in "UST":
        raise _Refused(TEXT)
    if kind not in "biuf":
        raise _Refused(f"are a table of {host.dtype}; give one column, or a frame of numbers")
    if kind == "f" and host.dtype.itemsize > 8:
        return host.astype(np.float64)
    if kind == "u" and host.dtype.itemsize > 1:  # of which torch knows little
        small = host.size == 0 or int(host.max()) <= LARGEST
        return host.astype(np.int64 if small else np.float64)
    return host.astype(host.dtype.newbyteorder("="), copy=False)


def _array(value: Any) -> np.ndarray:
    """The value as an array of NumPy, which may be of objects."""
    if isinstance(value, np.ma.MaskedArray):
        return _unmasked(value)
    if isinstance(value, (list, tuple)):
        return _of_list(value)
    if value is None or isinstance(value, (str, bytes, Mapping, Set)):
        return np.array(value, dtype=object)
    try:
        return np.asarray(backend_of(value).adapter.to_host(value))
    except TypeError:
        pass
    if not hasattr(value, "__array__") and hasattr(value, "__dlpack__"):
        return np.from_dlpack(value)
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise _Refused(f"are not numbers but a {type(value).__name__} ({error})") from error


def _unmasked(value: Any) -> np.ndarray:
    if value.dtype.kind not in "biuf":
        return np.asarray(value.filled())
    return np.asarray(np.ma.filled(value.astype(np.result_type(value.dtype, np.float32)), np.nan))


def _of_list(values: Sequence[Any]) -> np.ndarray:
    if not any(_is_container(item) for item in values):
        try:
            found = np.asarray(values)
        except (TypeError, ValueError, OverflowError):
            found = np.empty(len(values), dtype=object)
            found[:] = values
        return found
    return _stacked([_numbers(item) for item in values])


def _is_container(item: object) -> bool:
    return isinstance(item, (list, tuple)) or (
        hasattr(item, "__array__") and not isinstance(item, np.generic)
    )


def _stacked(parts: list[np.ndarray]) -> np.ndarray:
    shapes = list(dict.fromkeys(part.shape for part in parts))
    if len(shapes) > 1:
        raise _Refused(
            f"are not numbers in rows of one length, but {shapes[0]} and {shapes[1]}; fill up with NaN"
        )
    return np.stack(parts)


def _of_items(host: np.ndarray) -> np.ndarray:
    """Of an array of objects: whole numbers where all are, else in float64; arrays in it make axes."""
    items = [_number(item, host.ndim) for item in host.reshape(-1)]
    if any(isinstance(item, np.ndarray) for item in items):
        stacked = _stacked([np.asarray(item) for item in items])
        return stacked.reshape(*host.shape, *stacked.shape[1:])
    kinds = {type(item) for item in items}
    whole = kinds <= {bool, int} and all(-LARGEST <= item <= LARGEST for item in items)
    dtype = np.float64 if not whole or not items else np.bool_ if kinds == {bool} else np.int64
    return np.array(items, dtype=dtype).reshape(host.shape)


def _number(item: object, ndim: int) -> Any:
    """One object as bool, int, float, or an array of numbers."""
    if item is np.ma.masked or type(item).__name__ == "NAType":
        return np.nan
    if isinstance(item, (bool, np.bool_)):
        return bool(item)
    if isinstance(item, Integral):
        return int(item)
    if isinstance(item, (Real, Decimal)):
        return float(item)
    if item is None:
        raise _Refused("hold None; use NaN for what was not observed")
    if isinstance(item, TIMES) or type(item).__name__ == "Period":
        raise _Refused(DATES)
    if isinstance(item, (str, bytes)):
        raise _Refused(f"are not numbers alone but hold the text {item!r}; convert it first")
    if isinstance(item, Number):
        raise _Refused("are complex; give real and imaginary parts as real numbers")
    if _is_container(item) and not (isinstance(item, np.ndarray) and item.dtype == object and not item.ndim):
        found = _numbers(item)
        return found if found.ndim else found.item()
    verb = "hold" if ndim else "are not numbers but"
    raise _Refused(
        f"{verb} a {type(item).__name__}; make it an array of numbers, as by numpy.asarray, .to_numpy() or "
        ".toarray()"
    )


def axes_of(value: object) -> tuple[tuple[str, ...], dict[str, np.ndarray]] | None:
    """Names of the axes of data that have them, and the labels along them: of a pandas Series or frame whose
    index says more than a count, or of an xarray DataArray; None for others."""
    if hasattr(value, "dims") and hasattr(value, "coords"):
        names = tuple(str(name) for name in value.dims)
        return names, {name: np.asarray(value.coords[name]) for name in names if name in value.coords}
    index: Any = getattr(value, "index", None)
    if not hasattr(index, "nlevels") or index.nlevels > 1 or getattr(value, "ndim", 0) != 1:
        return None
    counted = type(index).__name__ == "RangeIndex"
    name = index.name if isinstance(index.name, str) else None
    if counted and name is None:
        return None
    return (name or "index",), {name or "index": np.asarray(index)}


def same_labels(one: Any, other: Any) -> bool:
    """Whether two arrays of labels, of any kind, are the same."""
    return np.array_equal(one, other)


def labels_to_json(labels: Any) -> dict[str, Any]:
    """Labels along axes, numbers, text or dates, as JSON has them."""
    array = np.asarray(labels)
    dated = array.dtype.kind in "mM"
    numbers = array.astype("int64") if dated else array
    kind = array.dtype.str if dated or array.dtype.kind in "biuf" else "text"
    return {"kind": kind, "values": numbers.tolist() if kind != "text" else array.astype(str).tolist()}


def labels_from_json(content: Mapping[str, Any]) -> Any:
    """What `labels_to_json` wrote."""
    kind, values = content["kind"], content["values"]
    if kind == "text":
        return np.asarray(values, dtype=str)
    dated = np.dtype(kind).kind in "mM"
    return np.asarray(values, dtype="int64").astype(kind) if dated else np.asarray(values, dtype=kind)


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
