"""Layer 2: one file per solver family, and `solve`."""

from .adaptive import PIController
from .base import Solver
from .brownian import BrownianPath, BrownianStream
from .dpm_solver import DPMSolverPP, UniPC
from .euler_maruyama import EulerMaruyama
from .exponential import ExactAffine, ExponentialEuler, ExponentialHeun
from .milstein import Milstein, MilsteinLevy
from .probability_flow import AugmentedFlow, ProbabilityFlow, divergence, rademacher, trace
from .runge_kutta import DormandPrince54, RungeKutta, RungeKutta4, Tableau, Tsitouras54
from .samplers import AncestralSampler, EDMHeun, PredictorCorrector
from .solve import Path, solve
from .splitting import BAOAB, SSCS, MidpointSSCS
from .stochastic_runge_kutta import SRA1, SRIW1, PlatenWeak2, StochasticHeun
from .watch import NonFiniteState, Watch
