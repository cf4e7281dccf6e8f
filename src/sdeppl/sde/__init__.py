"""Layer 1: forward SDEs, noise schedules, the reverse SDE, the Fokker–Planck equation, time grids."""

from .base import (
    NOISE_CLASSES,
    SDE,
    AffineSDE,
    IsotropicSDE,
    ItoSDE,
    NoiseClass,
    StepCoefficients,
    StratonovichSDE,
    Transition,
    noise_correction,
    require_isotropic,
    to_ito,
    to_stratonovich,
)
from .fokker_planck import FokkerPlanckGrid
from .grids import ddpm_grid, edm_grid, log_snr_grid, ncsn_grid, quadratic_grid, uniform_grid
from .langevin import CriticallyDampedSDE, LangevinSDE, act, cholesky, halves
from .linear import LinearSDE, MatrixLinearSDE, linear_transition
from .marginals import AffineMarginals
from .noise_check import check_noise_class, check_shape, check_square
from .reverse import ReverseSDE, divergence_of_square
from .schedules import CallableSchedule, ConstantSchedule, CosineSchedule, LinearSchedule, Schedule
from .serialise import from_dict, to_dict
from .systems import DoubleWell, GeometricBrownianMotion, Lorenz63, Lorenz96
from .ve import EDMSDE, VESDE, CallableVESDE
from .vp import VPSDE, DataAnchoredSDE, ShiftedVPSDE, SubVPSDE
