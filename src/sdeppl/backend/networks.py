"""Networks as functions on arrays of any backend, with vector–Jacobian products: of torch, of ONNX."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .adapters.base import require_device
from .arrays import Backend, backend_of, from_torch, place, to_host, to_torch
from .derivatives import bilinear_slope
from .files import CorruptFile
from .typing import Array

if TYPE_CHECKING:
    import torch

Pullback = Callable[[Array], Array]
KIND = "sdeppl network 1"  # in the metadata of a file that `export_onnx` wrote
INPUTS, OUTPUTS = ("x", "half_log_snr", "v"), ("value", "pulled")
DTYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64}


class TorchFunction:
    """x ↦ module(x, *numbers) for x (batch, dim) of any backend on the module's device.

    Arrays cross by DLPack and come back in the library and dtype of x; the module runs in its own
    dtype and without dropout. Each row's output depends on that row only, as every eps-net's does.
    No graph is kept, unless x is a tensor that needs a gradient.

    Raises: BackendMismatch where x and the module are on different devices.
    """

    def __init__(self, module: "torch.nn.Module") -> None:
        if not callable(getattr(module, "parameters", None)):
            raise TypeError(f"TorchFunction takes a torch module; got a {type(module).__name__}")
        self.module = module.eval()
        self.parameter = next(module.parameters(), None)

    @classmethod
    def on(cls, module: "torch.nn.Module", backend: Backend) -> "TorchFunction":
        """For arrays of a backend: of the module itself, or of a copy where it is on another device."""
        found, like = cls(module), to_torch(backend.xp.empty(0, dtype=backend.dtype, device=backend.device))
        if found.parameter is None or found.parameter.device == like.device:
            return found
        return cls(copy.deepcopy(module).to(like.device))

    def __call__(self, x: Array, *numbers: float) -> Array:
        """module(x, *numbers), (batch, dim)."""
        import torch

        with torch.set_grad_enabled(wants_gradient(x)):
            if isinstance(x, torch.Tensor):  # not detached, so that derivatives pass through
                return self._run(x, numbers).to(x.dtype)
            return from_torch(self._run(to_torch(x), numbers), backend_of(x))

    def with_pullback(self, x: Array, *numbers: float) -> tuple[Array, Pullback]:
        """The value at x, and v ↦ vᵀ ∂module/∂x row by row, from one evaluation.

        The pullback takes v (batch, dim), or several at once, (k, batch, dim), which is faster.
        """
        import torch

        backend, is_torch = backend_of(x), isinstance(x, torch.Tensor)
        tensor: torch.Tensor = (
            x if isinstance(x, torch.Tensor) else to_torch(x)
        )  # not detached, so that derivatives pass through
        adapter: Any = backend_of(tensor).adapter
        value, pull = adapter.with_pullback(lambda z: self._run(z, numbers), tensor, 1.0)

        def pullback(v: Array) -> Array:
            found = pull((v if isinstance(v, torch.Tensor) else to_torch(v)).to(value.dtype))
            return found if is_torch else from_torch(found, backend)

        return value.to(x.dtype) if is_torch else from_torch(value, backend), pullback

    def bilinear_slope(self, x: Array, left: Array, right: Array, *numbers: float) -> Array:
        """∂/∂x Σ_a l_aᵀ (∂module/∂x) r_a row by row, (batch, dim), for left and right (batch, dim, k).

        Differentiated twice in torch, whatever the library of x; one evaluation of batch × k rows.
        """
        import torch

        from .twice import second_derivative

        backend, is_torch = backend_of(x), isinstance(x, torch.Tensor)
        inputs, outer, inner = (a if isinstance(a, torch.Tensor) else to_torch(a) for a in (x, left, right))

        def rows(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.movedim(-1, 1).flatten(0, 1)

        def value(z: torch.Tensor) -> torch.Tensor:
            repeated = rows(z[..., None].expand(inner.shape))
            output, vjp, *_ = torch.func.vjp(lambda r: self._run(r, numbers), repeated)
            return (vjp(rows(outer).to(output.dtype))[0] * rows(inner)).sum()

        with torch.set_grad_enabled(wants_gradient(x)):  # which grad itself disregards
            slope = second_derivative(lambda: torch.func.grad(value)(inputs))
        return slope if is_torch else from_torch(slope, backend)

    def _run(self, tensor: "torch.Tensor", numbers: tuple[float, ...]) -> "torch.Tensor":
        if self.parameter is None:  # which runs wherever and in whatever dtype it is given
            return self.module(tensor, *numbers)
        require_device(tensor.device, self.parameter.device, "an array for this module")
        return self.module(tensor.to(self.parameter.dtype), *numbers)


def wants_gradient(array: object) -> bool:
    """Whether it is a tensor that a gradient is to pass through; torch is imported for nothing else."""
    if not getattr(array, "requires_grad", False):
        return False
    import torch

    return torch.is_grad_enabled()


class OnnxFunction:
    """x (batch, dim), ln(α/σ) ↦ (batch, dim) from a file of `export_onnx`, run by onnxruntime on the CPU.

    Interface as `TorchFunction`. Arrays of any backend go through host memory, and what comes back is of the
    library, device and dtype of x; the network computes in its own dtype. No gradient passes through it.

    path: the file, or what it holds; threads: of onnxruntime, within one operation.
    Raises: FileNotFoundError; CorruptFile; ImportError without onnxruntime; TypeError for a network that
    onnxruntime cannot run in this dtype.
    """

    def __init__(self, path: str | Path | bytes, threads: int = 1) -> None:
        self.session = _open(path, threads)
        self.content = path if isinstance(path, bytes) else Path(path).read_bytes()
        self.threads = threads
        self.dtype = DTYPES[self.session.get_inputs()[0].type]
        self.leaving = self.session.get_inputs()[2].shape[-1]  # numbers of the value in a row

    def __reduce__(self) -> tuple[object, ...]:
        return OnnxFunction, (self.content, self.threads)

    def __call__(self, x: Array, half_log_snr: float) -> Array:
        """(batch, dim); half_log_snr: ln(α/σ)."""
        rows = self._rows(x)
        none = np.zeros((0, rows.shape[0], self.leaving), dtype=self.dtype)
        return place(self._run("value", rows, half_log_snr, none), backend_of(x))

    def with_pullback(self, x: Array, half_log_snr: float) -> tuple[Array, Pullback]:
        """The value at x, and v ↦ vᵀ ∂value/∂x row by row; the pullback evaluates the network once more.

        It takes v (batch, dim), or several at once, (k, batch, dim), which is faster.
        """
        rows, backend = self._rows(x), backend_of(x)

        def pullback(v: Array) -> Array:
            several = self._rows(v)
            found = self._run("pulled", rows, half_log_snr, several if v.ndim == 3 else several[None, ...])
            return place(found if v.ndim == 3 else found[0, ...], backend)

        return self(x, half_log_snr), pullback

    def bilinear_slope(self, x: Array, left: Array, right: Array, half_log_snr: float) -> Array:
        """∂/∂x Σ_a l_aᵀ (∂value/∂x) r_a row by row, (batch, dim), for left and right (batch, dim, k).

        By differences on the host (`jvp`), whatever the library of x: to 1e-4 for a network in float32.
        """
        found = bilinear_slope(
            lambda z: self.with_pullback(z, half_log_snr)[1], *(self._rows(a) for a in (x, left, right))
        )
        return place(found, backend_of(x))

    def _rows(self, array: Array) -> np.ndarray:
        """On the host, in the network's dtype. Raises: TypeError where a gradient is wanted."""
        if wants_gradient(array):
            raise TypeError(_NO_GRADIENT)
        try:
            return np.asarray(to_host(array), dtype=self.dtype)
        except RuntimeError as error:
            if "storage" not in str(error):  # which a tensor within torch.func.jvp, vjp or vmap has not
                raise
            raise TypeError(_NO_GRADIENT) from error

    def _run(self, output: str, x: np.ndarray, half_log_snr: float, v: np.ndarray) -> np.ndarray:
        level = np.asarray(half_log_snr, dtype=self.dtype)
        return self.session.run([output], dict(zip(INPUTS, (x, level, v), strict=True)))[0]


def _open(path: str | Path | bytes, threads: int) -> Any:
    try:
        import onnxruntime
        from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoSuchKernel
    except ImportError as error:
        raise ImportError(f"OnnxFunction needs onnxruntime: pip install 'sdeppl[onnx]' ({error})") from error
    if isinstance(path, bytes):
        content, path = path, "a file"
    elif not Path(path).exists():
        raise FileNotFoundError(f"there is no file {path}")
    else:
        content = Path(path).read_bytes()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except NoSuchKernel as error:
        raise TypeError(
            f"onnxruntime cannot run the network in {path}: {error}; it has fewer functions in float64: "
            "export the module in float32, or take a newer onnxruntime"
        ) from error
    except Exception as error:  # its errors share no other base
        raise CorruptFile(f"{path} is not a whole ONNX file ({error}); export the network again") from error
    kind = session.get_modelmeta().custom_metadata_map.get("sdeppl")
    if kind != KIND:
        raise CorruptFile(f"{path} holds {kind or 'another model'!r}; expected {KIND!r}, of export_onnx")
    return session


_NO_GRADIENT = (
    "no gradient passes through an OnnxFunction; give a detached tensor, or run the module by TorchFunction"
)
