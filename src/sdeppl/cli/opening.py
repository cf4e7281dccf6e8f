"""From the arguments of a command to a guide, and to a posterior."""

import argparse
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .arrays import in_words, read_arrays
from .errors import UsageError
from .inputs import read_inputs
from .model_file import make_guide
from .origin import recorded_origin
from .saved_file import kind_of

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
        if not arguments.quiet:
            with_inputs = f" with inputs {arguments.inputs}" if arguments.inputs else ""
            print(f"model: {arguments.model}{with_inputs}, as {path} was trained on", file=sys.stderr)
    from ..guide.saving import load_into

    guide = make_guide(arguments.model, read_inputs(arguments.inputs), arguments.seed)
    load_into(guide, path)
    return guide


def open_posterior(arguments: argparse.Namespace) -> Opened:
    """Of a trained guide given the data, or as it was saved. Raises: UsageError; as `condition`."""
    if kind_of(arguments.prior) == "posterior":
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
    if data and not arguments.quiet:
        print(f"data: {arguments.data}: {in_words(data)}", file=sys.stderr)
    return Opened(guide.condition(SiteData(data), backend=arguments.backend, steps=steps), guide, data)
