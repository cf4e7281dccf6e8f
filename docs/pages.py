"""Pages made from other files: tutorials (jupytext percent scripts), the API, the changelog."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from outputs import Cell, Output, Record, cells

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(ROOT.glob("tutorials/*.py"))
ABOUT = {  # each tutorial, for the list of them
    "01_nile": "a trajectory given data with gaps, against the exact answer",
    "02_brownian_motion": "quadratic variation, Itô and Stratonovich, Fokker–Planck against Monte Carlo",
    "03_reversing_time": "the score, noise amplitude c, VP, VE and sub-VP, schedules; with an animation",
    "04_learning_the_score": "guess the noise; what the network adds; when training was long enough",
    "05_mean_likelihood": "why p(y | x_t) is wrong: the ladder of mean likelihoods, and the correction",
    "06_eight_schools": "centred and non-centred, against HMC and quadrature",
    "07_digits": "filling in and super-resolution with a prior that is only data, on held-out digits",
    "08_carbon_dioxide": "a record with its real gaps: trend, season and weather, checked on hidden weeks",
    "09_lorenz_63": "assimilating observations into a chaotic trajectory, against a particle filter",
    "10_black_scholes": "prices from paths, and σ and r implied by quotes, against quadrature",
    "11_rare_transitions": "paths in a double well, conditioned on both ends, against weighted simulations",
    "12_climate_sensitivity": "a stochastic energy balance, against quadrature",
    "13_own_simulator_and_backend": "an epidemic, against importance sampling; on every array library",
    "14_field_of_stations": "a map from a few stations, or from means of blocks, the exact answer beside",
    "15_images": "filling in and deblurring patches of photographs, with a U-Net, on held-out ones",
    "mini_sdeppl": "300 lines, on NumPy alone",
}


@dataclass(frozen=True)
class Page:
    """A page that no file in docs/ holds. path: below docs/."""

    title: str
    path: str
    text: str


def tutorials(records: Mapping[str, Record]) -> list[Page]:
    """One page for each script of tutorials/; with what its cells print and draw, where there is a record."""
    return [_tutorial(path, records.get(path.stem)) for path in SCRIPTS]


def _tutorial(path: Path, record: Record | None) -> Page:
    found = cells(path)
    outputs = record.outputs if record else (Output("", ()),) * len(found)
    parts = [_cell(cell, output) for cell, output in zip(found, outputs, strict=True)]
    title = next(
        (m.group(1) for part in parts if (m := re.search(r"^# (.+)$", part, re.MULTILINE))), path.stem
    )
    note = (
        f"*This page is `tutorials/{path.name}`, which runs as a script, and as a notebook in editors that "
        "know `# %%` cells."
    )
    if record and record.is_quick:
        note += (
            " What stands below its cells was printed when the site was built, in the small settings of "
            "`SDEPPL_TUTORIAL=quick`: few draws, so coarse figures. Run it to see the full ones."
        )
    text = "\n\n".join([parts[0], note + "*", *parts[1:]])
    number = path.stem.split("_")[0]
    return Page(f"{number} {title}" if number.isdigit() else title, f"tutorials/{path.stem}.md", text)


def _cell(cell: Cell, output: Output) -> str:
    """A cell as Markdown, with what it printed and drew."""
    body = cell.body.strip()
    if cell.is_text:
        return "\n".join(re.sub(r"^# ?", "", line) for line in body.splitlines())
    parts = [f"```python\n{body}\n```"] if body else []
    if output.text.strip():
        parts.append(f"``` {{ .text .no-copy }}\n{output.text.strip()}\n```")
    return "\n\n".join([*parts, *(f"![{name}]({name})" for name in output.pictures)])


def tutorial_index(records: Mapping[str, Record]) -> Page:
    """The list of tutorials."""
    rows = []
    for script, page in zip(SCRIPTS, tutorials({}), strict=True):
        shown = records[script.stem].pictures[:1] if script.stem in records else []
        links = [f"[![{page.title}]({p.name}){{ width=480 }}]({script.stem}.md)" for p in shown]
        about = f"{ABOUT[script.stem][0].upper()}{ABOUT[script.stem][1:]}."
        rows.append("\n\n".join([f"## [{page.title}]({script.stem}.md)", about, *links]))
    text = (
        "# Tutorials\n\nEach is a script that ends in a picture and in assertions on its figures. "
        "`python tutorials/01_nile.py` runs one, `make tutorials` all of them, "
        "`SDEPPL_BACKEND=numpy` on NumPy; with `SDEPPL_TUTORIAL=quick` in small settings.\n\n"
    )
    return Page("Tutorials", "tutorials/index.md", text + "\n\n".join(rows) + "\n")


def modules() -> dict[str, str]:
    """Each public module, from the top layer down, and what its docstring says it is."""
    import sdeppl

    found = {}
    for name in sdeppl._MODULES:
        first = (import_module(f"sdeppl.{name}").__doc__ or "").strip().splitlines()[0]
        said = re.fullmatch(r"Layer (\d)[^:]*: (.*)", first)
        assert said is not None, f"sdeppl.{name} does not begin by its layer: {first!r}"
        found[name] = (-int(said[1]), said[2][0].upper() + said[2][1:])
    return {name: found[name][1] for name in sorted(found, key=lambda name: (found[name][0], name))}


WHOLE = ("linalg", "plots", "reference")  # modules of which all names are public


def api() -> list[Page]:
    """One page a module, with its public names."""
    import sdeppl

    found = []
    for module, about in modules().items():
        package = import_module(f"sdeppl.{module}")
        names = sdeppl._NAMES_OF_MODULE.get(module, "").split()
        names = public_names(package) if module in WHOLE or not names else names
        things = [getattr(package, name) for name in sorted(names)]
        parts = [f"# sdeppl.{module}", about]
        parts += [f"::: {path_of(thing)}" for thing in things if callable(thing)]  # no constants
        found.append(Page(module, f"api/{module}.md", "\n\n".join(parts) + "\n"))
    return found


def public_names(package: Any) -> list[str]:
    """`__all__`, or what the package took from its own modules."""
    own = [name for name, value in vars(package).items() if _is_of(value, package.__name__)]
    return list(getattr(package, "__all__", own))


def _is_of(value: Any, package: str) -> bool:
    return str(getattr(value, "__module__", "")).startswith(f"{package}.")


def path_of(thing: Any) -> str:
    """Where a class or a function is defined: `sdeppl.solvers.solve` is a module, too."""
    return f"{thing.__module__}.{thing.__qualname__}"


def api_index() -> Page:
    """The list of modules."""
    rows = [f"- [`sdeppl.{module}`]({module}.md): {about}" for module, about in modules().items()]
    text = (
        "# API\n\nEvery name below, but those of `linalg`, `plots` and `reference`, is in `sdeppl` itself: "
        "`import sdeppl as sp; sp.ScoreGuide`.\n\n"
    )
    return Page("API", "api/index.md", text + "\n".join(rows) + "\n")


def changes() -> Page:
    """The changelog."""
    return Page("Changes", "changes.md", (ROOT / "CHANGELOG.md").read_text("utf-8"))
