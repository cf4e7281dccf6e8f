"""Running a model under a trace, with its latents put in."""

import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger

from ..backend.sharing import SHARED, sent_state
from ..distributions import SamplerError
from ..distributions.typing import Args, Kwargs, Model, Nodes, Site
from .errors import ModelError, first_line
from .latents import LatentSpace
from .randomness import batched, seeded
from .supports import log_density
from .unwrap import PlainNormals, unwrap


def check_call(model: object, args: object = (), kwargs: object = None, latents: object = None) -> None:
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


class Reached(Messenger):
    """Notes the sample site that the model is at, and those before it."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.kind = ""
        self.inside = False  # and not in the model between two sites

    def _pyro_sample(self, msg: Site) -> None:
        self.names.append(msg["name"])
        self.kind = type(unwrap(msg["fn"])).__name__
        self.inside = True

    def _pyro_post_sample(self, msg: Site) -> None:
        self.inside = False

    def failed(self, error: SamplerError) -> ModelError:
        """The error for a site whose simulator or data set failed."""
        where = f"site '{self.names[-1]}': " if self.inside else ""
        return ModelError(f"{where}{first_line(error)}")


def traced(model: Model, args: Args, kwargs: Kwargs) -> Nodes:
    """The sites of one run. Raises: ModelError for parameters outside their range, as a covariance that is
    not positive definite, for a site that cannot be drawn from, and under poutine.collapse."""
    reached = Reached()
    handler = poutine.trace(PlainNormals()(reached(model)))
    try:
        with SHARED:
            nodes: Nodes = handler.get_trace(*args, **kwargs).nodes
    except SamplerError as error:
        raise reached.failed(error) from error
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
    except KeyError as error:
        if not _collapses(error):
            raise
        raise ModelError(
            f"the model runs under poutine.collapse, which ends in an error of Pyro's own ({error!r}) under "
            "any trace; leave poutine.collapse out: conjugate latents are sampled as others are"
        ) from error
    return nodes


def _collapses(error: BaseException) -> bool:
    """Whether it was raised by Pyro's handler itself."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and Path(frames[-1].filename).stem == "collapse_messenger"


def _draws(error: BaseException) -> bool:
    """Whether it was raised in a distribution's `sample`."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and frames[-1].name in ("sample", "rsample", "sample_n")


@contextmanager
def unvalidated() -> Iterator[None]:
    """Without Pyro's validation of parameters and values, which is on or off for all threads at once."""
    with SHARED, pyro.validation_enabled(False):
        yield


# ---- Running a model with its latents put in, and reading its sites' distributions


@dataclass(frozen=True)
class SiteReader:
    """Runs the model with its latents and data put in, and reads its sites' distributions."""

    model: Model
    space: LatentSpace
    args: Args
    kwargs: Kwargs
    data: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, object]:
        return sent_state(self, model="model")

    def nodes(self, z: torch.Tensor, seed: int = 0) -> Nodes:
        """The trace at z (dim,); seed: of sites that are neither latent nor data."""
        return self.at(self.space.unflatten(z), seed)

    def at(self, values: Mapping[str, torch.Tensor], seed: int = 0) -> Nodes:
        """The trace at values of the latents, by site."""
        conditioned = poutine.condition(self.model, data={**self.data, **values})
        with unvalidated(), seeded(seed):
            return batched(lambda: traced(conditioned, self.args, self.kwargs), next(iter(values.values())))

    def function(self, read: Callable[[Nodes], Any]) -> "SiteFunction":
        """z ↦ what `read` finds in the trace at z."""
        return SiteFunction(self, (read,))

    def prior_log_densities(self, z: torch.Tensor) -> dict[str, torch.Tensor]:
        """{latent site: ln p at each row of z (batch, dim)}, without sites that know no density."""
        rows = [self.nodes(row) for row in z]
        found = {}
        for name in self.space.names:
            try:
                densities = [log_density(nodes[name]["fn"], nodes[name]["value"]).sum() for nodes in rows]
            except NotImplementedError:
                continue
            found[name] = torch.stack(densities).to(torch.float64)
        return found


@dataclass(frozen=True)
class SiteFunction:
    """A function of the latents z (dim,) that is read off the trace of a run of the model at z.

    reads: the functions that make it of the trace, one after the other.
    """

    reader: SiteReader
    reads: tuple[Callable[[Any], Any], ...]

    def __call__(self, z: torch.Tensor) -> Any:
        return self.read(self.reader.nodes(z))

    def read(self, nodes: Nodes) -> Any:
        """Its value, of the trace."""
        value: Any = nodes
        for part in self.reads:
            value = part(value)
        return value

    def then(self, function: Callable[[Any], Any]) -> "SiteFunction":
        """z ↦ function(this(z))."""
        return SiteFunction(self.reader, (*self.reads, function))


def shared(functions: Sequence[Callable[[torch.Tensor], Any]], z: torch.Tensor) -> list[Callable[[], Any]]:
    """The functions at z, each as a call; those that are read off one model's trace share one run of it."""
    runs: dict[int, Nodes | Exception] = {}

    def at(function: Any) -> Any:
        if not isinstance(function, SiteFunction):
            return function(z)
        key = id(function.reader)
        if key not in runs:
            try:
                runs[key] = function.reader.nodes(z)
            except Exception as error:  # which each of them meets
                runs[key] = error
        found = runs[key]
        if isinstance(found, Exception):
            raise found
        return function.read(found)

    return [partial(at, function) for function in functions]


@dataclass(frozen=True)
class Runs:
    """The model's traces at given latents (rows, dim), one by one, each run once."""

    reader: SiteReader
    latents: torch.Tensor
    kept: dict[tuple[int, int], Nodes] = field(default_factory=dict)

    def at(self, row: int = 0, seed: int = 0) -> Nodes:
        """The trace at a row; seed: as of `SiteReader.nodes`."""
        if (row, seed) not in self.kept:
            self.kept[row, seed] = self.reader.nodes(self.latents[row], seed)
        return self.kept[row, seed]
