"""Layer 4: prior + observation to draws, and log-densities, on arrays alone."""

import sys

from .by_site import KIND as PORTABLE
from .by_site import ONNX, PortablePosterior, PosteriorBySite, load_posterior, saved_covariance
from .diagnosis import SIGNIFICANT, Diagnosis, FitCheck, Network, UntrustedWarning
from .hamiltonian import HamiltonianMC
from .labelled import axes_to_json
from .langevin import LangevinCorrector
from .log_density import LogDensity, log_density
from .posterior import Posterior, PosteriorRun, PosteriorRuns, Posteriors
from .problem import Choice, Correction, JointDensity, Problem
from .start import SignalLeftWarning, Start, start_moments
from .tempered import TemperedSMC
from .twisted import TwistedSMC

# runs that earlier versions pickled name the modules in which their classes stood
sys.modules[f"{__name__}.many"] = sys.modules[PosteriorRuns.__module__]
sys.modules[f"{__name__}.fit_check"] = sys.modules[FitCheck.__module__]
