"""CuPy, SIMULATED: NumPy behind its names (tests/simulated), for as long as a test needs it.

It refuses NumPy arrays and counts what the host reads; nothing that runs on it has run on a GPU.
"""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sdeppl

FOLDER = str(Path(__file__).resolve().parent / "simulated")
SIMULATED = "cupy (simulated)"
_KEPT: dict[str, Any] = {}  # its modules, out of sys.modules while no test wants them


def _part_of_it(name: str) -> bool:
    return name.split(".")[0] in ("cupy", "cupyx") or name.startswith("array_api_compat.cupy")


@contextlib.contextmanager
def simulated_cupy(dtype: str = "float64") -> Iterator[Any]:
    """The simulated library in CuPy's place, and out of it again."""
    sys.path.insert(0, FOLDER)
    sys.modules.update(_KEPT)
    try:
        yield sdeppl.resolve("cupy", dtype)
    finally:
        sys.path.remove(FOLDER)
        for name in filter(_part_of_it, list(sys.modules)):
            _KEPT[name] = sys.modules.pop(name)


@contextlib.contextmanager
def opened(selector: str, dtype: str) -> Iterator[Any]:
    """A backend of the matrix, simulated or not."""
    if selector == SIMULATED:
        with simulated_cupy(dtype) as backend:
            yield backend
    else:
        yield sdeppl.resolve(selector, dtype)
