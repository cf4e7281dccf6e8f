"""What is the same in several runs of a model, and what is not."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import pyro.distributions as dist
import torch
from pyro.poutine.util import site_is_subsample

from .errors import ModelError
from .observe import data_tensor
from .randomness import seeded
from .running import traced
from .unwrap import unwrap


def two_runs(
    model: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The sample sites of runs with two seeds, without the choices of subsamples.

    Raises: ModelError where a site is in one of them alone.
    """
    runs = []
    for seed in (0, 1):
        with seeded(seed), torch.no_grad():
            runs.append(sample_sites_of(traced(model, args, kwargs)))
    check_same_sites(*runs)
    return runs[0], runs[1]


def sample_sites_of(nodes: Mapping[str, Any]) -> dict[str, Any]:
    """The sample sites of a trace, without the choices of subsamples."""
    return {
        name: site for name, site in nodes.items() if site["type"] == "sample" and not site_is_subsample(site)
    }


def check_same_sites(one: Collection[str], other: Collection[str]) -> None:
    """Check that two runs of a model have the same sites. Raises: ModelError, naming one that is not."""
    changing = [name for name in (*other, *one) if name not in one or name not in other]
    if changing:
        raise ModelError(
            f"site '{changing[0]}' is not in every run of the model: one run samples {list(one)}, another "
            f"{list(other)}; sample the same sites in each run and choose between their values by "
            "torch.where, or sum the choice out, as dist.MixtureSameFamily does"
        )


def same_value(one: Any, other: Any) -> bool:
    """Whether a site has the same value in two traces."""
    first, second = (data_tensor(site["name"], site["value"]) for site in (one, other))
    return first.shape == second.shape and torch.allclose(first, second, rtol=0.0, atol=0.0, equal_nan=True)


def is_computed(*runs: Any) -> bool:
    """Whether a site, in traces of several runs, is a Delta that is observed at its own value in each: how
    `pyro.deterministic` and `poutine.reparam` write down what they compute."""
    if any(site["infer"].get("_deterministic", False) for site in runs):
        return True
    fns = [unwrap(site["fn"]) for site in runs]
    return all(
        site["is_observed"]
        and isinstance(fn, dist.Delta)
        and bool((data_tensor(site["name"], site["value"]) == fn.v).all())
        for site, fn in zip(runs, fns, strict=True)
    )
