"""Arguments of the right kind, numbers as people have them, and words for errors."""

import operator
import os
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from types import UnionType
from typing import Any

from .arrays import host_numbers

SEEDS = 2**64 - 1
SAID = 10**5  # bounds above it are there for time and memory, and said where they are crossed
SHOWN = 6


def word(name: str, value: object, *known: str) -> str:
    """One of a few words. Raises: ValueError, naming it."""
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name} must be {' or '.join(repr(one) for one in known)}; got {value!r:.80}")
    return value


def refuse_former(cls: type, **names: str) -> None:
    """Of a class that overrides a method by its former name, which nothing calls. Raises: TypeError."""
    for former, now in names.items():
        if former in vars(cls):
            raise TypeError(f"{cls.__name__} overrides {former}, which is called {now} now; rename it")


def path_of(value: object, name: str = "path") -> Path:
    """A path. Raises: TypeError, naming it."""
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{name}: a path is a str or a Path; got {value!r:.80}")
    return Path(value)


def kind(name: str, value: object, kinds: type | UnionType | tuple[()], words: str) -> None:
    """Check that it is an instance. Raises: TypeError, naming it."""
    if not isinstance(value, kinds):
        got = f"the class {value.__name__}; make one of it" if isinstance(value, type) else repr(value)[:80]
        raise TypeError(f"{name} must be {words}; got {got}")


def has(name: str, value: object, attribute: str, words: str) -> None:
    """Check that it has what is asked of it. Raises: TypeError, naming it."""
    if isinstance(value, type) or not hasattr(value, attribute):
        kind(name, value, (), words)


def listed(name: str, value: Any, words: str) -> list[Any]:
    """What can be gone through, other than text, as a list. Raises: TypeError, naming it."""
    if (
        isinstance(value, (str, bytes))
        or getattr(value, "shape", None) == ()
        or not hasattr(value, "__iter__")
    ):
        kind(name, value, (), words)
    return list(value)


class WholeNumberError(TypeError, ValueError):
    """What is no whole number: of another type, where a number is concerned of another value."""


def whole_number(name: str, value: object, least: int | None = None, most: int | None = None) -> int:
    """A count as Python's int: of Python, NumPy or torch, also an array of no dimension.

    Neither truth values nor 10.0 are counts. Raises: ValueError, naming `name`, what was got and what is
    expected; one that is a TypeError too where it is no whole number.
    """
    whole = _index(value)
    if whole is None:
        raise WholeNumberError(f"{name} must be {_expected(least, most)}; got {value!r}")
    if most is not None and whole > most > SAID and most != SEEDS:
        raise ValueError(f"{name} must be at most {most}, which is more than can be done; got {whole}")
    if (least is not None and whole < least) or (most is not None and whole > most):
        raise ValueError(f"{name} must be {_expected(least, most)}; got {whole}")
    return whole


def seed_number(value: object, name: str = "seed") -> int:
    """A seed, 0 to 2⁶⁴ - 1, as `whole_number` takes it."""
    return whole_number(name, value, 0, SEEDS)


def real_number(value: object) -> float | None:
    """A real number as Python's float: of Python or NumPy, also an array of no dimension on the host without
    gradient; None for anything else."""
    if isinstance(value, Real):
        return float(value)
    if getattr(value, "shape", None) != () or getattr(value, "requires_grad", False):
        return None
    try:
        return float(host_numbers(value))
    except TypeError:
        return None


def real_parameter(name: str, value: object) -> float:
    """`real_number`. Raises: TypeError, naming `name`, for what is no real number."""
    number = real_number(value)
    if number is None:
        raise TypeError(f"{name} must be a real number; got {value!r:.80}")
    return number


def real_times(who: str, times: object) -> list[float]:
    """Times as floats. Raises: TypeError for what is no list of numbers, dates among it."""
    listed = times if hasattr(times, "__array__") or not hasattr(times, "__iter__") else list(times)
    if hasattr(times, "tolist") and hasattr(times, "requires_grad"):
        listed = times.tolist()  # inside torch.func a tensor has no memory of its own to look into
    found = host_numbers(listed, f"{who}times")
    if found.ndim != 1:
        raise TypeError(
            f"{who}times must be numbers in a row, such as uniform_grid(0.0, 1.0, 100); got {times!r:.80}"
        )
    numbers: list[float] = found.astype(float).tolist()
    return numbers


def _index(value: Any) -> int | None:
    is_bool = isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool")
    if is_bool or getattr(value, "shape", ()) != ():
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def _expected(least: int | None, most: int | None) -> str:
    if least is not None and most is not None and (most <= SAID or most == SEEDS):
        return f"a whole number from {least} to {'2**64 - 1' if most == SEEDS else most}"
    return "a whole number" + ("" if least is None else f", at least {least}")


def sites_in_words(values: object, skip: int = 0) -> str:
    """'x (3,), tau ()': names and shapes of arrays, or of shapes, by name, without their first `skip` axes;
    of one array its shape alone. Of many names the first."""
    if not isinstance(values, Mapping):
        shape = getattr(values, "shape", values)
        return str(tuple(shape[skip:])) if isinstance(shape, tuple) else type(values).__name__
    found = [f"{name} {sites_in_words(value, skip)}" for name, value in list(values.items())[:SHOWN]]
    more = len(values) - SHOWN
    return ", ".join(found) + (f" and {more} more" if more > 0 else "")


def count_of(values: Any, axis: int = 0) -> int:
    """Entries along an axis of one array or of the first by name."""
    array = next(iter(values.values())) if isinstance(values, Mapping) else values
    return int(array.shape[axis])


def told_apart(*numbers: float, digits: int = 3) -> list[str]:
    """Numbers in so few digits, at least these, that any two that differ are printed as two."""
    for count in range(digits, 17):
        found = [f"{number:.{count}g}" for number in numbers]
        if len(set(found)) == len(set(numbers)):
            return found
    return [repr(float(number)) for number in numbers]
