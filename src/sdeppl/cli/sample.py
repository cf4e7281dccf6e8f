"""Draw from the posterior given data, with what `sdeppl train` or `posterior.save` wrote.

A trained guide takes --data; nothing is trained. Its model is the one that it was trained on, where that
file is in the guide's folder or below it; else give --model. A saved posterior takes neither.
"""

import argparse
import warnings

from .arrays import check_names, check_output, write_draws
from .errors import GOOD, NOT_TRUSTED, say
from .opening import add_model_arguments, add_posterior_arguments, open_posterior

HELP = "draw from the posterior given data"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `sample`."""
    add_posterior_arguments(parser)
    parser.add_argument("--out", required=True, metavar="DRAWS.nc", help=".npz, or .nc by ArviZ")
    parser.add_argument("-n", "--draws", type=int, default=1_000, help="how many (default 1000)")
    amplitude = "noise amplitude of the reverse SDE, in units of b(t) (default 1)"
    parser.add_argument("-c", type=float, default=None, help=amplitude)
    add_model_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Sample, write, and say whether to believe it."""
    check_output(arguments.out)
    opened = open_posterior(arguments)
    check_names(arguments.out, opened)
    from ..posterior import UntrustedWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UntrustedWarning)  # the diagnosis says it below
        found = opened.posterior.run(
            arguments.draws, seed=arguments.seed, c=arguments.c, progress=not arguments.quiet
        )
    write_draws(arguments.out, found, opened.data)
    shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in found.draws.items())
    say(arguments, f"draws: {arguments.out}: {shapes}")
    print(found.diagnosis)
    return GOOD if found.diagnosis.trusted else NOT_TRUSTED
