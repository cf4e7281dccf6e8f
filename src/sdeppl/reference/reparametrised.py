"""Chains on another parametrisation of a model, and the values of its own sites."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from pyro import poutine

from ..tracing import LatentSpace, Potential, find_sites, over_rows
from ..tracing.randomness import BatchedRandomness
from ..tracing.running import traced, unvalidated


def reparametrised(
    space: LatentSpace,
    model: Callable[..., Any],
    config: Mapping[str, Any] | None,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None,
) -> tuple[LatentSpace, Callable[..., Any]]:
    """The latents to sample and the model, as `poutine.reparam` makes them; both as they are for no config.

    Raises: ModelError, as `find_sites` does; ValueError for a name that is no latent.
    """
    if config is not None and not isinstance(config, Mapping):
        raise TypeError(f"reparam is a mapping, {{site: what to put in its place}}; got {config!r:.80}")
    if not config:
        return space, model
    unknown = [name for name in config if name not in space.names]
    if unknown:
        raise ValueError(f"reparam: '{unknown[0]}' is no latent site; they are {space.names}")
    changed = poutine.reparam(model, config=dict(config))
    return find_sites(changed, args, kwargs).space, changed


def recovered(potential: Potential, names: Sequence[str], z: torch.Tensor) -> dict[str, torch.Tensor]:
    """The model's own sites, (chains, draws, *shape), at z (chains, draws, dim) of the latents sampled."""

    def one(row: torch.Tensor) -> tuple[torch.Tensor, ...]:
        values = potential.space.unflatten(row)
        with unvalidated(), BatchedRandomness():
            conditioned = poutine.condition(potential.model, data=values)
            nodes = traced(conditioned, potential.args, potential.kwargs)
        return tuple(nodes[name]["value"] for name in names)

    found = over_rows(one, z.flatten(0, 1), True)
    return {name: v.unflatten(0, z.shape[:2]) for name, v in zip(names, found, strict=True)}
