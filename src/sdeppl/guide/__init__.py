"""Layer 6: the Pyro guide, and `condition`."""

from ..backend.files import CorruptFile, check_folder, read, write
from .guide import ScoreGuide
from .saving import contents, restore

__all__ = ["CorruptFile", "ScoreGuide", "check_folder", "contents", "read", "restore", "write"]
