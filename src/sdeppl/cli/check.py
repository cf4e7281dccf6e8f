"""Whether to believe an answer.

  sdeppl check draws.nc reference.nc                    two sets of draws of the same posterior
  sdeppl check prior.safetensors --score                whether the learned score is the prior's
  sdeppl check prior.safetensors --sbc                  whether posteriors of simulated data hold the truth

Draws differ where an error is significant, at 1 in 1,000, and above --tolerance.
"""

import argparse
from typing import Any

from .arrays import read_draws
from .errors import GOOD, NOT_TRUSTED, UsageError
from .opening import MODEL_OF_GUIDE, add_model_arguments, open_guide

HELP = "compare draws with a reference; check a score; calibrate"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `check`."""
    parser.add_argument("file", help="draws (.npz, .nc); with --score or --sbc a trained guide")
    parser.add_argument("reference", nargs="?", help="draws of a reference (.npz, .nc)")
    parser.add_argument("--tolerance", type=float, default=0.05, help="in standard deviations (default 0.05)")
    add_check_arguments(parser)
    parser.add_argument("--model", help=MODEL_OF_GUIDE)
    parser.add_argument("--backend", help="of --sbc; SDEPPL_BACKEND by default")
    add_model_arguments(parser)


def add_check_arguments(parser: argparse.ArgumentParser) -> None:
    """Which checks of a guide, and how large."""
    parser.add_argument("--score", action="store_true", help="check the score of a trained guide")
    parser.add_argument("--sbc", action="store_true", help="simulation-based calibration of a trained guide")
    parser.add_argument("--sets", type=int, default=400, help="simulated data sets for --sbc (default 400)")


def run(arguments: argparse.Namespace) -> int:
    """Compare, or check a guide."""
    if not (arguments.score or arguments.sbc):
        if arguments.reference is None:
            raise UsageError("give two files of draws, or a guide with --score or --sbc")
        return _compare(arguments)
    if arguments.reference is not None:
        raise UsageError("--score and --sbc check a trained guide alone: leave out the second file")
    return _check_guide(arguments)


def _compare(arguments: argparse.Namespace) -> int:
    from ..diagnostics import compare

    draws, _ = read_draws(arguments.file)
    reference = reference_of(arguments.reference)
    comparison = compare(draws, reference, seed=arguments.seed, tolerance=arguments.tolerance)
    print(comparison)
    return GOOD if comparison.trusted else NOT_TRUSTED


def _check_guide(arguments: argparse.Namespace) -> int:
    guide, good = open_guide(arguments.file, arguments), True
    if arguments.score:
        score = score_of(guide, arguments)
        print(score)
        good = score.good
    if arguments.sbc:
        calibration = calibration_of(guide, arguments)
        print(calibration)
        good = good and calibration.trusted
    return GOOD if good else NOT_TRUSTED


def reference_of(path: str) -> Any:
    """Draws, or where they are of several Markov chains a `Reference`, which knows its effective size."""
    draws, chains = read_draws(path)
    if chains == 1:
        return draws
    import torch

    from ..reference.result import summary

    by_chain = {
        name: torch.as_tensor(value, dtype=torch.float64).reshape(chains, -1, *value.shape[1:])
        for name, value in draws.items()
    }
    return summary(by_chain, divergences=0, seconds=0.0, warmup_seconds=0.0)


def score_of(guide: Any, arguments: argparse.Namespace) -> Any:
    """What `check_score` says."""
    from ..diagnostics import check_score

    return check_score(guide, seed=arguments.seed)


def calibration_of(guide: Any, arguments: argparse.Namespace) -> Any:
    """What `sbc` says."""
    from ..diagnostics import sbc

    progress = not arguments.quiet
    return sbc(guide, arguments.sets, seed=arguments.seed, backend=arguments.backend, progress=progress)
