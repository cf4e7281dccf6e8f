"""Latents by what is left of them without location and scale: value = loc + scale · u, or its exponential.

Where loc and scale depend on other latents, u does not, a priori: a funnel in value is none in u. Source:
Papaspiliopoulos, Roberts & Sköld 2007, "A general framework for the parametrization of hierarchical models".
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributions as td
from pyro.poutine.messenger import Messenger

from .unwrap import unwrap

FAMILIES = (td.Normal, td.StudentT, td.Laplace, td.Cauchy, td.LogNormal)


def location_scale(fn: Any) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Location and scale, of the site's shape, of families that have no other parameter of their latents."""
    base = unwrap(fn)
    if not isinstance(base, FAMILIES):
        return None
    return base.loc.expand(fn.shape()), base.scale.expand(fn.shape())


def standardise(fn: Any, value: torch.Tensor) -> torch.Tensor:
    """u of a value."""
    found = location_scale(fn)
    assert found is not None
    loc, scale = found
    return ((torch.log(value) if _positive(fn) else value) - loc) / scale


class PutStandardised(Messenger):
    """Gives latents the values of u {site: its shape}; `jacobian`: ln |d value/du| of each, once run."""

    def __init__(self, u: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.u = u
        self.jacobian: dict[str, torch.Tensor] = {}

    def _pyro_sample(self, msg: Any) -> None:
        name = msg["name"]
        if name not in self.u:
            return
        found = location_scale(msg["fn"])
        assert found is not None
        loc, scale = found
        inner = loc + scale * self.u[name].to(loc.dtype)
        positive = _positive(msg["fn"])
        terms = scale.log() + inner if positive else scale.log()
        self.jacobian[name] = terms.sum().to(torch.float64)
        msg["value"] = inner.exp() if positive else inner
        msg["is_observed"] = True


def _positive(fn: Any) -> bool:
    return isinstance(unwrap(fn), td.LogNormal)
