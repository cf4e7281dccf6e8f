"""Layer 7: posteriors of the same model by other means."""

from .conditioning import exact
from .hmc import hmc
from .nuts import nuts
from .result import ChainWarning, Exact, Reference

__all__ = ["ChainWarning", "Exact", "Reference", "exact", "hmc", "nuts"]
