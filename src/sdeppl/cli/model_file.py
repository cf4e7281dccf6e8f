"""`model.py:model`: a Pyro model, or a `ScoreGuide` of one, from a Python file."""

import hashlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UsageError

if TYPE_CHECKING:
    import argparse

    from ..guide import ScoreGuide

HELP = "FILE.py:NAME, a Pyro model, or a ScoreGuide made of one for another SDE or network (NAME: model)"


def add_model_arguments(parser: "argparse.ArgumentParser") -> None:
    """What is needed to make a guide from a file."""
    parser.add_argument("--inputs", metavar="X.npz", help="keywords of the model (.npz, .csv, .json)")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default 0)")


def path_of(target: str | None) -> Path | None:
    """The file of FILE.py:NAME."""
    return None if target is None else Path(split_target(target)[0]).resolve()


def make_guide(target: str, inputs: dict[str, Any], seed: int) -> "ScoreGuide":
    """The guide of FILE.py:NAME. Raises: UsageError; ModelError; whatever the file raises."""
    from ..guide import ScoreGuide

    found = _load(target)
    if isinstance(found, ScoreGuide):
        if inputs:
            raise UsageError(f"{target} is a ScoreGuide, which has its inputs already: leave out --inputs")
        return found
    if not callable(found):
        raise UsageError(
            f"{target} is a {type(found).__name__}; expected a function, the Pyro model, or a ScoreGuide"
        )
    return ScoreGuide(found, kwargs=inputs, seed=seed)


def split_target(target: str) -> tuple[str, str]:
    """File and name; the name is `model` where it is left out."""
    file, colon, name = target.rpartition(":")
    return (file, name) if colon and name.isidentifier() else (target, "model")


def _module_name(path: Path) -> str:
    """A name that no module of a library has, and another file of the same name has not either."""
    return f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"


def _load(target: str) -> Any:
    name = split_target(target)[1]
    path = path_of(target)
    assert path is not None
    if not path.is_file():
        raise UsageError(f"there is no file {path}; expected FILE.py:NAME, such as model.py:model")
    spec = importlib.util.spec_from_file_location(_module_name(path), path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is not a Python file; expected FILE.py:NAME, such as model.py:model")
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(spec.name)
    sys.modules[spec.name] = module  # where dataclasses, typing and pickle look for it
    sys.path.insert(0, str(path.parent))  # what it imports from its own folder
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        if before is not None:
            sys.modules[spec.name] = before
        raise
    finally:
        sys.path.remove(str(path.parent))
    if not hasattr(module, name):
        public = [n for n, v in vars(module).items() if callable(v) and v.__module__ == spec.name]
        raise UsageError(f"{path} has no {name!r}; it defines {', '.join(public) or 'no function'}")
    return getattr(module, name)
