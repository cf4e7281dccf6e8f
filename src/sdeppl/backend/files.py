"""Tensors and JSON in one safetensors file: no pickle, nothing is executed on reading."""

import glob
import hashlib
import json
import os
import platform
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from safetensors import SafetensorError, safe_open

from .arguments import path_of

Named: TypeAlias = dict[str, Any]  # tensors, or what JSON holds
VERSION = 4  # 1: latents on an interval by a logit; 2: networks that counted ρ times; 3: without a digest


class CorruptFile(ValueError):
    """A file is not what it should be: damaged, of another kind or of another version."""


def check_folder(path: str | Path) -> None:
    """Check that a file can be put there. Raises: FileNotFoundError where there is no such folder."""
    folder = path_of(path).parent
    if not Path(path).name:
        raise ValueError(f"path must name a file to write to; got {str(path)!r}")
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder} to write {Path(path).name} to; make it first")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A path to write to that takes the place of `path` once all is on the disk, and not before.

    Two that write at once each have a path of their own. What a killed process has left is removed by the
    next one on its machine. Raises: FileNotFoundError where the folder does not exist.
    """
    check_folder(path)
    _remove_leftovers(Path(path))
    own = f"{Path(path).name}{_HERE}{os.getpid()}.{secrets.token_hex(4)}.part"
    part = Path(path).with_name(own)
    try:
        yield part
        with open(part, "rb+") as file:
            os.fsync(file.fileno())  # else a loss of power could leave the new name without its numbers
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


_HERE = f".{platform.node()}-"


def _remove_leftovers(path: Path) -> None:
    """Parts whose writers on this machine no longer run."""
    if sys.platform == "win32":  # where a process cannot be asked whether it runs without a signal to it
        return
    for part in path.parent.glob(f"{glob.escape(path.name + _HERE)}*.part"):
        number = part.name.removeprefix(path.name + _HERE).split(".")[0]
        try:
            os.kill(int(number), 0)
        except ProcessLookupError:
            part.unlink(missing_ok=True)
        except (ValueError, OSError):  # another's file, or another's process
            continue


def write(path: str | Path, kind: str, tensors: Named, content: Named) -> None:
    """Write torch tensors, or NumPy arrays alone, atomically: an interrupted write leaves the earlier file.

    Raises: FileNotFoundError where the folder does not exist.
    """
    text = json.dumps({"kind": kind, "version": VERSION, **content})
    with replacing(path) as part:
        if all(isinstance(array, np.ndarray) for array in tensors.values()):
            from safetensors.numpy import save_file

            whole: Named = {n: np.array(array, order="C") for n, array in tensors.items()}
            save_file(whole, part, metadata={"sdeppl": text, "digest": _digest(text, whole)})
        else:
            from safetensors.torch import save_file as save_tensors

            whole = {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
            hosts = {name: _bytes(tensor) for name, tensor in whole.items()}
            save_tensors(whole, part, metadata={"sdeppl": text, "digest": _digest(text, hosts)})


def read(path: str | Path, kind: str, framework: Literal["pt", "numpy"] = "pt") -> tuple[Named, Named]:
    """Tensors, or NumPy arrays, and content of a file of `kind`. Raises: FileNotFoundError, CorruptFile."""
    if not path_of(path).exists():
        raise FileNotFoundError(f"there is no file {path}")
    if Path(path).is_dir():
        raise IsADirectoryError(f"{path} is a folder; give a file")
    try:
        with safe_open(path, framework=framework) as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, IsADirectoryError, UnicodeError) as error:
        raise CorruptFile(
            f"{path} is not a whole safetensors file ({error}); delete it or use another"
        ) from error
    content = _content(path, kind, header.get("sdeppl"))
    hosts = tensors if framework == "numpy" else {name: _bytes(tensor) for name, tensor in tensors.items()}
    if header.get("digest") != _digest(header["sdeppl"], hosts):
        raise CorruptFile(f"{path} is damaged: its numbers are not those that were written; use another")
    return tensors, content


def _content(path: str | Path, kind: str, text: str | None) -> Named:
    """The JSON of a file. Raises: CorruptFile for one of another kind or version."""
    try:
        content = json.loads(text or "")
    except (json.JSONDecodeError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise CorruptFile(f"{path} was not written by sdeppl")
    if (content.get("kind"), content.get("version")) != (kind, VERSION):
        raise CorruptFile(
            f"{path} holds a {content.get('kind')!r} of version {content.get('version')}; expected a "
            f"{kind!r} of version {VERSION}"
        )
    return content


def _digest(text: str, arrays: Named) -> str:
    """Of the JSON, and of the arrays' names, dtypes, shapes and bytes; arrays are NumPy's."""
    found = hashlib.blake2b(text.encode(), digest_size=16)
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        found.update(f"\0{name}\0{array.dtype.str}\0{arrays[name].shape}\0".encode())
        found.update(array.reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def _bytes(tensor: Any) -> Any:
    """A torch tensor on the host as NumPy's array; of what NumPy has no dtype for, the bytes."""
    host = tensor.detach().cpu().contiguous()
    try:
        return host.numpy()
    except TypeError:
        import torch

        return host.reshape(-1).view(torch.uint8).numpy()
