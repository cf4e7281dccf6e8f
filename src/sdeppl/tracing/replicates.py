"""New data from a model whose latents are given: one data set for each row of them."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from pyro import poutine

from .draws import SlowDrawsWarning, check_torch_alone
from .randomness import batched, seeded
from .running import unvalidated


def replicates(
    model: Callable[..., Any],
    latents: Mapping[str, torch.Tensor],
    names: Sequence[str],
    seed: Sequence[int],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
) -> dict[str, torch.Tensor]:
    """{name: (n, *shape)} for latents {site: (n, *shape)}: what the model draws at observed sites `names`.

    What it observes by itself is drawn anew. Vectorised by `torch.func.vmap`, or where that cannot run the
    model, row by row with a SlowDrawsWarning.
    """
    arguments = dict(kwargs or {})

    def run(values: dict[str, torch.Tensor]) -> dict[str, Any]:
        conditioned = poutine.condition(poutine.uncondition(model), data=values)
        like = next(iter(values.values()))
        nodes: Any = batched(lambda: poutine.trace(conditioned).get_trace(*args, **arguments).nodes, like)
        return {name: nodes[name]["value"] for name in names}

    first = {name: value[0] for name, value in latents.items()}
    with seeded(*seed), torch.no_grad(), unvalidated():
        try:
            check_torch_alone(lambda _: run(first), seed)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="There is a performance drop")
                drawn: dict[str, torch.Tensor] = torch.func.vmap(run, randomness="different")(dict(latents))
                return drawn
        except (RuntimeError, NotImplementedError, ValueError):
            count = len(next(iter(latents.values())))
            warnings.warn(
                f"the model cannot be run for many latents at once; running it {count} times",
                SlowDrawsWarning,
                stacklevel=2,
            )
            rows = [run({name: value[k] for name, value in latents.items()}) for k in range(count)]
            return {name: torch.stack([row[name] for row in rows]) for name in names}
