"""Layer 6: the Pyro guide, and `condition`."""

from ..backend.files import CorruptFile
from .guide import ScoreGuide
from .names import SiteData, names_apart
