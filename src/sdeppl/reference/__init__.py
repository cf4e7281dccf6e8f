"""Layer 7: posteriors of the same model by other means."""

from .exact import Exact
from .nuts import Reference, nuts

__all__ = ["Exact", "Reference", "nuts"]
