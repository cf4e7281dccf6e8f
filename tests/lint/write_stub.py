"""Write src/sdeppl/__init__.pyi: what type checkers and editors see of names that are loaded lazily."""

from pathlib import Path

import sdeppl

STUB = Path(sdeppl.__file__).with_suffix(".pyi")


def stub() -> str:
    """Its text, from the table of names in `sdeppl/__init__.py`."""
    lines = ["# Written by tests/lint/write_stub.py.", "# ruff: noqa: I001", ""]
    modules = sorted({*sdeppl._MODULES} - {*sdeppl._NAMES_OF_MODULE})
    lines += [f"from . import {name} as {name}" for name in modules]
    for module, names in sorted(sdeppl._NAMES_OF_MODULE.items()):
        lines.append(f"from .{module} import (")
        lines += [f"    {name} as {name}," for name in sorted(names.split())]
        lines.append(")")
    lines += ["", "__version__: str", "__all__: list[str]"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    STUB.write_text(stub(), "utf-8")
    print(STUB)
