"""Tensors and JSON in one safetensors file: no pickle, nothing is executed on reading."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors import SafetensorError, safe_open

VERSION = 3  # 1: latents on an interval by a logit; 2: networks that counted ρ times


class CorruptFile(ValueError):
    """A file is not what it should be: damaged, of another kind or of another version."""


def check_folder(path: str | Path) -> None:
    """Check that a file can be put there. Raises: FileNotFoundError where there is no such folder."""
    folder = Path(path).parent
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder} to write {Path(path).name} to; make it first")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A path to write to that takes the place of `path` once all is written, and not before.

    Raises: FileNotFoundError where the folder does not exist.
    """
    check_folder(path)
    part = Path(path).with_name(Path(path).name + ".part")
    yield part
    os.replace(part, path)


def write(path: str | Path, kind: str, tensors: dict[str, Any], content: dict[str, Any]) -> None:
    """Write torch tensors, or NumPy arrays alone, atomically: an interrupted write leaves the earlier file.

    Raises: FileNotFoundError where the folder does not exist.
    """
    header = {"sdeppl": json.dumps({"kind": kind, "version": VERSION, **content})}
    with replacing(path) as part:
        if all(isinstance(array, np.ndarray) for array in tensors.values()):
            from safetensors.numpy import save_file

            save_file({n: np.array(array, order="C") for n, array in tensors.items()}, part, metadata=header)
        else:
            from safetensors.torch import save_file as save_tensors

            whole = {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
            save_tensors(whole, part, metadata=header)


def read(
    path: str | Path, kind: str, framework: Literal["pt", "numpy"] = "pt"
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tensors, or NumPy arrays, and content of a file of `kind`. Raises: FileNotFoundError, CorruptFile."""
    if not Path(path).exists():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with safe_open(path, framework=framework) as file:
            header = (file.metadata() or {}).get("sdeppl")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CorruptFile(
            f"{path} is not a whole safetensors file ({error}); delete it or use another"
        ) from error
    try:
        content = json.loads(header or "")
    except json.JSONDecodeError:
        content = None
    if not isinstance(content, dict):
        raise CorruptFile(f"{path} was not written by sdeppl")
    if (content.get("kind"), content.get("version")) != (kind, VERSION):
        raise CorruptFile(
            f"{path} holds a {content.get('kind')!r} of version {content.get('version')}; expected a "
            f"{kind!r} of version {VERSION}"
        )
    return tensors, content
