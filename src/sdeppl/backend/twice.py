"""Operations of torch that cannot be differentiated twice, or not forward, by others that can."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class TwiceDifferentiable(TorchFunctionMode):
    """SiLU, Mish, hard sigmoid and attention as compositions, to rounding the same, while it is entered.

    torch writes the gradient of SiLU and of Mish as operations that it cannot differentiate forward, that of
    hard sigmoid and of fused attention as ones that it cannot differentiate at all.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = dict(kwargs or {})
        if func in _ACTIVATIONS:
            inplace = named.pop("inplace", args[1] if len(args) > 1 else False)
            x = args[0] if args else named["input"]
            return x.copy_(_ACTIVATIONS[func](x.clone())) if inplace else _ACTIVATIONS[func](x)
        if func is F.scaled_dot_product_attention:
            return torch.ops.aten._scaled_dot_product_attention_math(*args, **named)[0]
        if func is F.multi_head_attention_forward:  # which takes the fused one where no weights are wanted
            names = {"need_weights": True, "average_attn_weights": True}
            output, weights = func(*args, **(named | names))
            return output, weights if named.get("need_weights", True) else None
        return func(*args, **named)


_ACTIVATIONS = {
    F.silu: lambda x: x * torch.sigmoid(x),
    F.mish: lambda x: x * torch.tanh(F.softplus(x)),
    F.hardsigmoid: lambda x: torch.clamp(x / 6 + 0.5, 0.0, 1.0),
}


def forward_derivative(function: Any, x: torch.Tensor, v: torch.Tensor) -> Any:
    """(∂function/∂x) v, forward; where an operation has no forward derivative by compositions of others, and
    where these are not known as that of uᵀ (∂function/∂x) in u."""
    for context in (nullcontext(), TwiceDifferentiable()):
        try:
            with context:
                return torch.func.jvp(function, (x,), (v,))[1]
        except NotImplementedError as error:
            if "forward AD" not in str(error):
                raise
    value, pull, *_ = torch.func.vjp(function, x)
    return torch.func.vjp(lambda u: pull(u)[0], torch.zeros_like(value))[1](v)[0]


def second_derivative(function: Callable[[], Any]) -> Any:
    """function(), which differentiates twice; where an operation has no such derivative, by compositions."""
    try:
        return function()
    except RuntimeError as error:
        if "is not implemented" not in str(error):
            raise
    with TwiceDifferentiable():
        return function()
