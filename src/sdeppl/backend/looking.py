"""Looking at an array in a step, where that is free."""

from typing import Any

from array_api_compat import array_namespace

from .resolve import backend_of


def all_without_sync(mask: Any) -> bool:
    """Whether all of `mask` is true and seeing it costs nothing; False without a look on a device.

    For loops that may end early where the arrays are the host's, and run their full length, with the same
    numbers, where reading one would make the host wait for the device, or while torch traces the code.
    """
    return backend_of(mask).adapter.readable(mask) and bool(array_namespace(mask).all(mask))
