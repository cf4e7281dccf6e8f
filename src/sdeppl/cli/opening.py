"""From the arguments of a command, and the files that they name, to a guide and to a posterior."""

import argparse
import hashlib
import importlib.util
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arrays import in_words, read_arrays
from .errors import UsageError, say

if TYPE_CHECKING:
    from ..guide import ScoreGuide


STEPS = 100
MODEL_OF_GUIDE = "FILE.py:NAME; default: the model that the guide was trained on"


@dataclass(frozen=True)
class Opened:
    """A posterior; and where it is of a trained guide, not of a saved posterior, that guide and the data."""

    posterior: Any
    guide: Any = None
    data: dict[str, Any] | None = None


def add_posterior_arguments(parser: argparse.ArgumentParser) -> None:
    """What `open_posterior` reads."""
    parser.add_argument("prior", metavar="PRIOR.safetensors", help="a trained guide, or a saved posterior")
    parser.add_argument("--model", help=MODEL_OF_GUIDE)
    parser.add_argument(
        "--data",
        metavar="Y.csv",
        help="arrays by site name (.npz, .csv, .json), NaN where not observed; .npy where there is one site",
    )
    parser.add_argument("--steps", type=int, help=f"of the reverse SDE (default {STEPS})")
    parser.add_argument("--backend", help="numpy, torch, torch:cuda, cupy; SDEPPL_BACKEND by default")


def open_guide(path: str, arguments: argparse.Namespace) -> "ScoreGuide":
    """A trained guide with its model: where `arguments` have none, the one its file names is put into them.

    Raises: UsageError; ModelError, CorruptFile where file and model do not fit.
    """
    if arguments.model is None:
        arguments.model, inputs = recorded_origin(path)
        arguments.inputs = arguments.inputs or inputs
        with_inputs = f" with inputs {arguments.inputs}" if arguments.inputs else ""
        say(arguments, f"model: {arguments.model}{with_inputs}, as {path} was trained on")
    guide = make_guide(arguments.model, read_inputs(arguments.inputs), arguments.seed)
    guide.load_into(path)
    return guide


def open_posterior(arguments: argparse.Namespace) -> Opened:
    """Of a trained guide given the data, or as it was saved. Raises: UsageError; as `condition`."""
    if header_of(arguments.prior)["kind"] == "posterior":
        given = [f"--{name}" for name in ("model", "data", "inputs", "steps") if getattr(arguments, name)]
        if given:
            raise UsageError(
                f"{arguments.prior} holds a posterior, which has its model, data and steps in it: leave out "
                f"{' and '.join(given)}"
            )
        from ..posterior import load_posterior

        return Opened(load_posterior(arguments.prior, arguments.backend))
    from ..guide import SiteData

    guide = open_guide(arguments.prior, arguments)
    only = guide.observable[0] if len(guide.observable) == 1 else None
    steps = STEPS if arguments.steps is None else arguments.steps
    data = {} if arguments.data is None else read_arrays(arguments.data, "--data", only)
    if data:
        say(arguments, f"data: {arguments.data}: {in_words(data)}")
    return Opened(guide.condition(SiteData(data), backend=arguments.backend, steps=steps), guide, data)


# ---- `model.py:model`: a Pyro model, or a `ScoreGuide` of one, from a Python file

MODEL_HELP = (
    "FILE.py:NAME, a Pyro model, or a ScoreGuide made of one for another SDE or network (NAME: model)"
)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
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


def _load(target: str) -> Any:
    name = split_target(target)[1]
    path = path_of(target)
    assert path is not None
    if not path.is_file():
        raise UsageError(f"there is no file {path}; expected FILE.py:NAME, such as model.py:model")
    # a name that no module of a library has, and another file of the same name has not either
    unique = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(unique, path)
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


def read_inputs(path: str | None) -> dict[str, Any]:
    """{keyword: tensor in float64 or the integers' own dtype}; nothing for no file. Raises: UsageError."""
    if path is None:
        return {}
    import torch

    found = {name: torch.as_tensor(value) for name, value in read_arrays(path, "--inputs").items()}
    return {name: v.double() if v.is_floating_point() else v for name, v in found.items()}


# ---- Which model a guide was trained on, as the guide's file says: paths within that file's folder, no
# others
#
# A model file is code that is run, so what a guide's file names is found beside it or below, or not at all.


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


def header_of(path: str) -> dict[str, Any]:
    """What is written beside the arrays, with a 'kind' at least: 'guide', 'posterior' or another.

    Raises: UsageError for a file that sdeppl did not write.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise UsageError(f"there is no file {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {}).get("sdeppl", "{}"))
    except (SafetensorError, json.JSONDecodeError) as error:
        raise UsageError(f"{path} is not a file that sdeppl wrote ({error})") from error
    if not isinstance(header, dict) or header.get("kind") is None:
        raise UsageError(f"{path} is a safetensors file, but sdeppl did not write it")
    return header
