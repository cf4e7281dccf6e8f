"""Layer 7: posteriors of the same model by other means."""

from .conditioning import exact
from .hmc import hmc
from .moments import Exact
from .nuts import nuts
from .result import ChainWarning, Reference

__all__ = ["ChainWarning", "Exact", "Reference", "exact", "hmc", "nuts"]
