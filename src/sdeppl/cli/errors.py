"""Mistakes of the one who typed the command, and how each error is put into one line."""

import argparse
import sys
import traceback
from importlib.util import find_spec
from pathlib import Path

GOOD, NOT_TRUSTED, WRONG_USE, INTERRUPTED = 0, 1, 2, 130


class UsageError(Exception):
    """The command cannot be carried out as it was typed; the message says what to do."""


def say(arguments: argparse.Namespace, text: str) -> None:
    """What goes beside the results; --quiet leaves it out."""
    if not arguments.quiet:
        print(text, file=sys.stderr)


def is_the_users(error: BaseException, model_file: Path | None) -> bool:
    """Whether the message alone helps: our own refusals, and whatever the user's model raised."""
    # RuntimeError: BackendUnavailable, and what torch says of shapes
    ours = (UsageError, ValueError, TypeError, OSError, ImportError, FloatingPointError, RuntimeError)
    return isinstance(error, (*ours, SyntaxError)) or line_in(error, model_file) is not None


def line_in(error: BaseException, model_file: Path | None) -> int | None:
    """The innermost line of the user's model that the error passed through."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f.lineno for f in frames if model_file is not None and Path(f.filename) == model_file]
    return lines[-1] if lines else None


def in_words(error: BaseException, model_file: Path | None) -> str:
    """One line, with the place in the model where there is one."""
    text = str(error).strip() or "no message"
    if not (type(error).__module__.startswith("sdeppl") or isinstance(error, OSError)):
        text = f"{type(error).__name__}: {text}"
    line = line_in(error, model_file)
    return text if line is None or model_file is None else f"{text} ({model_file}, line {line})"


def require_pictures(who_needs: str, out: str) -> None:
    """Raises: UsageError where matplotlib is missing, or the folder to write to."""
    if find_spec("matplotlib") is None:
        raise UsageError(f"{who_needs} matplotlib: pip install 'sdeppl[tutorials]'")
    if not Path(out).parent.is_dir():
        raise UsageError(f"--out {out}: there is no folder {Path(out).parent}")
