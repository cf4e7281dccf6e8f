"""Writing a network and its vector–Jacobian product as one ONNX file, for `OnnxFunction`."""

import itertools
import warnings
from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..backend.files import check_folder, replacing
from ..backend.networks import INPUTS, KIND, OUTPUTS
from ..backend.sharing import SHARED
from .mlp import ResidualMLP
from .on_grid import FieldNetwork

OPSET = 18  # what torch's exporter writes; onnxruntime reads it since 1.14
aten = torch.ops.aten


def export_onnx(module: nn.Module, path: str | Path, dim: int | None = None) -> None:
    """Write module(x, ln(α/σ)) and v ↦ vᵀ ∂module/∂x for any number of rows, without dropout, in its dtype.

    One graph of opset 18: x (batch, dim), half_log_snr () and v (several, batch, out) ↦ value (batch, out)
    and pulled (several, batch, dim). module: a `ResidualMLP`, a `FieldNetwork`, which has twice as many
    numbers in as out, or any whose rows do not see each other, with `dim` in and out; it is traced, so that
    no branch of its code may depend on what it is given. Convolutions, average pools and upsampling of images
    can be written, maxima of windows and `chunk` cannot; onnxruntime runs convolutions in float32 alone.

    Raises: FileNotFoundError for the folder; ImportError without onnxscript; TypeError for a missing `dim`,
    and for a module that cannot be traced, or not for any number of rows.
    """
    check_folder(path)
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(f"export_onnx needs onnxscript: pip install 'sdeppl[onnx]' ({error})") from error
    entering, leaving = _sizes_of(module, dim)
    weights = {
        name: value.detach().cpu()
        for name, value in itertools.chain(module.named_parameters(), module.named_buffers())
    }
    example = _example(weights, entering, leaving)
    try:
        program = _program(module.eval(), weights, example)
    except Exception as error:  # of tracing, of many kinds
        why = error.__cause__ or error  # torch's own is a page of advice on torch.export
        raise TypeError(f"a {type(module).__name__} cannot be written as ONNX: {why}") from error
    model = program.model_proto
    if not model.graph.input[0].type.tensor_type.shape.dim[0].dim_param:
        raise TypeError(
            f"a {type(module).__name__} cannot be written as ONNX for any number of rows: an operation in it "
            "fixes their number when it is traced, as the maximum of a window does; take another operation"
        )
    for node in model.graph.node:
        node.ClearField("metadata_props")  # where in whose files it was traced
    model.metadata_props.add(key="sdeppl", value=KIND)
    with replacing(path) as part:
        part.write_bytes(model.SerializeToString())


def _sizes_of(module: nn.Module, dim: int | None) -> tuple[int, int]:
    """Numbers of x and of the value in a row. Raises: TypeError where they are not known."""
    if dim is not None:
        return dim, dim
    if isinstance(module, FieldNetwork):
        return 2 * module.dim, module.dim
    if isinstance(module, ResidualMLP):
        return module.config["dim"], module.config["dim"]
    raise TypeError(f"export_onnx needs dim= for a {type(module).__name__}")


def _program(
    module: nn.Module,
    weights: dict[str, torch.Tensor],
    example: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> Any:
    x, level, v = example
    several, batch = torch.export.Dim("several"), torch.export.Dim("batch")
    with SHARED, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "# The axis name")  # `batch` of v is that of x, as it should be
        return torch.onnx.export(
            _SeveralPulled(_Pulled(module, weights, (x, level, v[0]))).eval(),
            example,
            dynamo=True,
            opset_version=OPSET,
            input_names=INPUTS,
            output_names=OUTPUTS,
            dynamic_shapes=({0: batch}, None, {0: several, 1: batch}),
            verbose=False,
        )


class _Pulled(nn.Module):
    """x, ln(α/σ), v (batch, dim) ↦ value, vᵀ ∂value/∂x, as a traced graph of elementary operations."""

    def __init__(
        self, module: nn.Module, weights: dict[str, torch.Tensor], example: tuple[torch.Tensor, ...]
    ) -> None:
        from torch._decomp import get_decompositions  # slow to load
        from torch.fx.experimental.proxy_tensor import make_fx
        from torch.nn.attention import SDPBackend, sdpa_kernel

        super().__init__()
        self.weights = nn.ParameterList(nn.Parameter(w, requires_grad=False) for w in weights.values())

        def pulled(
            weights: list[torch.Tensor], x: torch.Tensor, half_log_snr: torch.Tensor, v: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor]:
            x = x.detach().requires_grad_()
            named = dict(zip(names, weights, strict=True))
            value = torch.func.functional_call(module, named, (x, half_log_snr))
            return value.detach(), torch.autograd.grad(value, x, v)[0]

        names, table = list(weights), dict(torch.export.default_decompositions().items())
        aten = torch.ops.aten
        # ONNX's own norms take variances in float32 whatever the dtype; vmap stumbles over the last
        table |= get_decompositions([aten.native_layer_norm, aten.native_group_norm, aten.slice_scatter])
        table |= derivatives()
        traced = make_fx(pulled, decomposition_table=table, tracing_mode="symbolic")
        with sdpa_kernel(SDPBackend.MATH):  # attention of which every part has a derivative in ONNX
            self.graph = traced(list(weights.values()), *example)

    def forward(self, x: torch.Tensor, half_log_snr: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return self.graph(list(self.weights), x, half_log_snr, v)


class _SeveralPulled(nn.Module):
    """The same for v (several, batch, dim), with one evaluation of the value."""

    def __init__(self, pulled: _Pulled) -> None:
        super().__init__()
        self.pulled = pulled

    def forward(self, x: torch.Tensor, half_log_snr: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        out_dims: Any = (None, 0)
        return torch.func.vmap(self.pulled, in_dims=(None, None, 0), out_dims=out_dims)(x, half_log_snr, v)


def _example(
    weights: dict[str, torch.Tensor], entering: int, leaving: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Inputs to trace with. The tracer takes equal sizes for the same size: that of the batch is no other."""
    sizes = {size for value in weights.values() for size in value.shape} | {entering, leaving}
    batch = next(n for n in itertools.count(1009) if n not in sizes)
    dtype = next((w.dtype for w in weights.values() if w.is_floating_point()), torch.float32)
    x = torch.zeros(batch, entering, dtype=dtype)
    return x, torch.tensor(0.5, dtype=dtype), torch.zeros(2, batch, leaving, dtype=dtype)


@torch.library.custom_op("sdeppl::convolution", mutates_args=())
def convolution(
    x: torch.Tensor,
    weight: torch.Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> torch.Tensor:
    """torch's, which `vmap` takes apart into one of more rows: torch's own rule would fix their number."""
    options = (stride, padding, dilation, transposed, output_padding, groups)
    return aten.convolution(x, weight, None, *options)


@convolution.register_fake
def _(x: torch.Tensor, weight: torch.Tensor, *options: object) -> Any:
    return aten.convolution(x, weight, None, *options)


@convolution.register_vmap
def _(
    info: Any, in_dims: Any, x: torch.Tensor, weight: torch.Tensor, *options: Any
) -> tuple[torch.Tensor, int]:
    rows = x.movedim(in_dims[0], 0)
    found = aten.convolution(rows.flatten(0, 1), weight, None, *options)
    return found.unflatten(0, rows.shape[:2]), 0


def derivatives() -> dict[Any, Callable[..., Any]]:
    """Operation of torch's backward pass ↦ the same by others, of the inputs alone, not of the weights."""
    return {
        aten.convolution_backward.default: convolution_backward,
        aten.avg_pool2d_backward.default: avg_pool2d_backward,
    }


def convolution_backward(
    slope: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias_sizes: object,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    output_mask: Sequence[bool],
) -> tuple[torch.Tensor, None, None]:
    """Of a convolution the transposed one with the same weights, and the other way round.

    Sizes that the stride does not divide lose a remainder, which is the transposed one's output padding.
    """
    if transposed:
        return convolution(slope, weight, stride, padding, dilation, False, [0, 0], groups), None, None
    options = zip(_sizes(slope), stride, padding, dilation, _sizes(weight), strict=True)
    reached = [(size - 1) * s - 2 * p + d * (width - 1) + 1 for size, s, p, d, width in options]
    rest = [size - least for size, least in zip(_sizes(x), reached, strict=True)]
    return (
        convolution(slope, weight, stride, padding, dilation, True, rest, groups),
        None,
        None,
    )


def avg_pool2d_backward(
    slope: torch.Tensor,
    x: torch.Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Any:
    """The transposed convolution of each channel with a kernel of equal numbers.

    Raises: NotImplementedError for windows that are counted less at the edges, and for a divisor, which
    torch's exporter leaves out of the value.
    """
    if ceil_mode or divisor_override is not None or (any(padding) and not count_include_pad):
        raise NotImplementedError(
            "an average pool with ceil_mode=True, divisor_override, or padding and count_include_pad=False"
        )
    channels = int(x.shape[1])
    weight = torch.full((channels, 1, *kernel), 1 / prod(kernel), dtype=x.dtype, device=x.device)
    options = (list(stride) or list(kernel), list(padding), [1, 1], False, [0, 0], channels)
    return convolution_backward(slope, x, weight, None, *options, [True, False, False])[0]


def _sizes(images: torch.Tensor) -> list[int]:
    """Height and width as numbers: the tracer need not carry them as symbols, unlike the rows."""
    return [int(size) for size in images.shape[2:]]
