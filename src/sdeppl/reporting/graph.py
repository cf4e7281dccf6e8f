"""The sites of a Pyro model and what depends on what, as `pyro.render_model` has it, drawn in SVG."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

import pyro.poutine as poutine
from pyro.infer.inspect import get_model_relations

from ..tracing.supports import fixed_support
from ..tracing.unwrap import unwrap

Kind = Literal["sample", "deterministic", "param"]
ROW, GAP, HEIGHT, LETTER = 104, 26, 46, 7.4  # pixels, the last for a letter of the labels
PAD, TITLE, EDGE = 9, 15, 48  # of a plate: around what is in it, and for its name; around the drawing
Places = Mapping[str, tuple[float, float]]


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
    model: Callable[..., Any], args: Sequence[object], kwargs: Mapping[str, object], observed: Sequence[str]
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


def svg_of(sites: Sequence[Site]) -> str:
    """The drawing: latents white, observed sites grey, SDE sites with a second outline, deterministic ones
    dashed, parameters without an outline; plates are boxes around what is repeated, as far as they nest."""
    widths = {site.name: LETTER * max(map(len, _labels(site))) + 28 for site in sites}
    places, whole = _placed(sites, widths)
    height = EDGE + HEIGHT / 2 + ROW * max(site.row for site in sites) + EDGE
    plates = [_plate(plate, sites, places, widths) for plate in _plates(sites)]
    edges = [_edge(places[parent], places[site.name]) for site in sites for parent in site.parents]
    nodes = [_node(site, *places[site.name], widths[site.name]) for site in sites]
    return (
        f'<svg viewBox="0 0 {whole:.0f} {height:.0f}" width="{whole:.0f}" role="img" '
        'aria-label="graph of the model"><defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" '
        'markerWidth="8" markerHeight="8" orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="#444"/></marker>'
        f"</defs>{''.join(plates)}{''.join(edges)}{''.join(nodes)}</svg>"
    )


def _placed(sites: Sequence[Site], widths: Mapping[str, float]) -> tuple[Places, float]:
    """The centre of each node, and the width of all: sites of the same plates have columns of their own."""
    blocks = sorted({site.plates for site in sites})
    places: dict[str, tuple[float, float]] = {}
    left = EDGE / 2
    for block in blocks:
        rows: dict[int, list[Site]] = {}
        for site in sites:
            if site.plates == block:
                rows.setdefault(site.row, []).append(site)
        whole = max(sum(widths[s.name] + GAP for s in row) for row in rows.values())
        for number, row in rows.items():
            x = left + 0.5 * (whole - sum(widths[s.name] + GAP for s in row) + GAP)
            for site in row:
                places[site.name] = (x + 0.5 * widths[site.name], EDGE + ROW * number)
                x += widths[site.name] + GAP
        left += whole + 2 * PAD * len(block)
    return places, left + EDGE / 2


def _plates(sites: Sequence[Site]) -> list[tuple[str, int]]:
    """The outermost first."""
    depths: dict[tuple[str, int], int] = {}
    for site in sites:
        for depth, plate in enumerate(site.plates):
            depths[plate] = max(depth, depths.get(plate, 0))
    return sorted(depths, key=lambda plate: depths[plate])


def _plate(plate: tuple[str, int], sites: Sequence[Site], places: Places, widths: Mapping[str, float]) -> str:
    """The box of a plate, as much larger than the sites as there are plates within it."""
    inside = [site for site in sites if plate in site.plates]
    levels = max(len(site.plates) - site.plates.index(plate) for site in inside)
    pad, title = PAD * levels, TITLE * (levels - 1)
    left = min(places[s.name][0] - widths[s.name] / 2 for s in inside) - pad
    right = max(places[s.name][0] + widths[s.name] / 2 for s in inside) + pad
    top = min(places[s.name][1] for s in inside) - HEIGHT / 2 - pad
    bottom = max(places[s.name][1] for s in inside) + HEIGHT / 2 + pad + title + TITLE - 6
    name, size = plate
    return (
        f'<g><path d="M{left:.1f} {top:.1f} H{right:.1f} V{bottom:.1f} H{left:.1f} Z" fill="none" '
        f'stroke="#888"/><text x="{right - 6:.1f}" y="{bottom - 5:.1f}" text-anchor="end" font-size="11" '
        f'fill="#555">{escape(name)} ({size})</text></g>'
    )


def _labels(site: Site) -> tuple[str, str]:
    shape = f" ({', '.join(map(str, site.shape))})" if site.shape else ""
    return site.name, f"{site.distribution or 'parameter'}{shape}"


def _edge(start: tuple[float, float], stop: tuple[float, float]) -> str:
    x1, y1, x2, y2 = start[0], start[1] + HEIGHT / 2, stop[0], stop[1] - HEIGHT / 2
    bend = 0.5 * (y2 - y1)
    return (
        f'<path d="M{x1:.1f} {y1:.1f} C{x1:.1f} {y1 + bend:.1f} {x2:.1f} {y2 - bend:.1f} {x2:.1f} {y2:.1f}" '
        'fill="none" stroke="#444" marker-end="url(#tip)"/>'
    )


def _node(site: Site, x: float, y: float, width: float) -> str:
    fill = "#d8d8d8" if site.observed else "#ffffff"
    line = {"sample": 'stroke="#444"', "deterministic": 'stroke="#444" stroke-dasharray="5 3"', "param": ""}
    name, detail = _labels(site)

    def box(inset: float) -> str:
        return (
            f'<rect x="{x - width / 2 + inset:.1f}" y="{y - HEIGHT / 2 + inset:.1f}" rx="10" '
            f'width="{width - 2 * inset:.1f}" height="{HEIGHT - 2 * inset:.1f}" fill="{fill}" '
            f"{line[site.kind]}/>"
        )

    title = f"<title>{escape(site.sde)}</title>" if site.sde else ""
    return (
        f"<g>{title}{box(0)}{box(3) if site.sde else ''}"
        f'<text x="{x:.1f}" y="{y - 3:.1f}" text-anchor="middle" font-weight="bold">{escape(name)}</text>'
        f'<text x="{x:.1f}" y="{y + 13:.1f}" text-anchor="middle" font-size="11">{escape(detail)}</text></g>'
    )
