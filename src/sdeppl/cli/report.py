"""One HTML page that says whether to believe a posterior.

The model, the answer, its pictures, every check that is asked for, and one verdict in words.
"""

import argparse
import warnings

from .check import add_check_arguments, calibration_of, reference_of, score_of
from .errors import GOOD, NOT_TRUSTED, UsageError, require_pictures, say
from .opening import add_model_arguments, add_posterior_arguments, open_posterior

HELP = "write a page that says whether to believe a posterior"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `report`."""
    add_posterior_arguments(parser)
    parser.add_argument("--out", default="report.html", metavar="PAGE.html", help="default: report.html")
    parser.add_argument("-n", "--draws", type=int, default=2_000, help="of the posterior (default 2000)")
    parser.add_argument("--reference", metavar="FILE", help="draws of a reference (.npz, .nc)")
    add_check_arguments(parser)
    add_model_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Check, draw, write the page."""
    require_pictures("the page's pictures need", arguments.out)
    opened = open_posterior(arguments)
    if opened.guide is None and (arguments.score or arguments.sbc):
        raise UsageError(f"{arguments.prior} holds a posterior: --score and --sbc check a trained guide")
    from ..posterior import UntrustedWarning
    from ..reporting import report

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UntrustedWarning)  # the page says it
        written = report(
            opened.posterior,
            arguments.out,
            reference=reference_of(arguments.reference) if arguments.reference else None,
            score=score_of(opened.guide, arguments) if arguments.score else None,
            sbc=calibration_of(opened.guide, arguments) if arguments.sbc else None,
            guide=opened.guide,
            draws=arguments.draws,
            seed=arguments.seed,
        )
    print(f"{written.state}: {written.verdict}")
    say(arguments, f"page: {written.path}")
    return GOOD if written.state == "trusted" else NOT_TRUSTED
