"""A simulated CUDA with one device."""

from . import device
from .device import Device


class Stream:
    """Named in signatures only."""


__all__ = ["Device", "Stream", "device"]
