"""Running a model under a trace."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from pyro import poutine

from ..backend.sharing import SHARED
from .errors import ModelError
from .unwrap import PlainNormals


def traced(model: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    """The sites of one run. Raises: ModelError for a covariance that is not positive definite."""
    handler = poutine.trace(PlainNormals()(model))
    try:
        with SHARED:
            nodes: Mapping[str, Any] = handler.get_trace(*args, **kwargs).nodes
    except (torch.linalg.LinAlgError, ValueError) as error:
        if not isinstance(error, torch.linalg.LinAlgError) and "PositiveDefinite" not in str(error):
            raise
        reached = [name for name, node in handler.msngr.trace.nodes.items() if node["type"] == "sample"]
        where = f"the site after '{reached[-1]}'" if reached else "the first site"
        raise ModelError(
            f"{where} has a covariance that is singular or not positive definite "
            f"({str(error).splitlines()[0]}); give every direction a variance of its own, or "
            "write a hard constraint as pyro.sample(..., dist.Delta(...))"
        ) from error
    return nodes


@contextmanager
def unvalidated() -> Iterator[None]:
    """Without Pyro's validation of parameters and values, which is on or off for all threads at once."""
    with SHARED, pyro.validation_enabled(False):
        yield
