"""Train a guide on draws of a model's prior; no data are needed.

An interrupted training goes on where it was when the same command is given again.
"""

import argparse
import signal
from pathlib import Path
from typing import Any

from .errors import GOOD, UsageError, say
from .opening import MODEL_HELP, add_model_arguments, make_guide, origin_for, read_inputs

HELP = "train a guide on a model's prior"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `train`."""
    parser.add_argument("model", help=MODEL_HELP)
    parser.add_argument("--out", required=True, metavar="PRIOR.safetensors", help="where the guide goes")
    parser.add_argument("--steps", type=int, default=5_000, help="of training; 0: Gaussian part alone")
    parser.add_argument("--lr", type=float, default=1e-3, help="Adam's learning rate (default 1e-3)")
    parser.add_argument("--batch", type=int, default=512, help="rows in a step (default 512)")
    parser.add_argument("--draws", type=int, default=100_000, help="for the prior's mean and covariance")
    parser.add_argument("--checkpoint", metavar="FILE", help="default: OUT with the ending .ckpt")
    parser.add_argument("--every", type=int, default=500, help="steps between checkpoints (default 500)")
    parser.add_argument("--fresh", action="store_true", help="start anew where there is a checkpoint")
    add_model_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Train and save."""
    out = Path(arguments.out)
    if not out.parent.is_dir():
        raise UsageError(f"--out {out}: there is no folder {out.parent}; make it first")
    checkpoint = Path(arguments.checkpoint or out.with_suffix(".ckpt"))
    if checkpoint == out:
        raise UsageError(f"--checkpoint and --out are both {out}; give two files")
    if arguments.fresh:
        checkpoint.unlink(missing_ok=True)
    from ..training import ScoreMatching

    guide = make_guide(arguments.model, read_inputs(arguments.inputs), arguments.seed)
    training = ScoreMatching(guide, arguments.lr, arguments.batch, draws=arguments.draws, seed=arguments.seed)
    latents = ", ".join(f"{site.name} {tuple(site.shape)}" for site in guide.space.sites)
    say(arguments, f"latents: {latents}; forward SDE: {type(guide.sde).__name__}")
    if checkpoint.exists():
        say(arguments, f"going on from {checkpoint}; --fresh starts anew")
    _fit(training, arguments, checkpoint)
    origin = origin_for(out, arguments.model, arguments.inputs)
    guide.save(out, origin)
    checkpoint.unlink(missing_ok=True)
    say(arguments, _summary(training))
    say(arguments, f"the prior on held-out draws: {guide.fit_check.verdict}")
    say(arguments, f"guide: {out}")
    if origin is None:
        say(
            arguments,
            f"model or inputs are not in the folder of {out.name}: sample, check and report need --model",
        )
    return GOOD


def _fit(training: Any, arguments: argparse.Namespace, checkpoint: Path) -> None:
    """`fit`, told to stop by SIGTERM as by control-C."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        training.fit(
            arguments.steps, progress=not arguments.quiet, checkpoint=checkpoint, every=arguments.every
        )
    except KeyboardInterrupt:
        kept = f"the same command goes on from {checkpoint}" if checkpoint.exists() else "nothing was kept"
        raise KeyboardInterrupt(
            f"interrupted after {len(training.losses)} of {arguments.steps} steps; {kept}"
        ) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _summary(training: Any) -> str:
    if training.gain is None:
        return "trained: the Gaussian part alone"
    gain = training.gain
    verdict = "kept" if gain.useful else "no improvement on the Gaussian part, so it is left out"
    return f"network: {gain.mean:.4f} ± {gain.standard_error:.4f} less loss: {verdict}"
