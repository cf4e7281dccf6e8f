"""Drawing the latent sites inside Pyro, as `Predictive` and other effect handlers expect."""

import inspect
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.poutine.runtime import _PYRO_STACK
from pyro.poutine.subsample_messenger import SubsampleMessenger

from ..backend import to_torch
from ..tracing import ModelError

BLOCK = 256


def sample_sites(
    guide: Any, args: tuple[Any, ...], kwargs: dict[str, Any], cache: dict[Any, Any]
) -> dict[str, torch.Tensor]:
    """One `pyro.sample` for each latent, from the posterior given the observed sites in the call.

    Draws are made a block at a time and handed out one by one, so that a loop over the guide costs
    one reverse solve for each block. Inside vectorised plates (Predictive with parallel=True) each
    plate entry gets its own draw.
    """
    plates = {m.dim: m.size for m in _PYRO_STACK if isinstance(m, SubsampleMessenger) and m.dim is not None}
    shape = [1] * max((-dim for dim in plates), default=0)
    for dim, size in plates.items():
        shape[dim] = size
    count = int(torch.Size(shape).numel())
    draws = _next_draws(guide, args, kwargs, cache, count)
    values = {}
    for site in guide.space.sites:
        value = to_torch(draws[site.name]).to(site.dtype)
        value = value.reshape(*shape, *site.shape)
        values[site.name] = pyro.sample(
            site.name, dist.Delta(value, event_dim=len(site.shape)), infer={"is_auxiliary": False}
        )
    return values


def _next_draws(
    guide: Any, args: tuple[Any, ...], kwargs: dict[str, Any], cache: dict[Any, Any], count: int
) -> dict[str, Any]:
    bound = dict(kwargs)
    names = list(inspect.signature(guide.model).parameters)
    bound.update(zip(names, args, strict=False))
    data = {
        name: torch.as_tensor(value)
        for name, value in bound.items()
        if name in guide.observable and value is not None
    }
    if not data:
        raise ModelError(f"the guide was called without data: pass some of {list(guide.observable)}")
    inputs = {name: value for name, value in bound.items() if name not in guide.observable}
    key = tuple((name, _content(value)) for name, value in (data | inputs).items())
    if cache.get("key") != key:
        cache.clear()
        posterior = guide.condition(data, kwargs=inputs or None)
        cache.update(key=key, posterior=posterior, block=0, at=0, draws=None, size=0)
    if cache["draws"] is None or cache["at"] + count > cache["size"]:
        cache["size"] = max(BLOCK, count)
        cache["draws"] = cache["posterior"].sample(
            cache["size"], seed=guide.seed + cache["block"], noise="host"
        )
        cache["block"] += 1
        cache["at"] = 0
    first = cache["at"]
    cache["at"] += count
    return {name: values[first : first + count, ...] for name, values in cache["draws"].items()}


def _content(value: Any) -> Any:
    """What identifies an argument: a tensor's numbers, anything else by itself."""
    if isinstance(value, torch.Tensor):
        return tuple(value.shape), value.detach().cpu().numpy().tobytes()
    return repr(value)
