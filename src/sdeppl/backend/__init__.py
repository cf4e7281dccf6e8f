"""Layer 0: the array library, device and dtype, random numbers, and bridges between libraries."""

from .adapters.base import BackendMismatch, BackendUnavailable
from .arguments import real_number, real_parameter, real_times, seed_number, whole_number
from .arrays import (
    Backend,
    array_namespace,
    axes_of,
    backend_of,
    convert,
    from_torch,
    host_numbers,
    labels_from_json,
    labels_to_json,
    place,
    require_arrays,
    require_floating,
    require_same,
    resolve,
    same_labels,
    to_host,
    to_torch,
)
from .derivatives import bilinear_slope, checkpoint, jvp, numerical_gradient, with_pullback
from .elementary import all_without_sync, elementary, lgamma, log_ndtr, ndtri, python_floats, require_positive
from .neighbours import column_layers, earlier_neighbours
from .networks import OnnxFunction, TorchFunction
from .noise import Noise, NoiseStream, keyed_normal
from .resources import (
    COSTLY,
    CostWarning,
    OutOfMemory,
    Progress,
    free_memory,
    in_chunks,
    require_memory,
    rows_at_once,
    warn_user,
)
from .typing import Array, Device, DType, Namespace, Number
