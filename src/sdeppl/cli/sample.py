"""Draw from the posterior given data, with what `sdeppl train` or `posterior.save` wrote.

A trained guide takes --model and --data; nothing is trained. A saved posterior takes neither.
"""

import argparse
import sys
import warnings
from typing import Any

from .arrays import check_output, read_arrays, write_draws
from .errors import GOOD, NOT_TRUSTED, UsageError
from .inputs import read_inputs
from .model_file import HELP as MODEL_HELP
from .model_file import add_model_arguments, make_guide
from .saved_file import kind_of

HELP = "draw from the posterior given data"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `sample`."""
    parser.add_argument("prior", metavar="PRIOR.safetensors", help="a trained guide, or a saved posterior")
    parser.add_argument("--model", help=MODEL_HELP)
    parser.add_argument(
        "--data",
        metavar="Y.npz",
        help="arrays by site name, NaN where not observed; .npy where there is one site",
    )
    parser.add_argument("--out", required=True, metavar="DRAWS.nc", help=".npz, or .nc by ArviZ")
    parser.add_argument("-n", "--draws", type=int, default=1_000, help="how many (default 1000)")
    parser.add_argument("--steps", type=int, help="of the reverse SDE (default 100)")
    parser.add_argument("-c", type=float, default=1.0, help="noise amplitude, in units of b(t) (default 1)")
    parser.add_argument("--backend", help="numpy, torch, torch:cuda, cupy; SDEPPL_BACKEND by default")
    add_model_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Sample, write, and say whether to believe it."""
    check_output(arguments.out)
    posterior, data = _posterior(arguments)
    from ..posterior import UntrustedWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UntrustedWarning)  # the diagnosis says it below
        found = posterior.run(
            arguments.draws, seed=arguments.seed, c=arguments.c, progress=not arguments.quiet
        )
    write_draws(arguments.out, found, data)
    if not arguments.quiet:
        shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in found.draws.items())
        print(f"draws: {arguments.out}: {shapes}", file=sys.stderr)
    print(found.diagnosis)
    return GOOD if found.diagnosis.trusted else NOT_TRUSTED


def _posterior(arguments: argparse.Namespace) -> tuple[Any, dict[str, Any] | None]:
    if kind_of(arguments.prior) == "posterior":
        given = [f"--{name}" for name in ("model", "data", "inputs", "steps") if getattr(arguments, name)]
        if given:
            raise UsageError(
                f"{arguments.prior} holds a posterior, which has its model, data and steps in it: leave out "
                f"{' and '.join(given)}"
            )
        from ..posterior import load_posterior

        return load_posterior(arguments.prior, arguments.backend), None
    if arguments.model is None:
        raise UsageError(f"{arguments.prior} holds a guide: give its model too, --model FILE.py:NAME")
    from ..guide.saving import load_into

    inputs = read_inputs(arguments.inputs)
    guide = make_guide(arguments.model, inputs, arguments.seed)
    load_into(guide, arguments.prior)
    only = guide.observable[0] if len(guide.observable) == 1 else None
    steps = 100 if arguments.steps is None else arguments.steps
    data = {} if arguments.data is None else read_arrays(arguments.data, "--data", only)
    return guide.condition(data, backend=arguments.backend, steps=steps), data
