"""Arguments of the right kind, or an error that names them."""

import os
from pathlib import Path
from typing import Any


def word(name: str, value: Any, *known: str) -> str:
    """One of a few words. Raises: ValueError, naming it."""
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name} must be {' or '.join(repr(one) for one in known)}; got {value!r:.80}")
    return value


def path_of(value: Any, name: str = "path") -> Path:
    """A path. Raises: TypeError, naming it."""
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{name}: a path is a str or a Path; got {value!r:.80}")
    return Path(value)


def kind(name: str, value: Any, kinds: Any, words: str) -> None:
    """Check that it is an instance. Raises: TypeError, naming it."""
    if not isinstance(value, kinds):
        got = f"the class {value.__name__}; make one of it" if isinstance(value, type) else repr(value)[:80]
        raise TypeError(f"{name} must be {words}; got {got}")


def has(name: str, value: Any, attribute: str, words: str) -> None:
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
