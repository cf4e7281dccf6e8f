"""Draws of the latents from the model's prior."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from pyro import poutine

from ..backend import Progress
from .randomness import BatchedRandomness, seeded
from .running import unvalidated

CHUNK = 8192


class SlowDrawsWarning(UserWarning):
    """The model could not be vectorised, so it is run once for each draw."""


def prior_draws(
    model: Callable[..., Any],
    names: Sequence[str],
    draws: int,
    seed: Sequence[int],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    progress: bool | None = None,
) -> dict[str, torch.Tensor]:
    """`draws` independent prior draws of the named sites: {name: (draws, *shape)}.

    The model runs once for a whole batch by `torch.func.vmap`, which keeps the meaning of every
    operation in it. A model that vmap cannot run (control flow on drawn values)
    or that draws from NumPy or Python, is run once for each draw instead, with a SlowDrawsWarning.
    """
    kwargs = dict(kwargs or {})

    def run(_: torch.Tensor) -> dict[str, Any]:
        trace = poutine.trace(model).get_trace(*args, **kwargs)
        return {name: trace.nodes[name]["value"] for name in names}

    with seeded(*seed), torch.no_grad(), unvalidated():
        try:
            check_torch_alone(run, seed)
            parts, firsts = [], range(0, draws, CHUNK)
            for first in Progress(len(firsts), progress, "prior draws").over(firsts):
                index = torch.arange(first, min(first + CHUNK, draws))
                with BatchedRandomness(), warnings.catch_warnings():
                    warnings.filterwarnings("ignore", message="There is a performance drop")
                    parts.append(torch.func.vmap(run, randomness="different")(index))
        except (RuntimeError, NotImplementedError, ValueError) as error:
            warnings.warn(
                f"the model cannot be run for many draws at once ({_first_line(error)}); running it "
                f"{draws} times",
                SlowDrawsWarning,
                stacklevel=2,
            )
            empty = torch.zeros(())
            singles = [run(empty) for _ in Progress(draws, progress, "prior draws").over(range(draws))]
            return {name: torch.stack([single[name] for single in singles]) for name in names}
    return {name: torch.cat([part[name] for part in parts]) for name in names}


def check_torch_alone(run: Callable[[torch.Tensor], dict[str, Any]], seed: Sequence[int]) -> None:
    """Under one seed two runs agree, unless another library draws: vmap would draw that once for all.

    Raises: RuntimeError where they do not.
    """
    empty, runs = torch.zeros(()), []
    for _ in range(2):
        with seeded(*seed):
            runs.append(run(empty))
    if any(not torch.equal(runs[0][name], runs[1][name]) for name in runs[0]):
        raise RuntimeError("it draws from another generator than torch's, which no seed given here reaches")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
