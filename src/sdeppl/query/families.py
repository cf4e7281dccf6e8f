"""Families of distributions, as tracing reads them, as those that are array code."""

from typing import Any

import torch

from ..backend import Backend, place
from ..likelihood import families
from ..tracing import Family, FamilySite

_HERE = ("torch", "pyro", "sdeppl")  # whose classes are what their names say


def array_family(site: FamilySite, backend: Backend) -> tuple[Any, torch.Tensor] | None:
    """The site's family on the backend's arrays, and its data as that takes them; None for no such code.

    With it sampling calls torch for the predictors alone, and not at all where they are affine.
    """
    family = site.log_density
    if not isinstance(family, Family) or type(family.pattern).__module__.split(".")[0] not in _HERE:
        return None
    name, y = _name(family.pattern), site.y
    values = {path.rsplit(".", 1)[-1]: value for path, value in family.values.items()}
    match name, family.free:
        case "Poisson", "rate":
            return families.Poisson(), y
        case "Bernoulli", "logits":
            return families.Bernoulli(), y
        case (("Binomial" | "NegativeBinomial"), "logits"):
            kind: Any = families.Binomial if name == "Binomial" else families.NegativeBinomial
            return kind(place(values["total_count"], backend)), y
        case "StudentT", "loc":
            return families.StudentT(place(values["df"], backend), place(values["scale"], backend)), y
        case "Laplace", "loc":
            return families.Laplace(place(values["scale"], backend)), y
        case "Censored of Normal", "base_dist.loc":
            bounds = [place(values[name], backend) for name in ("scale", "low", "high")]
            return families.Censored(*bounds), y
        case "Interval of Normal", "base_dist.loc" if bool((y == 1).all()):
            bounds = [place(values[name], backend) for name in ("low", "high", "scale")]
            return families.Interval(*bounds), _between(values["low"], values["high"])
        case "OrderedLogistic", "predictor" if _common(values["cutpoints"]):
            return families.Ordinal(tuple(values["cutpoints"][0].tolist())), y
        case "MixtureSameFamily of Normal", "component_distribution.loc":
            parts = [torch.softmax(values["logits"], dim=-1), family.steps, values["scale"]]
            if all(part is not None and _common(part) for part in parts):
                return families.NormalMixture(*(tuple(part[0].tolist()) for part in parts)), y  # type: ignore[index]
    return None


def _name(fn: Any) -> str:
    """The name of the class, with that of the distribution inside it."""
    for attribute in ("base_dist", "component_distribution"):
        inner = getattr(fn, attribute, None)
        if inner is not None:
            return f"{type(fn).__name__} of {_name(inner)}"
    return type(fn).__name__


def _common(rows: torch.Tensor) -> bool:
    """Whether all rows are the same."""
    return bool((rows == rows[0]).all())


def _between(low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Some number in each interval: which one does not enter."""
    left = torch.where(torch.isinf(low), high - 2.0, low)
    return 0.5 * (left + torch.where(torch.isinf(high), left + 2.0, high))
