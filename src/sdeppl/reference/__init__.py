"""Layer 7: posteriors of the same model by other means."""

from .exact import Exact
from .nuts import ChainWarning, Reference, nuts

__all__ = ["ChainWarning", "Exact", "Reference", "nuts"]
