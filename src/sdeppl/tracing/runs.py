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

MORE = 8
SHOWN = 6


def two_runs(
    model: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The sample sites of runs with two seeds, without the choices of subsamples.

    Raises: ModelError where a site is in one of them alone.
    """
    runs = [drawn(model, args, kwargs, seed) for seed in (0, 1)]
    check_same_sites(*runs)
    return runs[0], runs[1]


def drawn(
    model: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], seed: int
) -> dict[str, Any]:
    """The sample sites of a run with a seed. Raises: ModelError, as `traced` does."""
    with seeded(seed), torch.no_grad():
        return sample_sites_of(traced(model, args, kwargs))


def check_random(
    model: Callable[..., Any],
    args: Sequence[Any],
    kwargs: dict[str, Any],
    latents: Collection[str],
    *runs: Mapping[str, Any],
) -> None:
    """Check that the latents have other values in runs with other seeds. Raises: ModelError, naming one that
    has not."""
    one, other = runs
    fixed = [
        name
        for name in latents
        if same_value(one[name], other[name])
        and one[name]["value"].numel()
        and not isinstance(unwrap(one[name]["fn"]), dist.Delta)
    ]
    for seed in range(2, 2 + MORE) if fixed else ():  # of a few values, two are often the same
        more = drawn(model, args, kwargs, seed)
        fixed = [name for name in fixed if name not in more or same_value(one[name], more[name])]
    if fixed:
        raise ModelError(
            f"latent site '{fixed[0]}' has the same value in {2 + MORE} runs with other seeds: a handler "
            "such as poutine.replay or poutine.seed fixes it, or the model draws it with a seed of its own; "
            "give the model without that, or observe the site"
        )


def sample_sites_of(nodes: Mapping[str, Any]) -> dict[str, Any]:
    """The sample sites of a trace, without the choices of subsamples."""
    return {
        name: site for name, site in nodes.items() if site["type"] == "sample" and not site_is_subsample(site)
    }


def check_same_sites(one: Collection[str], other: Collection[str]) -> None:
    """Check that two runs of a model have the same sites. Raises: ModelError, naming one that is not."""
    if set(one) == set(other):
        return
    changing = next(name for name in (*other, *one) if name not in one or name not in other)
    raise ModelError(
        f"site '{changing}' is not in every run of the model: one run samples {_some(one)}, another "
        f"{_some(other)}; sample the same sites in each run and choose between their values by "
        "torch.where, or sum the choice out, as dist.MixtureSameFamily does"
    )


def _some(names: Collection[str]) -> str:
    listed = ", ".join(f"'{name}'" for name in list(names)[:SHOWN])
    return f"{listed} and {len(names) - SHOWN} more sites" if len(names) > SHOWN else listed or "no site"


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
