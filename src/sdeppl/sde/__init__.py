"""Layer 1: forward SDEs, noise schedules, the reverse SDE, time grids."""

from .base import SDE, AffineSDE, StepCoefficients
from .grids import log_snr_grid, uniform_grid
from .linear import LinearSDE
from .reverse import ReverseSDE
from .schedules import ConstantSchedule, LinearSchedule, Schedule
from .serialise import from_dict, to_dict
from .ve import VESDE
from .vp import VPSDE

__all__ = [
    "SDE",
    "VESDE",
    "VPSDE",
    "AffineSDE",
    "ConstantSchedule",
    "LinearSDE",
    "LinearSchedule",
    "ReverseSDE",
    "Schedule",
    "StepCoefficients",
    "from_dict",
    "log_snr_grid",
    "to_dict",
    "uniform_grid",
]
