"""Reading an observed site as independent numbers, each with one predictor."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.distributions import biject_to

from .asking import Affine, Reading, Smooth, Values
from .errors import ModelError
from .observed import FamilySite
from .parameters import Parameter, parameters, rebuilt
from .probing import FAILURES, LARGEST, SLOW_PROBES
from .randomness import batched
from .reader import Nodes
from .running import unvalidated
from .supports import log_density
from .target import Target


@dataclass(frozen=True)
class Family:
    """ln p(y_i | η_i) of univariate y_i, called with η (..., n) and y (n,): (..., n).

    pattern: the distribution of the numbers at some latents; values: its parameters, (n,) or (n, K) for
    the components of a mixture; free: the path of the one that η stands for, by its `link` to the
    constraint; steps: what the components' own predictors lie above η, (n, K), or None for no mixture.
    """

    pattern: Any
    values: Mapping[str, torch.Tensor]
    free: str
    link: Any
    steps: torch.Tensor | None

    def __call__(self, eta: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if self.steps is not None:
            eta = eta.unsqueeze(-1) + self.steps
        values = {**self.values, self.free: self.link(eta)}
        with unvalidated():  # a rebuilt distribution has others inside that check their parameters
            return batched(lambda: log_density(rebuilt(self.pattern, values), y), eta)


def read_family(target: Target) -> Reading[FamilySite | None]:
    """The site, or None where not exactly one parameter depends on the latents, number by number.

    Raises: ModelError where something random is left in the site.
    """
    target.require_fixed(lambda nodes: (target.log_prob(nodes),))
    try:
        found = yield from _family(target)
    except ModelError:
        raise
    except FAILURES:  # of a distribution that cannot be taken apart
        return None
    if found is None:
        return None
    family, etas, vectorised = found

    predictor = target.function(partial(_predictor, target, family))
    smooth, vectorised = yield Smooth(predictor, etas, vectorised)
    H, offset = ((yield Affine(predictor, etas)) if smooth else None) or (None, None)
    y = target.y.reshape(-1)[target.kept.reshape(-1)]
    return FamilySite(target.name, y, smooth, vectorised, predictor, family, H, offset)


def _predictor(target: Target, family: Family, nodes: Nodes) -> torch.Tensor:
    """η, (n,)."""
    eta: torch.Tensor = family.link.inv(_flat(target, parameters(target.base(nodes))[family.free]))
    return eta if family.steps is None else eta[:, 0]


def _family(target: Target) -> Reading[tuple[Family, torch.Tensor, bool] | None]:
    """The family, its predictors at the draws (draws, n), and whether vmap can run them."""
    pattern = target.base(target.runs.at())
    names, constraints = zip(*((k, v.constraint) for k, v in parameters(pattern).items()), strict=True)

    def flat(nodes: Nodes) -> tuple[torch.Tensor, ...]:
        return tuple(_flat(target, parameter) for parameter in parameters(target.base(nodes)).values())

    values, vectorised = yield Values(target.function(flat))
    varying = [k for k, value in enumerate(values) if not bool((value == value[0]).all())]
    if len(varying) != 1:
        return None
    free = varying[0]
    link = biject_to(constraints[free])
    etas, steps = link.inv(values[free]), None
    if etas.dim() == 3 and names[free].startswith("component_distribution."):
        above = etas - etas[:, :, :1]
        steps, etas = above[0], etas[:, :, 0]
        limit = target.probes.tolerance * (1 + etas.abs().unsqueeze(-1) + steps.abs())
        if bool(((above - steps).abs() > limit).any()):  # the components move apart
            return None
    if etas.dim() != 2 or not bool(torch.isfinite(etas).all()):
        return None
    fixed = {name: value[0] for name, value in zip(names, values, strict=True)}
    family = Family(pattern, fixed, names[free], link, steps)
    y = target.y.reshape(-1)[target.kept.reshape(-1)]
    found = family(etas[:SLOW_PROBES], y).sum(dim=-1)
    its_own, _ = yield Values(target.function(target.log_prob), SLOW_PROBES)
    same = target.probes.agree(found, its_own)
    if same:
        every = LARGEST // max(etas.shape[1], 1) >= len(etas)
        target.require_density(family(etas, y).sum(dim=-1) if every else found)
    return (family, etas, vectorised) if same else None


def _flat(target: Target, parameter: Parameter) -> torch.Tensor:
    """(*shape, ...) to (n, ...) for the numbers that were observed; float64 where real."""
    value, shape = parameter.value, target.kept.shape
    value = value.to(torch.float64) if value.is_floating_point() else value
    if value.shape[: len(shape)] != shape:
        return value  # one for all
    return value.reshape(-1, *value.shape[len(shape) :])[target.kept.reshape(-1)]
