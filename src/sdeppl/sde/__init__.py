"""Layer 1: forward SDEs, noise schedules, the reverse SDE, time grids."""

from .affine import AffineSDE, IsotropicSDE, StepCoefficients, Transition, require_isotropic
from .base import NOISE_CLASSES, SDE, NoiseClass
from .calculus import ItoSDE, StratonovichSDE, noise_correction, to_ito, to_stratonovich
from .grids import log_snr_grid, uniform_grid
from .linear import LinearSDE
from .reverse import ReverseSDE, divergence_of_square
from .schedules import ConstantSchedule, LinearSchedule, Schedule
from .serialise import from_dict, to_dict
from .ve import VESDE
from .vp import VPSDE

__all__ = [
    "NOISE_CLASSES",
    "SDE",
    "VESDE",
    "VPSDE",
    "AffineSDE",
    "ConstantSchedule",
    "IsotropicSDE",
    "ItoSDE",
    "LinearSDE",
    "LinearSchedule",
    "NoiseClass",
    "ReverseSDE",
    "Schedule",
    "StepCoefficients",
    "StratonovichSDE",
    "Transition",
    "divergence_of_square",
    "from_dict",
    "log_snr_grid",
    "noise_correction",
    "require_isotropic",
    "to_dict",
    "to_ito",
    "to_stratonovich",
    "uniform_grid",
]
