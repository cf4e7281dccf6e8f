"""Layer 6: the Pyro guide, and `condition`."""

from ..backend.files import CorruptFile, check_folder, read, write
from .guide import ScoreGuide
from .names import SiteData, names_apart
from .saving import contents, restore

__all__ = [
    "CorruptFile",
    "ScoreGuide",
    "SiteData",
    "check_folder",
    "contents",
    "names_apart",
    "read",
    "restore",
    "write",
]
