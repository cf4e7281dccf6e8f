"""Draws of the latents from the model's prior, and of new data from given latents."""

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample

from ..backend import Progress
from ..distributions import Dataset, Part, SamplerError
from ..distributions.typing import Args, Distribution, Kwargs, Model, Nodes, Site
from .errors import ModelError, first_line
from .randomness import batched, seeded, stacked, vmapped
from .running import Reached, unvalidated
from .runs import check_same_sites, sample_sites_of
from .unwrap import replaced

CHUNK = 8192
FAILURES = (RuntimeError, NotImplementedError, ValueError)


class SlowDrawsWarning(UserWarning):
    """The model could not be vectorised, so it is run once for each draw."""


def prior_draws(
    model: Model,
    names: Sequence[str],
    draws: int,
    seed: Sequence[int],
    args: Args = (),
    kwargs: Kwargs | None = None,
    progress: bool | None = None,
    said: set[str] | None = None,
    rows: "Rows | None" = None,
) -> dict[str, torch.Tensor]:
    """`draws` independent prior draws of the named sites: {name: (draws, *shape)}.

    rows: which of the rows of data sets are drawn; by default all, at random.

    The model runs once for a whole batch by `torch.func.vmap`, which keeps the meaning of every
    operation in it. Where a site that is not asked for is what vmap cannot draw, and the model does not look
    at its value, it is not drawn. A model that vmap cannot run (control flow on drawn values)
    or that draws from NumPy or Python, is run once for each draw instead, with a SlowDrawsWarning; said: the
    reasons for which that has been said, and need not be again.

    Raises: ModelError, naming a site that is not in every run.
    """
    kwargs, first_run = dict(kwargs or {}), list[str]()

    def run(index: torch.Tensor, model: Model = model) -> dict[str, torch.Tensor]:
        reached = Reached()
        asked = reached(model if rows is None else ReadRows(rows, index)(model))
        try:
            trace = batched(lambda: poutine.trace(asked).get_trace(*args, **kwargs), index)
        except SamplerError as error:
            raise reached.failed(error) from error
        found = sample_sites_of(trace.nodes)
        first_run.extend([] if first_run else found)
        check_same_sites(first_run, found)
        return {name: found[name]["value"] for name in names}

    with seeded(*seed), torch.no_grad(), unvalidated():
        try:
            check_torch_alone(run, seed)
            return _at_once(run, draws, progress)
        except ModelError:
            raise
        except FAILURES as error:
            reason, others = _in_words(error), isinstance(error, _Others)
        if not others:
            try:
                with seeded(*seed):
                    return _at_once(partial(run, model=OnlyDrawn(names)(model)), draws, progress)
            except ModelError:
                raise
            except FAILURES:  # the model needs what was not drawn, or something else is at fault
                pass
        if said is None or reason not in said:
            _warn(reason, draws)
        if said is not None:
            said.add(reason)
        counted = Progress(draws, progress, "prior draws").over(range(draws))
        return stacked([run(torch.tensor(k)) for k in counted])


def _warn(reason: str, draws: int) -> None:
    warnings.warn(
        f"the model cannot be run for many draws at once ({reason}); running it {draws} times",
        SlowDrawsWarning,
        stacklevel=3,
    )


def _at_once(
    run: Callable[[torch.Tensor], dict[str, torch.Tensor]], draws: int, progress: bool | None
) -> dict[str, torch.Tensor]:
    """{name: (draws, *shape)}, a chunk of draws at a time."""
    parts, firsts = [], range(0, draws, CHUNK)
    for first in Progress(len(firsts), progress, "prior draws").over(firsts):
        index = torch.arange(first, min(first + CHUNK, draws))
        parts.append(vmapped(run, index))
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


@dataclass(frozen=True)
class Rows:
    """Rows of data sets: of a part, at random, or from the row `first` on in their order, round and round."""

    part: Part
    first: int | None = None


class ReadRows(Messenger):
    """Have data sets draw from these rows; index: () number of the draw."""

    def __init__(self, rows: Rows, index: torch.Tensor) -> None:
        super().__init__()
        self.part, self.order = rows.part, None if rows.first is None else rows.first + index

    def _pyro_sample(self, msg: Site) -> None:
        msg["fn"] = replaced(msg["fn"], self._reading)

    def _reading(self, fn: Distribution) -> Distribution:
        return fn.reading(self.part, self.order) if isinstance(fn, Dataset) else fn


class OnlyDrawn(Messenger):
    """Draw the sites of these names alone, and what the model observes; others have a value that nothing
    can be asked of."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = frozenset(names)

    def _pyro_sample(self, msg: Site) -> None:
        if not (msg["name"] in self.names or msg["is_observed"] or site_is_subsample(msg)):
            msg["value"], msg["done"] = torch.zeros(()).as_subclass(_NotDrawn), True


class _NotDrawn(torch.Tensor):
    """Stands where a value was not drawn. Raises: RuntimeError for any use of it."""

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: object, args: Args = (), kwargs: Kwargs | None = None
    ) -> Any:
        raise RuntimeError("the model uses the value of a site that was not drawn")


def check_torch_alone(run: Callable[[torch.Tensor], dict[str, torch.Tensor]], seed: Sequence[int]) -> None:
    """Under one seed two runs agree, unless another library draws: vmap would draw that once for all.

    Raises: RuntimeError where they do not.
    """
    first, runs = torch.tensor(0), []
    for _ in range(2):
        with seeded(*seed):
            runs.append(run(first))
    if any(not torch.equal(runs[0][name], runs[1][name]) for name in runs[0]):
        raise _Others("it draws from another generator than torch's, which no seed given here reaches")


class _Others(RuntimeError):
    """The model draws from a generator that is not torch's."""


_WORDS = {
    "data-dependent control flow": "it branches on drawn numbers, with if or while; torch.where takes all",
    ".item()": "it takes a number out of a tensor (.item(), float(), int()); leave it a tensor",
    "Cannot access data pointer": "it leaves torch (NumPy, .numpy()); write it in torch",
    "NumPy": "it leaves torch (NumPy, .numpy()); write it in torch",
    "dynamic": "the shape of a tensor in it depends on numbers that it drew; use torch.where",
    "in-place": "it writes into a tensor that all draws share; make a new one",
    "inplace": "it writes into a tensor that all draws share; make a new one",
}


def _in_words(error: Exception) -> str:
    """Why vmap cannot run a model."""
    text = str(error)
    rule = re.search(r"[Bb]atching rule not implemented for (?:aten::)?(\w+)", text)
    if rule:
        return f"torch cannot take '{rule[1]}' of many draws at once"
    for part, words in _WORDS.items():
        if part in text:
            return words
    return first_line(error)


# ---- New data from a model whose latents are given: one data set for each row of them


def replicates(
    model: Model,
    latents: Mapping[str, torch.Tensor],
    names: Sequence[str],
    seed: Sequence[int],
    args: Args = (),
    kwargs: Kwargs | None = None,
) -> dict[str, torch.Tensor]:
    """{name: (n, *shape)} for latents {site: (n, *shape)}: what the model draws at observed sites `names`.

    What it observes by itself is drawn anew. Vectorised by `torch.func.vmap`, or where that cannot run the
    model, row by row with a SlowDrawsWarning.
    """
    arguments = dict(kwargs or {})

    def run(values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        conditioned = poutine.condition(poutine.uncondition(model), data=values)
        like = next(iter(values.values()))
        nodes: Nodes = batched(lambda: poutine.trace(conditioned).get_trace(*args, **arguments).nodes, like)
        return {name: nodes[name]["value"] for name in names}

    first = {name: value[0] for name, value in latents.items()}
    with seeded(*seed), torch.no_grad(), unvalidated():
        try:
            check_torch_alone(lambda _: run(first), seed)
            return vmapped(run, dict(latents))
        except (RuntimeError, NotImplementedError, ValueError):
            count = len(next(iter(latents.values())))
            warnings.warn(
                f"the model cannot be run for many latents at once; running it {count} times",
                SlowDrawsWarning,
                stacklevel=2,
            )
            return stacked([run({n: value[k] for n, value in latents.items()}) for k in range(count)])
