"""Drawing the latent sites inside Pyro, as `Predictive` and other effect handlers expect."""

import contextlib
import inspect
import math
from typing import Any, TypeAlias

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.poutine.runtime import _PYRO_STACK
from pyro.poutine.subsample_messenger import SubsampleMessenger

from ..backend import host_numbers, to_torch
from ..backend.sharing import SHARED
from ..distributions.typing import Args, Kwargs
from ..tracing import ROWS
from .names import Guided, SiteData

BLOCK = 256
Kept: TypeAlias = dict[str, Any]  # the posterior of the last call, draws of it, and how many are handed out


def sample_sites(guide: Guided, args: Args, kwargs: Kwargs, cache: Kept) -> dict[str, torch.Tensor]:
    """One `pyro.sample` for each latent, from the posterior given the observed sites in the call.

    Draws are made a block at a time and handed out one by one, so that a loop over the guide costs
    one reverse solve for each block. A block ends where torch's random state has moved or been set in
    between, as by pyro.set_rng_seed, so that a seed gives the same draws again. Inside vectorised
    plates (Predictive with parallel=True) each plate entry gets its own draw. The density of a draw is
    not known: it is NaN, so that an ELBO or an importance weight with this guide is NaN too, and no
    wrong number.
    """
    with SHARED:
        return _sampled(guide, args, kwargs, cache)


def _sampled(guide: Guided, args: Args, kwargs: Kwargs, cache: Kept) -> dict[str, torch.Tensor]:
    plates = {m.dim: m.size for m in _PYRO_STACK if isinstance(m, SubsampleMessenger) and m.dim is not None}
    shape = [1] * max((-dim for dim in plates), default=0)
    for dim, size in plates.items():
        shape[dim] = size
    with poutine.block(), torch.no_grad():
        if not plates:  # inside, the model's own have other dimensions; Predictive calls once outside
            _check_kept(guide, args, kwargs, cache)
        draws = _next_draws(guide, args, kwargs, cache, math.prod(shape))
    values = {}
    for site in guide.space.sites:
        value = to_torch(draws[site.name]).to(site.dtype).reshape((*shape, *site.shape))
        density = torch.full(value.shape[: len(shape)], torch.nan, dtype=site.dtype)
        # Pyro's validation would refuse NaN
        fn = dist.Delta(value, log_density=density, event_dim=len(site.shape), validate_args=False)
        values[site.name] = pyro.sample(site.name, fn)
    return values


def _check_kept(guide: Guided, args: Args, kwargs: Kwargs, cache: Kept) -> None:
    """Check that the prior of a kept posterior is still the one trained on: at one latent for every call, in
    full where new draws are made. Raises: ModelError."""
    if cache.get("key") == _content((args, kwargs)):
        rows = ROWS if cache["at"] >= cache["size"] else 1
        guide.check_prior_record(guide.model, **cache["asked"], rows=rows)


def _next_draws(guide: Guided, args: Args, kwargs: Kwargs, cache: Kept, count: int) -> dict[str, Any]:
    key = _content((args, kwargs))
    if "key" not in cache or cache["key"] != key:
        cache.clear()
        data, asked = _asked(guide, args, kwargs)
        cache.update(posterior=guide.condition(SiteData(data), **asked), asked=asked, at=0, size=0, key=key)
    moved = "state" in cache and not torch.equal(cache["state"], torch.get_rng_state())
    if moved or cache["at"] + count > cache["size"]:
        # as Pyro's own guides do, this one follows pyro.set_rng_seed
        seed = int(torch.randint(2**62, ()))
        cache["size"] = max(BLOCK, count)
        cache["draws"] = cache["posterior"].sample(cache["size"], seed=seed)
        cache["state"] = torch.get_rng_state()
        cache["at"] = 0
    first = cache["at"]
    cache["at"] += count
    return {name: values[first : first + count, ...] for name, values in cache["draws"].items()}


def _asked(guide: Guided, args: Args, kwargs: Kwargs) -> tuple[dict[str, object], dict[str, Any]]:
    """Data among the sites named in the call, and the model's args and kwargs, which may observe others."""
    parameters = inspect.signature(guide.model).parameters.values()
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
    taken = kwargs.keys() if open_ended else {p.name for p in parameters}
    data = {n: v for n, v in kwargs.items() if n in guide.observable and n not in taken}
    inputs = {n: v for n, v in kwargs.items() if n not in data}
    if not args and all(n in guide.observable for n in inputs):
        args, inputs = guide.args, {**guide.kwargs, **inputs}
    return data, {"args": args, "kwargs": inputs}


def _content(value: object) -> object:
    """What two calls must share to have the same posterior: the numbers of arrays, all else itself."""
    if hasattr(value, "__array__"):  # which may change in place
        with contextlib.suppress(TypeError):
            value = host_numbers(value)
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.shape, str(value.dtype), value.tobytes()
    if isinstance(value, (list, tuple)):
        return type(value), [_content(item) for item in value]
    if isinstance(value, dict):
        return {name: _content(item) for name, item in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return type(value), value
    return _Same(value)


class _Same:
    """Equal to another of the very same object, which it keeps alive."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value
