"""A univariate distribution taken apart into its parameters, and built again from others."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.distributions import MixtureSameFamily, TransformedDistribution

from ..distributions import Censored, Interval
from .unwrap import unwrap


@dataclass(frozen=True)
class Parameter:
    """A tensor of a distribution, and the constraint it obeys."""

    value: torch.Tensor
    constraint: Any


def parameters(fn: Any, prefix: str = "") -> dict[str, Parameter]:
    """The parameters of a distribution by path, those of the distributions inside it among them.

    Of two ways to give one parameter, logits. Raises: TypeError for what is not built of parameters.
    """
    own = {
        prefix + name: Parameter(torch.as_tensor(getattr(fn, name)), fn.arg_constraints[name])
        for name in _own(fn)
    }
    for name, inner in _inner(fn).items():
        own |= parameters(inner, f"{prefix}{name}.")
    if not own:
        raise TypeError(f"{type(fn).__name__} has no parameters that are known")
    return own


def rebuilt(fn: Any, values: Mapping[str, torch.Tensor], prefix: str = "") -> Any:
    """A distribution of the same kind with parameters `values`, by the paths of `parameters`."""
    given: dict[str, Any] = {name: values[prefix + name] for name in _own(fn)}
    inner = {name: rebuilt(part, values, f"{prefix}{name}.") for name, part in _inner(fn).items()}
    if isinstance(fn, MixtureSameFamily):
        return type(fn)(inner["mixture_distribution"], inner["component_distribution"], validate_args=False)
    if inner:
        rest = {"transforms": fn.transforms} if type(fn).__name__ == "TransformedDistribution" else given
        return type(fn)(inner["base_dist"], **rest, validate_args=False)
    return type(fn)(**given, validate_args=False)


def _inner(fn: Any) -> dict[str, Any]:
    """The distributions that a distribution is made of, by the names of its attributes."""
    names: tuple[str, ...] = ()
    if isinstance(fn, MixtureSameFamily):
        names = ("mixture_distribution", "component_distribution")
    elif isinstance(fn, (Censored, Interval)) or type(fn).__name__ == TransformedDistribution.__name__:
        names = ("base_dist",)
    parts = {name: getattr(fn, name) for name in names}
    # what is expanded only has the batch shape of the wrapper
    return {name: unwrap(part).expand(part.batch_shape) for name, part in parts.items()}


def _own(fn: Any) -> list[str]:
    """Names of the parameters that its constructor takes and that it was given."""
    taken = [name for name in inspect.signature(type(fn).__init__).parameters if name in fn.arg_constraints]
    for given, wanted in (("probs", "logits"), ("gate", "gate_logits")):
        if given in taken and wanted in taken:
            taken.remove(given)
    return taken
