"""Layer 6: the Pyro guide, and `condition`."""

from .files import CorruptFile, read, write
from .guide import ScoreGuide
from .saving import contents, restore

__all__ = ["CorruptFile", "ScoreGuide", "contents", "read", "restore", "write"]
