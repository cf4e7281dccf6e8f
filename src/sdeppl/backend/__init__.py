"""Layer 0: the array library, device and dtype, random numbers, and bridges between libraries."""

from .adapters.base import BackendMismatch, BackendUnavailable
from .arguments import real_number, real_parameter, real_times, seed_number, whole_number
from .data import axes_of, host_numbers
from .derivatives import bilinear_slope, checkpoint, jvp, numerical_gradient, with_pullback
from .elementary import all_without_sync, elementary, lgamma, log_ndtr, ndtri, python_floats, require_positive
from .memory import OutOfMemory, free_memory, in_chunks, require_memory, rows_at_once
from .networks import OnnxFunction, TorchFunction
from .noise import Noise, NoiseStream, keyed_normal
from .progress import COSTLY, CostWarning, Progress, warn_user
from .resolve import Backend, backend_of, resolve
from .transfer import (
    convert,
    from_torch,
    place,
    require_arrays,
    require_floating,
    require_same,
    to_host,
    to_torch,
)
from .typing import Array, Device, DType, Namespace, Number
