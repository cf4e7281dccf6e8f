"""What the reverse SDE can be solved on here, and why not on the rest; optional libraries besides."""

import argparse
import os
from importlib.metadata import PackageNotFoundError, version

from .errors import GOOD

HELP = "what is installed and usable, and why not"
OPTIONAL = {  # distribution ↦ what it is for, and the extra that brings it
    "arviz": ("to_arviz, draws in .nc files", "arviz"),
    "matplotlib": ("pictures, sdeppl demo", "tutorials"),
    "onnxruntime": ("eps-nets in ONNX files", "onnx"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`backends` has no arguments of its own."""


def run(arguments: argparse.Namespace) -> int:
    """Try every selector. Raises: ValueError, BackendUnavailable for SDEPPL_BACKEND."""
    from ..backend.adapters import ADAPTERS
    from ..backend.arrays import DEFAULT, ENVIRONMENT_VARIABLE, resolve

    rows = []
    for adapter in ADAPTERS.values():
        for selector in adapter.selectors:
            if "<" not in selector:
                rows.append((selector, *_tried(selector)))
    width = max(len(name) for name in [*OPTIONAL, *(selector for selector, *_ in rows)])
    for selector, usable, text in rows:
        print(f"{selector:<{width}}  {'yes' if usable else 'no ':<3}  {text}")
    if not arguments.quiet:
        print()
        for name, (purpose, extra) in OPTIONAL.items():
            print(f"{name:<{width}}  {_installed(name, extra)}: {purpose}")
        print()
    chosen = os.environ.get(ENVIRONMENT_VARIABLE)
    source = f"{ENVIRONMENT_VARIABLE}={chosen}" if chosen else f"{ENVIRONMENT_VARIABLE} is not set"
    print(f"{source}: {resolve(chosen or DEFAULT)}")
    return GOOD


def _tried(selector: str) -> tuple[bool, str]:
    """Whether it opens, and on what, or why not."""
    from ..backend import BackendUnavailable, resolve

    try:
        found = resolve(selector)
    except BackendUnavailable as error:
        return False, str(error).removeprefix(f"backend={selector!r}: ")
    except ValueError as error:  # a simulated device without float64
        return False, str(error)
    return True, f"{found}, {_library(found.name)}"


def _library(name: str) -> str:
    distribution = {"strict": "array-api-strict"}.get(name, name)
    try:
        text = f"{distribution} {version(distribution)}"
    except PackageNotFoundError:  # CuPy is installed by the name of its CUDA version
        text = distribution
    return f"{text}, for tests" if name == "strict" else text


def _installed(name: str, extra: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return f"not installed (pip install 'sdeppl[{extra}]')"
