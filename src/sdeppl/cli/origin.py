"""Which model a guide was trained on, as the guide's file says: paths within that file's folder, no others.

A model file is code that is run, so what a guide's file names is found beside it or below, or not at all.
"""

from pathlib import Path

from .errors import UsageError
from .model_file import split_target
from .saved_file import header_of


def origin_for(out: str | Path, target: str, inputs: str | None) -> dict[str, str] | None:
    """What to write into the guide's file `out`: {"model": "model.py:model", "inputs": "x.npz"}.

    Relative to the folder of `out`; None where model or inputs are not in it.
    """
    file, name = split_target(target)
    model = _below(out, file)
    found = {} if model is None else {"model": f"{model}:{name}"}
    if inputs is not None and found:
        beside = _below(out, inputs)
        found = {} if beside is None else found | {"inputs": beside}
    return found or None


def recorded_origin(guide: str) -> tuple[str, str | None]:
    """Model and inputs that the file of a guide names. Raises: UsageError where they are not to be had."""
    said = header_of(guide).get("origin")
    said = said if isinstance(said, dict) else {}
    if not isinstance(said.get("model"), str):
        raise UsageError(f"{guide} does not say which model it was trained on: give it, --model FILE.py:NAME")
    file, name = split_target(said["model"])
    model = _opened(guide, file, "model", "give the model, --model FILE.py:NAME")
    if not isinstance(said.get("inputs"), str):
        return f"{model}:{name}", None
    inputs = _opened(guide, said["inputs"], "inputs", "give both, --model FILE.py:NAME --inputs X.npz")
    return f"{model}:{name}", str(inputs)


def _below(out: str | Path, file: str) -> str | None:
    folder, path = Path(out).parent.resolve(), Path(file).resolve()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else None


def _opened(guide: str, file: str, what: str, remedy: str) -> Path:
    path = Path(guide).parent / file
    if _below(guide, str(path)) is None:
        raise UsageError(
            f"{guide} names {file} as its {what}, which is not in the folder of the guide, so it is not "
            f"opened; {remedy}"
        )
    if not path.is_file():
        raise UsageError(f"{guide} was trained with the {what} {file}, and there is no file {path}; {remedy}")
    return path
