"""A path by its noise: the non-centred parametrisation."""

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer.reparam.reparam import Reparam

from .path import SDEPath
from .typing import Site


class WienerReparam(Reparam):
    """Replace an `SDEPath` site by its start and its standard normal increments.

    `nuts(..., reparam={"level": WienerReparam()})` samples `level_start` and `level_noise` and makes
    `level` from them; the posterior is the same, its geometry another. It mixes better where the
    observations say little, the path itself where they say much.

    Raises: TypeError for a site that is not an `SDEPath`.
    """

    def apply(self, msg: Site) -> Any:
        name, fn = msg["name"], msg["fn"]
        if not isinstance(fn, SDEPath):
            raise TypeError(f"site '{name}': WienerReparam needs an SDEPath; got {type(fn).__name__}")
        if msg["is_observed"]:
            raise ValueError(f"site '{name}' is observed; WienerReparam is for latent paths")
        start = fn.x_init
        if fn.random_start:
            start = pyro.sample(f"{name}_start", fn.x_init)
        shape = (*fn.batch_shape, len(fn.transitions.scales), *fn.event_shape[1:])
        zeros = torch.zeros(shape, dtype=start.dtype, device=start.device)
        noise = pyro.sample(f"{name}_noise", dist.Normal(zeros, 1.0).to_event(fn.event_dim))
        path = fn.assemble(start.expand(fn.batch_shape + fn.event_shape[1:]), noise)
        return {
            "fn": dist.Delta(path, event_dim=fn.event_dim).mask(False),
            "value": path,
            "is_observed": True,
        }
