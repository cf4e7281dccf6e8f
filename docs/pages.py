"""Pages made from other files: tutorials (jupytext percent scripts), the API, the changelog."""

import re
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
OUTPUT = ROOT / "tutorials" / "output"  # what `make tutorials` has drawn; quick runs draw into `quick` there


@dataclass(frozen=True)
class Page:
    """A page that no file in docs/ holds. path: below docs/."""

    title: str
    path: str
    text: str


def tutorials() -> list[Page]:
    """One page for each script of tutorials/, with the picture that it ends in where there is one."""
    return [_tutorial(path) for path in sorted(ROOT.glob("tutorials/*.py"))]


def _tutorial(path: Path) -> Page:
    cells = re.split(r"^# %%", path.read_text("utf-8"), flags=re.MULTILINE)[1:]
    parts = [_cell(cell) for cell in cells]
    title = next(
        (m.group(1) for part in parts if (m := re.search(r"^# (.+)$", part, re.MULTILINE))), path.stem
    )
    note = (
        f"*This page is `tutorials/{path.name}`, which runs as a script, and as a notebook in editors that "
        "know `# %%` cells.*"
    )
    shown = [f"![{title}]({picture.name})" for picture in pictures(path)]
    first, rest = (parts[0], parts[1:]) if parts else ("", [])
    text = "\n\n".join([first, note, *shown, *rest])
    number = path.stem.split("_")[0]
    return Page(f"{number} {title}" if number.isdigit() else title, f"tutorials/{path.stem}.md", text)


def pictures(script: Path) -> list[Path]:
    """Those that a tutorial has drawn: their names begin with the script's."""
    return sorted(path for path in OUTPUT.glob(f"{script.stem}*") if path.suffix in (".png", ".gif"))


def _cell(cell: str) -> str:
    """A cell as Markdown. Only [markdown] cells are text; the rest of their first line is their kind."""
    kind, _, body = cell.partition("\n")
    if "[markdown]" in kind:
        return "\n".join(re.sub(r"^# ?", "", line) for line in body.strip().splitlines())
    return f"```python\n{body.strip()}\n```" if body.strip() else ""


def tutorial_index() -> Page:
    """The list of tutorials."""
    rows = []
    for script, page in zip(sorted(ROOT.glob("tutorials/*.py")), tutorials(), strict=True):
        shown = [
            f"[![{page.title}]({p.name}){{ width=480 }}]({script.stem}.md)" for p in pictures(script)[:1]
        ]
        rows.append("\n\n".join([f"## [{page.title}]({script.stem}.md)", *shown]))
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
        layer, _, about = first.removeprefix("Layer ").partition(": ")
        found[name] = (-int(layer), about[0].upper() + about[1:])
    return {name: found[name][1] for name in sorted(found, key=lambda name: (found[name][0], name))}


def api() -> list[Page]:
    """One page a module, with its public names."""
    import sdeppl

    found = []
    for module, about in modules().items():
        package = import_module(f"sdeppl.{module}")
        names = sdeppl._NAMES_OF_MODULE.get(module, "").split() or package.__all__
        things = [getattr(package, name) for name in sorted(names)]
        parts = [f"# sdeppl.{module}", about]
        parts += [f"::: {path_of(thing)}" for thing in things if callable(thing)]  # no constants
        found.append(Page(module, f"api/{module}.md", "\n\n".join(parts) + "\n"))
    return found


def path_of(thing: Any) -> str:
    """Where a class or a function is defined: `sdeppl.solvers.solve` is a module, too."""
    return f"{thing.__module__}.{thing.__qualname__}"


def api_index() -> Page:
    """The list of modules."""
    rows = [f"- [`sdeppl.{module}`]({module}.md): {about}" for module, about in modules().items()]
    text = (
        "# API\n\nEvery name below, but those of `plots` and `reference`, is in `sdeppl` itself: "
        "`import sdeppl as sp; sp.ScoreGuide`.\n\n"
    )
    return Page("API", "api/index.md", text + "\n".join(rows) + "\n")


def changes() -> Page:
    """The changelog."""
    return Page("Changes", "changes.md", (ROOT / "CHANGELOG.md").read_text("utf-8"))
