"""Layer 4: a prior and an observation to draws, on arrays alone."""

from .posterior import Posterior
from .start import SignalLeftWarning, Start, start_moments

__all__ = ["Posterior", "SignalLeftWarning", "Start", "start_moments"]
