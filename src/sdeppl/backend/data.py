"""Data as people have them, taken in as numbers: the one place where that happens."""

import datetime
from collections.abc import Mapping, Sequence, Set
from decimal import Decimal
from numbers import Integral, Number, Real
from typing import Any

import numpy as np

from .resolve import backend_of

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
