"""Running a model under a trace."""

import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger

from ..backend.sharing import SHARED
from .errors import ModelError
from .unwrap import PlainNormals, unwrap


def check_call(model: Any, args: Any = (), kwargs: Any = None, latents: Any = None) -> None:
    """Check what a model is called with. Raises: TypeError, naming the argument."""
    if not callable(model):
        raise TypeError(f"model must be a function, the Pyro model; got {model!r:.80}")
    if isinstance(args, (str, bytes)) or not isinstance(args, Sequence):
        raise TypeError(f"args must be a list of the model's arguments, args=[...]; got {args!r:.80}")
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise TypeError(f"kwargs must be the model's arguments by name, kwargs={{...}}; got {kwargs!r:.80}")
    named = isinstance(latents, Collection) and not isinstance(latents, str) and not hasattr(latents, "shape")
    if latents is not None and not named:
        raise TypeError(f"latents must be a list of names, latents=['...']; got {latents!r:.80}")


class _Reached(Messenger):
    """Notes the sample site that the model is at, and those before it."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.kind = ""

    def _pyro_sample(self, msg: Any) -> None:
        self.names.append(msg["name"])
        self.kind = type(unwrap(msg["fn"])).__name__


def traced(model: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    """The sites of one run. Raises: ModelError for parameters outside their range, as a covariance that is
    not positive definite, and for a site that cannot be drawn from."""
    reached = _Reached()
    handler = poutine.trace(PlainNormals()(reached(model)))
    try:
        with SHARED:
            nodes: Mapping[str, Any] = handler.get_trace(*args, **kwargs).nodes
    except (torch.linalg.LinAlgError, ValueError) as error:
        text = str(error).splitlines()[0] if str(error) else ""
        where = f"the site after '{reached.names[-1]}'" if reached.names else "the first site"
        if isinstance(error, torch.linalg.LinAlgError) or "PositiveDefinite" in text:
            raise ModelError(
                f"{where} has a covariance that is singular or not positive definite ({text}); give every "
                "direction a variance of its own, or write a hard constraint as pyro.sample(..., "
                "dist.Delta(...))"
            ) from error
        if text.startswith("Expected parameter"):
            raise ModelError(f"{where} has a parameter outside its range: {text}") from error
        raise
    except NotImplementedError as error:
        if "vmap" in str(error) or not reached.names or not _draws(error):
            raise
        raise ModelError(
            f"site '{reached.names[-1]}' cannot be drawn from: {reached.kind} has no sample; a prior is "
            "learned from its draws, so give a distribution that can be sampled"
        ) from error
    return nodes


def _draws(error: BaseException) -> bool:
    """Whether it was raised in a distribution's `sample`."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and frames[-1].name in ("sample", "rsample", "sample_n")


@contextmanager
def unvalidated() -> Iterator[None]:
    """Without Pyro's validation of parameters and values, which is on or off for all threads at once."""
    with SHARED, pyro.validation_enabled(False):
        yield
