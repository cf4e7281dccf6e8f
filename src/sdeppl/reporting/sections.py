"""The parts of a report."""

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from .. import plots
from ..backend import to_host
from ..plots.corner import numbers_of
from .checks import Check
from .drawing import svg_of
from .graph import Site, sites_of
from .page import badge, picture, preformatted, table

MOST_ROWS = 24  # of a table of numbers
CORNER = 6  # numbers up to which pairs are drawn
QUANTILES = (0.05, 0.5, 0.95)


def model_section(guide: Any) -> str:
    """The guide's model: its graph, and its sites in a table."""
    sites = sites_of(guide.model, guide.args, guide.kwargs, guide.observable)
    rows = [
        (
            site.name,
            _role(site, guide.space.names),
            site.distribution,
            site.support,
            " × ".join(map(str, site.shape)) or "a number",
            ", ".join(f"{name} ({size})" for name, size in site.plates),
            site.sde,
        )
        for site in sites
    ]
    note = (
        "<p class='small'>White: latent; grey: observed; a second outline: holds an SDE; dashed: "
        "deterministic; no outline: a parameter; a box around sites: a plate.</p>"
    )
    head = ("site", "role", "distribution", "support", "shape", "plates", "SDE")
    prior = f"<p>Forward SDE of the guide: <code>{escape(str(guide.sde))}</code>.</p>"
    return svg_of(sites) + note + table(head, rows) + prior


def _role(site: Site, latents: Sequence[str]) -> str:
    if site.kind != "sample":
        return "parameter" if site.kind == "param" else "deterministic"
    return "observed" if site.observed else "latent" if site.name in latents else "drawn"


def answer_section(posterior: Any, draws: Mapping[str, Any]) -> str:
    """How the draws were made, and their moments and quantiles number by number."""
    arrays = posterior.arrays
    made = [
        ("mean likelihood", arrays.choice.name),
        ("why", arrays.choice.why),
        ("steps of the reverse SDE", str(arrays.steps)),
        ("backend", str(posterior.backend)),
        ("draws", str(_count(draws))),
    ]
    rows = []
    for label, values in numbers_of(draws).items():
        quantiles = [float(q) for q in np.quantile(values, QUANTILES)]
        rows.append((label, float(values.mean()), float(values.std(ddof=1)), *quantiles))
    left = len(rows) - MOST_ROWS
    more = f"<p class='small'>… and {left} numbers more.</p>" if left > 0 else ""
    head = ("number", "mean", "sd", *(f"{q:.0%}" for q in QUANTILES))
    return table(("", ""), made) + table(head, rows[:MOST_ROWS]) + more


def pictures_section(draws: Mapping[str, Any], reference: Any) -> str:
    """Pairs of numbers where they are few, and each long site as a band over its index."""
    found = []
    count = len(numbers_of(draws))
    theirs = reference if getattr(reference, "draws", None) else None
    if count <= CORNER:
        side = 1.5 + 1.6 * count
        caption = "Histograms and contours that hold 50 and 90 %" + (
            ", beside the reference" if theirs else ""
        )
        found.append(picture(lambda f: plots.plot_corner(f, draws, theirs), caption, (side, side)))
    for site, values in draws.items():
        array = np.asarray(to_host(values))
        if array.ndim == 2 and array.shape[1] > CORNER:
            found.append(_band(site, array, theirs))
    return "".join(found) or "<p>No site is drawn: each is of more than one dimension.</p>"


def _band(site: str, array: np.ndarray, reference: Any) -> str:
    bands = {"sdeppl, 90 %": plots.Band.of_draws(array)}
    if reference is not None and site in reference.draws:
        bands["reference, 90 %"] = plots.Band.of_draws(np.asarray(to_host(reference.draws[site])))
    index = np.arange(array.shape[1])
    unseen = np.full(array.shape[1], np.nan)

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        plots.plot_paths(axes, index, bands, unseen, array[:10])
        axes.set(xlabel="index", ylabel=site)

    return picture(draw, f"{site}: mean and band over its index, ten draws", (8, 3.4))


def check_section(check: Check, drawing: str = "") -> str:
    """One check's verdict, its table and its picture."""
    return badge(check.state, check.text) + drawing + (preformatted(check.table) if check.table else "")


def again_section(settings: Mapping[str, Any]) -> str:
    """What it takes to make the same draws: settings and versions."""
    packages = ("sdeppl", "numpy", "torch", "pyro-ppl", "array-api-compat", "scipy")
    rows = [(name, repr(value)) for name, value in settings.items()]
    rows += [("python", platform.python_version())]
    rows += [(name, _version(name)) for name in packages]
    call = "posterior.run({draws}, seed={seed})".format(**settings)
    return preformatted(call) + table(("", ""), rows)


def _count(draws: Mapping[str, Any]) -> int:
    return int(next(iter(draws.values())).shape[0])


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
