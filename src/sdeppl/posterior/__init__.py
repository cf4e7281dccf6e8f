"""Layer 4: a prior and an observation to draws, on arrays alone."""

from .denoising_flow import DenoisingFlow
from .log_density import LogDensity, log_density
from .posterior import Posterior
from .start import SignalLeftWarning, Start, start_moments

__all__ = [
    "DenoisingFlow",
    "LogDensity",
    "Posterior",
    "SignalLeftWarning",
    "Start",
    "log_density",
    "start_moments",
]
