"""The model given the data, for samplers that evaluate its density."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pyro import poutine

from ..backend import axes_of, seed_number, whole_number
from ..distributions.typing import Args, Kwargs, Model, Nodes
from ..tracing import (
    GivenModel,
    LatentSpace,
    ModelError,
    Observe,
    check_call,
    check_fixed,
    data_tensor,
    find_sites,
    observed_values,
    without_unseen,
)
from ..tracing.checks import check_observed
from ..tracing.randomness import seeded
from ..tracing.runs import drawn

MOST = 100_000_000  # draws, steps or chains


def condition_model(
    model: Model,
    data: Mapping[str, object],
    args: Args = (),
    kwargs: Kwargs | None = None,
    latents: Sequence[str] | None = None,
) -> tuple[LatentSpace, Model]:
    """The latents, and the model given the data, without its observable sites of no value.

    Raises: ModelError, naming the site, for a discrete latent, an unknown site, a wrong shape, data
    outside the support or on an edge of it without density, no data, sites that change from run to run, or a
    density that is random given the latents.
    """
    check_call(model, args, kwargs, latents)
    if not isinstance(data, Mapping):
        raise TypeError(f"the data are a {type(data).__name__}; give them by site name, {{'y': ...}}")
    nodes = drawn(model, args, dict(kwargs or {}), 0)
    unknown = [name for name in data if name not in nodes]
    if unknown:
        raise ModelError(f"the model has no site '{unknown[0]}'; it has {list(nodes)}")
    # what is observable shows without the data only: a site that depends on an observed one alone
    # would count as a latent of its own
    kept, remaining = without_unseen(model, data, args, kwargs, latents)
    observed = Observe(data, _own(model, args, kwargs, nodes))(kept)
    space = find_sites(observed, args, kwargs, remaining).space
    check_fixed(observed, space, args, dict(kwargs or {}))
    check_observed(observed, args, dict(kwargs or {}))
    return space, observed


def model_given(model: Model, data: Mapping[str, object], args: Args, kwargs: Kwargs | None) -> GivenModel:
    """The model given the data, for the likelihood of each number."""
    tensors = {name: data_tensor(name, value).detach() for name, value in data.items()}
    axes = {name: found for name, value in data.items() if (found := axes_of(value)) is not None}
    with seeded(0):
        nodes = poutine.trace(model).get_trace(*args, **dict(kwargs or {})).nodes
    return GivenModel(model, tuple(args), dict(kwargs or {}), tensors, _own(model, args, kwargs, nodes), axes)


def _own(model: Model, args: Args, kwargs: Kwargs | None, nodes: Nodes) -> dict[str, torch.Tensor]:
    """What the model observes by itself."""
    names = [name for name, node in nodes.items() if node["type"] == "sample" and node["is_observed"]]
    return observed_values(model, args, dict(kwargs or {}), names)


def whole_counts(seed: object, **counts: tuple[Any, int]) -> list[int]:
    """The seed and each (count, least) by name as Python's ints. Raises: TypeError, ValueError."""
    found = [whole_number(name, count, least, MOST) for name, (count, least) in counts.items()]
    return [seed_number(seed), *found]
