"""What all threads of a process share, what a fork leaves behind, and what goes to another process."""

import importlib
import os
import pickle
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FunctionType, ModuleType
from typing import Any, Generic, TypeVar, overload

# Of Pyro's handlers and validation, of torch's default generator and levels of forward derivatives, and of
# the filters of warnings there is one in a process. One lock for all of them, so that no two threads can
# each hold what the other one waits for; re-entrant, since models run inside models.
SHARED = threading.RLock()

_unsaid: ContextVar[tuple[type[Warning], ...]] = ContextVar("unsaid", default=())

_said: ContextVar[set[tuple[type[Warning], str]] | None] = ContextVar("said", default=None)

T = TypeVar("T")


class cached_property(Generic[T]):
    """`functools.cached_property` as it is from Python 3.12 on, without its lock.

    Before, all instances of a class share that lock, and whoever waits for `SHARED` while it holds it can
    wait for ever. Two threads that ask at once both compute, to the same value.
    """

    def __init__(self, function: Callable[..., T]) -> None:
        self.function, self.__doc__ = function, function.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> "cached_property[T]": ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object, owner: type) -> Any:
        if instance is None:
            return self
        value = self.function(instance)
        instance.__dict__[self.name] = value  # found there before this is asked again
        return value


@contextmanager
def unsaid(*categories: type[Warning]) -> Iterator[None]:
    """Leave out warnings of these categories that `warn` is to give, in this thread alone.

    `warnings.catch_warnings` changes the filters of all threads.
    """
    token = _unsaid.set((*_unsaid.get(), *categories))
    try:
        yield
    finally:
        _unsaid.reset(token)


@contextmanager
def said_once() -> Iterator[None]:
    """Each warning of `warn` once, in this thread: what is done many times is not warned of as often."""
    if _said.get() is not None:
        yield
        return
    token = _said.set(set())
    try:
        yield
    finally:
        _said.reset(token)


def warn(text: str, category: type[Warning], stacklevel: int) -> None:
    """`warnings.warn`, but for what is `unsaid` or has been said; stacklevel: as there, 1 for the caller."""
    said = _said.get()
    if issubclass(category, _unsaid.get()) or (said is not None and (category, text) in said):
        return
    if said is not None:
        said.add((category, text))
    warnings.warn(text, category, stacklevel=stacklevel + 1)


def _in_child() -> None:
    """torch's pool of threads does not outlive a fork: an operation that wants it would wait for ever."""
    SHARED.release()
    torch: Any = sys.modules.get("torch")
    if getattr(torch, "set_num_threads", None) is not None and torch.get_num_threads() > 1:
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):  # not on Windows
    # no fork while another thread is inside a model: the child would be left with half of its handlers
    os.register_at_fork(before=SHARED.acquire, after_in_parent=SHARED.release, after_in_child=_in_child)


class Sent:
    """A function on its way through `pickle`, which puts the function itself in its place.

    what: it is, in words. A function of a file goes by its name. One of the program itself, a lambda or a
    function inside another goes whole where `cloudpickle` is installed, and so does what pickle cannot take.

    Raises, while it is pickled or read again: PicklingError, UnpicklingError, naming the function.
    """

    def __init__(self, function: object, what: str) -> None:
        self.function, self.what = function, what

    def __reduce__(self) -> tuple[object, ...]:
        function = self.function
        if function is None:
            return _nothing, ()
        module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
        plain = isinstance(function, (FunctionType, type))
        found = plain and _look_up(module, name) is function
        if found and module != "__main__":
            return _by_name, (self.what, module, name)
        whole: object = None if plain else _whole(pickle, function)
        try:
            import cloudpickle  # type: ignore[import-not-found, import-untyped, unused-ignore]
        except ImportError as error:
            why: object = error
        else:
            whole = whole or _whole(cloudpickle, function)
            why = whole
        if isinstance(whole, bytes):
            return pickle.loads, (whole,)
        if found:
            return _by_name, (self.what, module, name)
        raise pickle.PicklingError(
            f"the {self.what} {name or function!r} of {module} cannot be pickled ({why}): define it with def "
            "at the top of a file that can be imported, or install cloudpickle, which sends it whole"
        )


def sent_state(instance: object, **what: str) -> dict[str, Any]:
    """The instance's attributes, as `__getstate__` gives them, those of these names as `Sent`."""
    return vars(instance) | {name: Sent(getattr(instance, name), words) for name, words in what.items()}


def _whole(pickler: ModuleType, function: object) -> Any:
    """Its bytes, or the exception that it ends in."""
    try:
        return pickler.dumps(function)
    except Exception as error:  # of many kinds, by what the function holds
        return error


def _look_up(module: Any, name: str) -> Any:
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, TypeError, ValueError):
        return None
    return found


def _by_name(what: str, module: str, name: str) -> Any:
    found = _look_up(module, name)
    if found is None:
        where = "the program itself, which is another one here" if module == "__main__" else "not found here"
        raise pickle.UnpicklingError(
            f"the {what} '{name}' was defined in {module}, {where}: put it into a file that both processes "
            "can import, or install cloudpickle where it is pickled, which sends it whole"
        )
    return found


def _nothing() -> None:
    return None
