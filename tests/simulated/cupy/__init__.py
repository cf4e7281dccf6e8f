"""A SIMULATED CuPy: NumPy behind CuPy's names, to find what would go wrong on a GPU. Nothing runs on one.

Like CuPy it refuses NumPy arrays among its own and implicit conversion to them; every read of a number by
the host counts in `SYNCHRONISATIONS`. array-api-compat wraps it as it wraps CuPy.
"""

import builtins  # NumPy's bool, any and others take their names below
import sys
import types
from typing import Any

import numpy as np

__version__ = "13.0.simulated"
SYNCHRONISATIONS = 0
NO_MEMORY = "a simulated CuPy has no memory on a device that torch could read"


def _read(array: "ndarray") -> np.ndarray:
    """The numbers on the host, counted."""
    global SYNCHRONISATIONS
    SYNCHRONISATIONS += 1
    return array._a


class ndarray:
    """An array whose numbers are, as far as its user can tell, on a device."""

    __array_priority__ = 100

    def __init__(self, numbers: np.ndarray) -> None:
        self._a = np.asarray(numbers)

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __dlpack__(self, **_: Any) -> Any:
        raise NotImplementedError(NO_MEMORY)

    def __dlpack_device__(self) -> Any:
        raise NotImplementedError(NO_MEMORY)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = getattr(self._a, name)
        return wrapped(found) if callable(found) else found

    @property
    def T(self) -> "ndarray":
        return ndarray(self._a.T)

    @property
    def mT(self) -> "ndarray":
        return ndarray(self._a.mT)

    @property
    def device(self) -> Any:
        from .cuda.device import Device

        return Device(0)

    def __getitem__(self, key: Any) -> "ndarray":
        return ndarray(self._a[unwrap(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        self._a[unwrap(key)] = unwrap(value)

    def __len__(self) -> int:
        return len(self._a)

    def __repr__(self) -> str:
        return f"simulated cupy {self._a!r}"

    def __bool__(self) -> bool:
        return builtins.bool(_read(self))

    def __float__(self) -> float:
        return float(_read(self))

    def __int__(self) -> int:
        return int(_read(self))

    def __index__(self) -> int:
        return _read(self).__index__()

    def item(self) -> Any:
        return _read(self).item()

    def tolist(self) -> Any:
        return _read(self).tolist()

    def get(self) -> np.ndarray:
        return _read(self).copy()

    __hash__ = None  # type: ignore[assignment]


def unwrap(value: Any) -> Any:
    """NumPy's arrays inside arguments. Raises: TypeError for a NumPy array among them, as CuPy does."""
    if isinstance(value, ndarray):
        return value._a
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    if isinstance(value, (tuple, list)):
        return type(value)(unwrap(v) for v in value)
    if isinstance(value, dict):
        return {name: unwrap(v) for name, v in value.items()}
    return value


def wrap(value: Any) -> Any:
    """NumPy's arrays and numbers in a result as arrays of this library."""
    if isinstance(value, (np.ndarray, np.generic)):
        return ndarray(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(wrap(v) for v in value))
    if isinstance(value, (tuple, list)):
        return type(value)(wrap(v) for v in value)
    return value


def wrapped(function: Any) -> Any:
    """A NumPy function on arrays of this library."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return wrap(function(*unwrap(args), **unwrap(kwargs)))

    call.__name__ = getattr(function, "__name__", "call")
    return call


def asnumpy(array: ndarray) -> np.ndarray:
    """The numbers on the host."""
    return array.get()


def asarray(value: Any, dtype: Any = None, **_: Any) -> ndarray:
    """From numbers on the host, or an array of this library."""
    if isinstance(value, ndarray):
        return value if dtype in (None, value.dtype) else ndarray(value._a.astype(dtype))
    return ndarray(np.array(value, dtype=dtype))


def array(value: Any, dtype: Any = None, copy: bool = True, **_: Any) -> ndarray:
    """As `asarray`, with a copy."""
    found = asarray(value, dtype)
    return ndarray(found._a.copy()) if copy else found


class MemoryPool:
    """Of the device."""

    def free_bytes(self) -> int:
        return 10**9


def get_default_memory_pool() -> MemoryPool:
    """The one pool."""
    return MemoryPool()


def _operator(name: str) -> Any:
    def call(self: ndarray, *others: Any) -> Any:
        if builtins.any(isinstance(other, np.ndarray) for other in others):
            raise TypeError(f"Unsupported type {np.ndarray}")
        found = getattr(self._a, name)(*unwrap(others))
        return NotImplemented if found is NotImplemented else wrap(found)

    return call


def _in_place(name: str) -> Any:
    def call(self: ndarray, other: Any) -> ndarray:
        self._a = getattr(self._a, name)(unwrap(other))
        return self

    return call


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor"):
    for _form in (f"__{_name}__", f"__r{_name}__"):
        setattr(ndarray, _form, _operator(_form))
    setattr(ndarray, f"__i{_name}__", _in_place(f"__i{_name}__"))
for _form in ("lt", "le", "gt", "ge", "eq", "ne", "neg", "pos", "abs", "invert"):
    setattr(ndarray, f"__{_form}__", _operator(f"__{_form}__"))


def _fill(module: types.ModuleType, of: types.ModuleType) -> None:
    """NumPy's functions, dtypes and constants under the same names."""
    for name in dir(of):
        value = getattr(of, name)
        if name.startswith("_") or hasattr(module, name) or isinstance(value, types.ModuleType):
            continue
        plain = isinstance(value, type) or not callable(value)
        setattr(module, name, value if plain else wrapped(value))


_fill(sys.modules[__name__], np)
for _name in ("abs", "max", "min", "round"):  # builtins, which a star import leaves alone
    setattr(sys.modules[__name__], _name, wrapped(getattr(np, _name)))

from . import cuda, fft, linalg, random  # noqa: E402, F401 - they need what is above
