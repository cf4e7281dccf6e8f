"""Layer 7: posteriors of the same model by other means."""

from .exact import Exact
from .hmc import hmc
from .nuts import nuts
from .result import ChainWarning, Reference

__all__ = ["ChainWarning", "Exact", "Reference", "hmc", "nuts"]
