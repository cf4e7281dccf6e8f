"""Data outside a support, or on its edge, where a density is infinite or zero."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import pyro.distributions as dist
import torch
from torch.distributions import constraints

from ..distributions import Diffusion
from .errors import ModelError
from .randomness import seeded
from .running import traced, unvalidated
from .supports import bounds, data_support, log_density, plain
from .unwrap import own_mask, unwrap

SHOWN = 3


def check_values(name: str, kept: torch.Tensor, at: Iterable[tuple[Any, torch.Tensor]]) -> None:
    """Check that each event lies in the support, and has a density, at one of several draws at least.

    kept: which events were observed, in the site's batch shape; at: the site's distribution over that shape,
    and the value it is observed at, at draws of the latents. Raises: ModelError, naming the site, the first
    values that do not, and whether they are on the edge.
    """
    inside = finite = ~kept
    for base, value in at:
        try:
            support = data_support(base)
            inside = inside | support.check(value)
            finite = finite | _has_density(base, value, inside)
        except (NotImplementedError, AttributeError):  # a distribution that states no support, or no density
            return
        if bool((inside & finite).all()):
            return
    if not bool(inside.all()):
        raise ModelError(
            f"site '{name}': the data are outside the support of {type(base).__name__}, {support}: "
            f"{_numbers(value, ~inside)}"
        )
    edge = ~finite & _on_edge(support, value, finite)
    if bool(edge.any()):
        raise ModelError(
            f"site '{name}': the data are on the edge of the support of {type(base).__name__}, {support}, "
            f"where its density is zero or infinite: {_numbers(value, edge)}; move them inside by what the "
            "measurement resolves, leave them out (NaN), or give the edge a probability of its own"
        )


def check_observed(
    observed: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], draws: int = 16
) -> None:
    """`check_values` of all that a model observes, once given its data (`Observe`), at draws of its own."""

    @cache
    def nodes(seed: int) -> Mapping[str, Any]:
        with seeded(seed, 3), torch.no_grad(), unvalidated():
            return traced(observed, args, kwargs)

    def at(name: str) -> Iterator[tuple[Any, torch.Tensor]]:
        for node in (nodes(seed)[name] for seed in range(draws)):
            base, value = unwrap(node["fn"]), node["value"]
            batch = value.shape[: value.dim() - base.event_dim]
            yield base if base.batch_shape == batch else base.expand(batch), value

    for name, node in nodes(0).items():
        if (
            node["type"] != "sample"
            or not node["is_observed"]
            or isinstance(unwrap(node["fn"]), (Diffusion, dist.Unit))
        ):
            continue
        base, value = next(at(name))
        mask = own_mask(node["fn"], node["mask"])
        whole = torch.ones_like(value, dtype=torch.bool) if mask is None else mask
        with unvalidated():
            check_values(name, whole.reshape(*base.batch_shape, -1)[..., 0], at(name))


def _has_density(base: Any, value: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    if isinstance(base, dist.Delta) or base.support.is_discrete:  # whose ends are numbers like any other
        return inside
    return torch.isfinite(log_density(base, value))


def _on_edge(support: Any, value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Whether a number of each event is at an end of the support, in the shape of `like`."""
    ends = bounds(support)
    if ends is not None:
        found = (value == torch.as_tensor(ends[0])) | (value == torch.as_tensor(ends[1]))
    elif plain(support) is constraints.simplex:
        found = value == 0
    else:
        return torch.zeros_like(like)
    return found.reshape(*like.shape, -1).any(dim=-1)


def _numbers(value: torch.Tensor, wrong: torch.Tensor) -> str:
    """The first of the wrong events, and where they stand."""
    places = torch.nonzero(wrong)
    found = []
    for place in places[:SHOWN]:
        index = tuple(place.tolist())
        where = f" (number {index[0] if len(index) == 1 else index})" if index else ""
        found.append(f"{value[index].tolist()}{where}")
    more = len(places) - len(found)
    return ", ".join(found) + (f" and {more} more" if more > 0 else "")
