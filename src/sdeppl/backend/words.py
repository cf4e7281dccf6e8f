"""Short words for what holds many numbers."""

from collections.abc import Mapping
from typing import Any

SHOWN = 6


def sites_in_words(values: Any, skip: int = 0) -> str:
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
