"""Layer 4: prior + observation to draws, and log-densities, on arrays alone."""

from .choice import Choice
from .corrector import LangevinCorrector
from .diagnosis import Diagnosis, UntrustedWarning
from .log_density import LogDensity, log_density
from .posterior import Posterior, PosteriorRun
from .start import SignalLeftWarning, Start, start_moments
from .tempered import TemperedSMC
from .twisted import TwistedSMC

__all__ = [
    "Choice",
    "Diagnosis",
    "LangevinCorrector",
    "LogDensity",
    "Posterior",
    "PosteriorRun",
    "SignalLeftWarning",
    "Start",
    "TemperedSMC",
    "TwistedSMC",
    "UntrustedWarning",
    "log_density",
    "start_moments",
]
