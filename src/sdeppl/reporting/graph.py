"""The sites of a Pyro model and what depends on what, as `pyro.render_model` has it, and its SDEs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyro.poutine as poutine
from pyro.infer.inspect import get_model_relations

from ..tracing.supports import fixed_support
from ..tracing.unwrap import unwrap

Kind = Literal["sample", "deterministic", "param"]


@dataclass(frozen=True)
class Site:
    """A node: what it is drawn from, its parents, its plates with their sizes, its row in the drawing.

    kind: param for a parameter of the model; support: of its values, in words, '' for a deterministic site;
    plates: the outermost first; sde: what a Diffusion or an SDEPath holds, in words, else ''.
    """

    name: str
    kind: Kind
    distribution: str
    support: str
    shape: tuple[int, ...]
    parents: tuple[str, ...]
    plates: tuple[tuple[str, int], ...]
    observed: bool
    sde: str
    row: int


def sites_of(
    model: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], observed: Sequence[str]
) -> list[Site]:
    """The nodes of a model in the order of their drawing, those of `observed` marked."""
    trace = poutine.trace(model).get_trace(*args, **kwargs)
    replayed = poutine.replay(model, trace=trace)  # some distributions cannot draw while Pyro looks on
    relations = get_model_relations(replayed, tuple(args), dict(kwargs), include_deterministic=True)
    seen = {*observed, *relations["observed"]}
    found: dict[str, Site] = {}
    for name, constraint in relations["param_constraint"].items():
        value: Any = trace.nodes[name]["value"]
        found[name] = Site(name, "param", "", str(constraint), tuple(value.shape), (), (), False, "", 0)
    for name, above in relations["sample_sample"].items():
        parents = tuple(p for p in (*relations["sample_param"][name], *above) if p != name)
        row = 1 + max((found[parent].row for parent in parents if parent in found), default=-1)
        found[name] = _site(name, trace.nodes[name], relations["sample_dist"][name], parents, seen, row)
    return list(found.values())


def _site(
    name: str, node: Any, distribution: str, parents: tuple[str, ...], observed: set[str], row: int
) -> Site:
    deterministic = distribution == "Deterministic"
    base = unwrap(node["fn"])
    sde = getattr(base, "sde", None)
    return Site(
        name,
        "deterministic" if deterministic else "sample",
        distribution if deterministic else type(base).__name__,
        "" if deterministic else str(fixed_support(node["fn"])),
        tuple(node["value"].shape),
        parents,
        tuple((frame.name, int(frame.size)) for frame in node["cond_indep_stack"]),
        name in observed and not deterministic,
        "" if sde is None else str(sde),
        row,
    )
