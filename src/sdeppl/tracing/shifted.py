"""A location family moved by what it is observed at: y - v of y ~ p(y; loc) is p(y; loc - v) at zero."""

from typing import Any

import pyro.distributions as dist
import torch

from .parameters import parameters, rebuilt


def shifted(base: Any, value: torch.Tensor) -> Any:
    """The distribution of y - value, y from `base`, whose location is its parameter `loc` (of a Delta, `v`).

    Whether its density is that of `base` moved has to be seen by evaluating both: a lognormal's `loc` is no
    location. Raises: TypeError for a distribution without such a parameter.
    """
    if isinstance(base, dist.Delta):
        return dist.Delta(base.v - value, base.log_density, base.event_dim)
    if isinstance(base, torch.distributions.LowRankMultivariateNormal):
        loc, factor, diagonal = base.loc - value, base.cov_factor, base.cov_diag
        return dist.LowRankMultivariateNormal(loc, factor, diagonal, validate_args=False)
    if isinstance(base, torch.distributions.MultivariateNormal):
        return type(base)(base.loc - value, scale_tril=base.scale_tril, validate_args=False)
    own = {name: parameter.value for name, parameter in parameters(base).items()}
    if "loc" not in own:
        raise TypeError(f"{type(base).__name__} has no location")
    return rebuilt(base, {**own, "loc": own["loc"] - value})
