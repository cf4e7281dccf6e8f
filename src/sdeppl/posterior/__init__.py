"""Layer 4: prior + observation to draws, and log-densities, on arrays alone."""

from .by_site import PosteriorBySite
from .choice import Choice
from .corrector import LangevinCorrector
from .diagnosis import Diagnosis, UntrustedWarning
from .fit_check import SIGNIFICANT, FitCheck, Network
from .hamiltonian import HamiltonianMC, JointDensity
from .log_density import LogDensity, log_density
from .many import PosteriorRuns, Posteriors
from .portable import KIND as PORTABLE
from .portable import ONNX, PortablePosterior, load_posterior
from .posterior import Posterior, PosteriorRun
from .start import SignalLeftWarning, Start, start_moments
from .tempered import TemperedSMC
from .twisted import TwistedSMC

__all__ = [
    "ONNX",
    "PORTABLE",
    "SIGNIFICANT",
    "Choice",
    "Diagnosis",
    "FitCheck",
    "HamiltonianMC",
    "JointDensity",
    "LangevinCorrector",
    "LogDensity",
    "Network",
    "PortablePosterior",
    "Posterior",
    "PosteriorBySite",
    "PosteriorRun",
    "PosteriorRuns",
    "Posteriors",
    "SignalLeftWarning",
    "Start",
    "TemperedSMC",
    "TwistedSMC",
    "UntrustedWarning",
    "load_posterior",
    "log_density",
    "start_moments",
]
