"""Tables for the site, read from backends/*.toml and from the solvers' own attributes."""

import math
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
NOISES = ("additive", "scalar", "diagonal", "general")


def backends() -> str:
    """Devices with their status, and known gaps, as the files in backends/ state them."""
    rows, gaps = [], []
    files = [tomllib.loads(path.read_text("utf-8")) for path in sorted(ROOT.glob("backends/*.toml"))]
    for content in sorted(
        files, key=lambda c: (c["tests_only"], all(d["status"] != "tested" for d in c["devices"]))
    ):
        install = (
            "comes with sdeppl" if not content["extra"] else f"`pip install 'sdeppl[{content['extra']}]'`"
        )
        for device in content["devices"]:
            dtypes = ", ".join(device["matrix"]) or "none"
            rows.append(
                [f"`{device['selector']}`", content["description"], device["status"], dtypes, install]
            )
        gaps += [[f"`{content['name']}`", gap["what"], gap["why"]] for gap in content["gaps"]]
    head = ["`SDEPPL_BACKEND`", "what it is", "status", "every numerical test runs in", "to install"]
    known = table(["backend", "known gap", "why"], gaps)
    return f"{table(head, rows)}\n\n### Known gaps\n\n{known}"


def solvers() -> str:
    """What each solver states of itself; tests/solvers measures it."""
    import pages

    import sdeppl

    rows = []
    for name in sdeppl._NAMES_OF_MODULE["solvers"].split():
        kind = getattr(sdeppl, name)
        if isinstance(kind, type) and issubclass(kind, sdeppl.Solver) and kind is not sdeppl.Solver:
            rows.append([f"[`{name}`](api/solvers.md#{pages.path_of(kind)})", *_orders(kind)])
    head = [
        "solver",
        *(f"strong, {noise}" for noise in NOISES),
        "weak",
        "no noise",
        "evaluations",
        "made for",
    ]
    return table(head, sorted(rows))


def _orders(kind: Any) -> list[str]:
    import sdeppl

    required = {sdeppl.PredictorCorrector: [sdeppl.AncestralSampler()], sdeppl.MilsteinLevy: [8]}
    made = kind(*required.get(kind, []))
    cells = [_number(made.strong_order[noise]) if noise in made.strong_order else "" for noise in NOISES]
    quiet = made.weak_order if made.order is None else made.order
    calculus = {"ito": "Itô", "stratonovich": "Stratonovich"}[made.calculus]
    return [*cells, _number(made.weak_order), _number(quiet), _number(made.evaluations), calculus]


def _number(value: float) -> str:
    if math.isnan(value):
        return "–"
    return "exact" if math.isinf(value) else f"{value:g}"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
