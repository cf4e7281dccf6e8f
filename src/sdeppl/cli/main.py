"""The parser of `sdeppl`, and what every command has in common."""

import argparse
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from .. import __version__
from . import backends, check, completion, demo, report, sample, train
from .errors import GOOD, INTERRUPTED, WRONG_USE, in_words, is_the_users
from .opening import path_of

COMMANDS = (demo, backends, train, sample, check, report, completion)
EXIT_CODES = "exit codes: 0 good, 1 a check says not to trust the answer, 2 wrong use, 130 interrupted"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    parser = build_parser()
    arguments = parser.parse_args(argv, argparse.Namespace(parser=parser))
    if arguments.command is None:
        parser.print_help()
        return WRONG_USE
    _limit_threads(arguments.threads)
    with _plain_warnings():
        try:
            return int(arguments.run(arguments))
        except KeyboardInterrupt as error:
            print(f"sdeppl: {error or 'interrupted'}", file=sys.stderr)
            return INTERRUPTED
        except BrokenPipeError:  # `sdeppl backends | head -1`
            sys.stderr.close()
            return GOOD
        except Exception as error:
            model_file = path_of(getattr(arguments, "model", None))  # which may have been found on the way
            if arguments.traceback or not is_the_users(error, model_file):
                traceback.print_exc()
            print(f"sdeppl: error: {in_words(error, model_file)}", file=sys.stderr)
            return WRONG_USE


def build_parser() -> argparse.ArgumentParser:
    """Every command with its arguments; costs no import of torch."""
    parser = argparse.ArgumentParser(
        prog="sdeppl",
        description="Posterior draws from a Pyro model by score-based diffusion.",
        epilog=EXIT_CODES,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=30),
    )
    parser.add_argument("--version", action="version", version=f"sdeppl {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for module in COMMANDS:
        name = module.__name__.rsplit(".", 1)[-1]
        command = commands.add_parser(
            name,
            help=module.HELP,
            description=module.__doc__,
            epilog=EXIT_CODES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.add_argument("-q", "--quiet", action="store_true", help="no progress bars, results only")
        command.add_argument("--traceback", action="store_true", help="with an error, where it was raised")
        command.add_argument("--threads", type=int, help="of torch and NumPy (default 1, or OMP_NUM_THREADS)")
        command.set_defaults(run=module.run)
    return parser


def _limit_threads(threads: int | None) -> None:
    """Before torch and NumPy are loaded, which read it once: threads of small arrays wait for each other."""
    chosen = os.environ.get("OMP_NUM_THREADS", "1") if threads is None else str(threads)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = chosen


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Warnings as one line each, without a place in the library."""

    def one_line(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        line: str | None = None,
    ) -> str:
        return f"sdeppl: warning: {message}\n"

    before, warnings.formatwarning = warnings.formatwarning, one_line
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # ArviZ's, of itself, on import
            yield
    finally:
        warnings.formatwarning = before
