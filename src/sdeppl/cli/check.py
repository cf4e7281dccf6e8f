"""Whether to believe an answer.

  sdeppl check draws.nc reference.nc                    two sets of draws of the same posterior
  sdeppl check prior.safetensors --score --model m.py   whether the learned score is the prior's
  sdeppl check prior.safetensors --sbc --model m.py     whether posteriors of simulated data hold the truth

Draws differ where an error is significant, at 1 in 1,000, and above --tolerance.
"""

import argparse
from typing import Any

from .arrays import read_draws
from .errors import GOOD, NOT_TRUSTED, UsageError
from .inputs import read_inputs
from .model_file import HELP as MODEL_HELP
from .model_file import add_model_arguments, make_guide

HELP = "compare draws with a reference; check a score; calibrate"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `check`."""
    parser.add_argument("file", help="draws (.npz, .nc); with --score or --sbc a trained guide")
    parser.add_argument("reference", nargs="?", help="draws of a reference (.npz, .nc)")
    parser.add_argument("--tolerance", type=float, default=0.05, help="in standard deviations (default 0.05)")
    parser.add_argument("--score", action="store_true", help="check the score of a trained guide")
    parser.add_argument("--sbc", action="store_true", help="simulation-based calibration of a trained guide")
    parser.add_argument("--model", help=MODEL_HELP)
    parser.add_argument("--sets", type=int, default=400, help="simulated data sets for --sbc (default 400)")
    parser.add_argument("--draws", type=int, default=20_000, help="of the prior for --score (default 20,000)")
    parser.add_argument("--backend", help="numpy, torch, torch:cuda, cupy; SDEPPL_BACKEND by default")
    add_model_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Compare, or check a guide."""
    if not (arguments.score or arguments.sbc):
        if arguments.reference is None:
            raise UsageError(
                "give two files of draws, or a guide with --score or --sbc and --model FILE.py:NAME"
            )
        return _compare(arguments)
    if arguments.reference is not None:
        raise UsageError("--score and --sbc check a trained guide alone: leave out the second file")
    return _check_guide(arguments)


def _compare(arguments: argparse.Namespace) -> int:
    from ..diagnostics import compare

    draws, _ = read_draws(arguments.file)
    reference: Any
    reference, chains = read_draws(arguments.reference)
    if chains > 1:  # of Markov chains: their effective sample size counts, and what they say of themselves
        reference = _of_chains(reference, chains)
    comparison = compare(draws, reference, seed=arguments.seed, tolerance=arguments.tolerance)
    print(comparison)
    return GOOD if comparison.trusted else NOT_TRUSTED


def _of_chains(draws: dict[str, Any], chains: int) -> Any:
    import torch

    from ..reference.result import summary

    by_chain = {
        name: torch.as_tensor(value, dtype=torch.float64).reshape(chains, -1, *value.shape[1:])
        for name, value in draws.items()
    }
    return summary(by_chain, divergences=0, seconds=0.0, warmup_seconds=0.0)


def _check_guide(arguments: argparse.Namespace) -> int:
    if arguments.model is None:
        raise UsageError(f"{arguments.file} is of a guide: give its model too, --model FILE.py:NAME")
    from ..diagnostics import check_score, sbc
    from ..guide.saving import load_into

    guide = make_guide(arguments.model, read_inputs(arguments.inputs), arguments.seed)
    load_into(guide, arguments.file)
    good = True
    if arguments.score:
        score = check_score(guide, arguments.draws, seed=arguments.seed)
        print(score)
        good = score.good
    if arguments.sbc:
        calibration = sbc(
            guide,
            arguments.sets,
            seed=arguments.seed,
            backend=arguments.backend,
            progress=not arguments.quiet,
        )
        print(calibration)
        good = good and calibration.trusted
    return GOOD if good else NOT_TRUSTED
