"""Derivatives of convolutions and average pools by operations that ONNX has."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch

aten = torch.ops.aten


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
def _(x: Any, weight: Any, *options: Any) -> Any:
    return aten.convolution(x, weight, None, *options)


@convolution.register_vmap
def _(info: Any, in_dims: Any, x: Any, weight: Any, *options: Any) -> tuple[Any, int]:
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
    slope: Any,
    x: Any,
    weight: Any,
    bias_sizes: Any,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    output_mask: Sequence[bool],
) -> tuple[Any, None, None]:
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
    slope: Any,
    x: Any,
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


def _sizes(images: Any) -> list[int]:
    """Height and width as numbers: the tracer need not carry them as symbols, unlike the rows."""
    return [int(size) for size in images.shape[2:]]
