"""The graph of a Pyro model as a drawing in SVG."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import pyro.poutine as poutine
from pyro.infer.inspect import get_model_relations

from ..tracing.unwrap import unwrap

ROW, GAP, HEIGHT, LETTER = 92, 26, 46, 7.4  # pixels, the last for a letter of the labels


@dataclass(frozen=True)
class Site:
    """A sample site: what it is drawn from, the sites it depends on, its plates, its row in the drawing.

    sde: the SDE that a Diffusion or an SDEPath holds, in words, else ''.
    """

    name: str
    distribution: str
    shape: tuple[int, ...]
    parents: tuple[str, ...]
    plates: tuple[str, ...]
    observed: bool
    sde: str
    row: int


def sites_of(
    model: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], observed: Sequence[str]
) -> list[Site]:
    """The sample sites of a model in the order of their drawing, those of `observed` marked."""
    relations = get_model_relations(model, tuple(args), dict(kwargs))
    trace = poutine.trace(model).get_trace(*args, **kwargs)
    plates: dict[str, list[str]] = {}
    for plate, members in relations["plate_sample"].items():
        for member in members:
            plates.setdefault(member, []).append(plate)
    rows: dict[str, int] = {}
    found = []
    for name, parents in relations["sample_sample"].items():
        above = [parent for parent in parents if parent != name]
        rows[name] = 1 + max((rows[parent] for parent in above if parent in rows), default=-1)
        value: Any = trace.nodes[name]["value"]
        base = unwrap(trace.nodes[name]["fn"])
        sde = getattr(base, "sde", None)
        found.append(
            Site(
                name,
                type(base).__name__,
                tuple(value.shape),
                tuple(above),
                tuple(plates.get(name, ())),
                name in observed or name in relations["observed"],
                "" if sde is None else str(sde),
                rows[name],
            )
        )
    return found


def svg_of(sites: Sequence[Site]) -> str:
    """The drawing: latents white, observed sites grey, SDE sites with a second outline."""
    rows: dict[int, list[Site]] = {}
    for site in sites:
        rows.setdefault(site.row, []).append(site)
    widths = {site.name: LETTER * max(map(len, _labels(site))) + 28 for site in sites}
    whole = max(sum(widths[s.name] + GAP for s in row) for row in rows.values()) + GAP
    places = {}
    for number, row in rows.items():
        left = 0.5 * (whole - sum(widths[s.name] + GAP for s in row) + GAP)
        for site in row:
            places[site.name] = (left + 0.5 * widths[site.name], 34 + ROW * number)
            left += widths[site.name] + GAP
    height = 34 + ROW * max(rows) + 40
    edges = [_edge(places[parent], places[site.name]) for site in sites for parent in site.parents]
    nodes = [_node(site, *places[site.name], widths[site.name]) for site in sites]
    return (
        f'<svg viewBox="0 0 {whole:.0f} {height}" width="{whole:.0f}" role="img" '
        'aria-label="graph of the model"><defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" '
        'markerWidth="8" markerHeight="8" orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="#444"/></marker>'
        f"</defs>{''.join(edges)}{''.join(nodes)}</svg>"
    )


def _labels(site: Site) -> tuple[str, str]:
    shape = f" ({', '.join(map(str, site.shape))})" if site.shape else ""
    plates = f" · {', '.join(site.plates)}" if site.plates else ""
    return site.name, f"{site.distribution}{shape}{plates}"


def _edge(start: tuple[float, float], stop: tuple[float, float]) -> str:
    x1, y1, x2, y2 = start[0], start[1] + HEIGHT / 2, stop[0], stop[1] - HEIGHT / 2
    bend = 0.5 * (y2 - y1)
    return (
        f'<path d="M{x1:.1f} {y1:.1f} C{x1:.1f} {y1 + bend:.1f} {x2:.1f} {y2 - bend:.1f} {x2:.1f} {y2:.1f}" '
        'fill="none" stroke="#444" marker-end="url(#tip)"/>'
    )


def _node(site: Site, x: float, y: float, width: float) -> str:
    fill = "#d8d8d8" if site.observed else "#ffffff"
    name, detail = _labels(site)

    def box(inset: float) -> str:
        return (
            f'<rect x="{x - width / 2 + inset:.1f}" y="{y - HEIGHT / 2 + inset:.1f}" rx="10" '
            f'width="{width - 2 * inset:.1f}" height="{HEIGHT - 2 * inset:.1f}" fill="{fill}" stroke="#444"/>'
        )

    title = f"<title>{escape(site.sde)}</title>" if site.sde else ""
    return (
        f"<g>{title}{box(0)}{box(3) if site.sde else ''}"
        f'<text x="{x:.1f}" y="{y - 3:.1f}" text-anchor="middle" font-weight="bold">{escape(name)}</text>'
        f'<text x="{x:.1f}" y="{y + 13:.1f}" text-anchor="middle" font-size="11">{escape(detail)}</text></g>'
    )
