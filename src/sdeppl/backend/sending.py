"""Functions of the user's inside what is pickled: by name where another process finds them, else whole."""

import importlib
import pickle
from types import FunctionType
from typing import Any


class Sent:
    """A function on its way through `pickle`, which puts the function itself in its place.

    what: it is, in words. A function of a file goes by its name. One of the program itself, a lambda or a
    function inside another goes whole where `cloudpickle` is installed, and so does what pickle cannot take.

    Raises, while it is pickled or read again: PicklingError, UnpicklingError, naming the function.
    """

    def __init__(self, function: Any, what: str) -> None:
        self.function, self.what = function, what

    def __reduce__(self) -> tuple[Any, ...]:
        function = self.function
        if function is None:
            return _nothing, ()
        module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
        plain = isinstance(function, (FunctionType, type))
        found = plain and _look_up(module, name) is function
        if found and module != "__main__":
            return _by_name, (self.what, module, name)
        whole: Any = None if plain else _whole(pickle, function)
        try:
            import cloudpickle  # type: ignore[import-not-found, import-untyped, unused-ignore]
        except ImportError as error:
            why: Any = error
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


def sent_state(instance: Any, **what: str) -> dict[str, Any]:
    """The instance's attributes, as `__getstate__` gives them, those of these names as `Sent`."""
    return vars(instance) | {name: Sent(getattr(instance, name), words) for name, words in what.items()}


def _whole(pickler: Any, function: Any) -> Any:
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
