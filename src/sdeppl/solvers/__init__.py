"""Layer 2: one file per solver family, and `solve`."""

from .ancestral import AncestralSampler
from .base import Solver
from .brownian import BrownianPath, BrownianStream
from .critically_damped import SSCS, MidpointSSCS
from .divergence import divergence, rademacher, trace
from .dpm_solver import DPMSolverPP
from .edm import EDMHeun
from .euler_maruyama import EulerMaruyama
from .exact import ExactAffine
from .exponential import ExponentialEuler, ExponentialHeun
from .milstein import Milstein, MilsteinLevy
from .predictor_corrector import PredictorCorrector
from .probability_flow import AugmentedFlow, ProbabilityFlow
from .rossler import SRA1, SRIW1
from .runge_kutta import DormandPrince54, RungeKutta, RungeKutta4, Tableau, Tsitouras54
from .solve import Path, solve
from .splitting import BAOAB
from .step_control import PIController
from .stochastic_heun import StochasticHeun
from .unipc import UniPC
from .watch import NonFiniteState, Watch
from .weak import PlatenWeak2

__all__ = [
    "BAOAB",
    "SRA1",
    "SRIW1",
    "SSCS",
    "AncestralSampler",
    "AugmentedFlow",
    "BrownianPath",
    "BrownianStream",
    "DPMSolverPP",
    "DormandPrince54",
    "EDMHeun",
    "EulerMaruyama",
    "ExactAffine",
    "ExponentialEuler",
    "ExponentialHeun",
    "MidpointSSCS",
    "Milstein",
    "MilsteinLevy",
    "NonFiniteState",
    "PIController",
    "Path",
    "PlatenWeak2",
    "PredictorCorrector",
    "ProbabilityFlow",
    "RungeKutta",
    "RungeKutta4",
    "Solver",
    "StochasticHeun",
    "Tableau",
    "Tsitouras54",
    "UniPC",
    "Watch",
    "divergence",
    "rademacher",
    "solve",
    "trace",
]
