"""Layer 1: forward SDEs, noise schedules, the reverse SDE, the Fokker–Planck equation, time grids."""

from .affine import AffineSDE, IsotropicSDE, StepCoefficients, Transition, require_isotropic
from .anchored import DataAnchoredSDE
from .base import NOISE_CLASSES, SDE, NoiseClass
from .calculus import ItoSDE, StratonovichSDE, noise_correction, to_ito, to_stratonovich
from .chains import ddpm_grid, ncsn_grid
from .critically_damped import CriticallyDampedSDE, act, cholesky
from .double_well import DoubleWell
from .edm import EDMSDE
from .fokker_planck import FokkerPlanckGrid
from .geometric import GeometricBrownianMotion
from .grids import edm_grid, log_snr_grid, quadratic_grid, uniform_grid
from .langevin import LangevinSDE
from .linear import LinearSDE
from .lorenz import Lorenz63, Lorenz96
from .marginals import AffineMarginals
from .matrix import MatrixLinearSDE
from .noise_check import check_noise_class, check_shape, check_square
from .phase_space import halves
from .reverse import ReverseSDE, divergence_of_square
from .schedules import CallableSchedule, ConstantSchedule, CosineSchedule, LinearSchedule, Schedule
from .serialise import from_dict, to_dict
from .shifted import ShiftedVPSDE
from .sub_vp import SubVPSDE
from .van_loan import linear_transition
from .ve import VESDE, CallableVESDE
from .vp import VPSDE

__all__ = [
    "EDMSDE",
    "NOISE_CLASSES",
    "SDE",
    "VESDE",
    "VPSDE",
    "AffineMarginals",
    "AffineSDE",
    "CallableSchedule",
    "CallableVESDE",
    "ConstantSchedule",
    "CosineSchedule",
    "CriticallyDampedSDE",
    "DataAnchoredSDE",
    "DoubleWell",
    "FokkerPlanckGrid",
    "GeometricBrownianMotion",
    "IsotropicSDE",
    "ItoSDE",
    "LangevinSDE",
    "LinearSDE",
    "LinearSchedule",
    "Lorenz63",
    "Lorenz96",
    "MatrixLinearSDE",
    "NoiseClass",
    "ReverseSDE",
    "Schedule",
    "ShiftedVPSDE",
    "StepCoefficients",
    "StratonovichSDE",
    "SubVPSDE",
    "Transition",
    "act",
    "check_noise_class",
    "check_shape",
    "check_square",
    "cholesky",
    "ddpm_grid",
    "divergence_of_square",
    "edm_grid",
    "from_dict",
    "halves",
    "linear_transition",
    "log_snr_grid",
    "ncsn_grid",
    "noise_correction",
    "quadratic_grid",
    "require_isotropic",
    "to_dict",
    "to_ito",
    "to_stratonovich",
    "uniform_grid",
]
