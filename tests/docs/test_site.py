"""What the site is made of, without building it: `make docs` does that, strictly."""

import re
import sys

import pytest
from blocks import PAGES
from checks import FILES, ROOT

import sdeppl

sys.path.insert(0, str(ROOT / "docs"))
import outputs
import pages
import tables


def test_every_public_name_has_a_place_in_the_api():
    text = "\n".join(page.text for page in pages.api())
    assert set(sdeppl._MODULES) == set(pages.modules())
    for name in sdeppl._MODULE_OF_NAME:
        assert f"::: {pages.path_of(getattr(sdeppl, name))}\n" in text, name
    assert "::: sdeppl.linalg.operators.LinearOperator\n" in text


def test_the_backend_table_has_every_device_and_gap():
    table = tables.backends()
    for content in FILES.values():
        assert all(f"| `{device['selector']}` |" in table for device in content["devices"])
        assert all(gap["what"] in table and gap["why"] in table for gap in content["gaps"])


def test_the_solver_table_states_what_the_classes_state():
    rows = {re.search(r"`(\w+)`", line).group(1): line for line in tables.solvers().splitlines()[2:]}
    kinds = {getattr(sdeppl, name) for name in sdeppl._NAMES_OF_MODULE["solvers"].split()}
    solvers = {k.__name__ for k in kinds if isinstance(k, type) and issubclass(k, sdeppl.Solver)} - {"Solver"}
    assert set(rows) == solvers
    cells = [cell.strip() for cell in rows["StochasticHeun"].strip("|").split("|")]
    assert cells[1:] == ["1", "1", "1", "0.5", "1", "2", "2", "Stratonovich"]


def test_a_tutorial_s_page_has_all_of_its_text_and_code():
    page = next(page for page in pages.tutorials({}) if page.path == "tutorials/01_nile.md")
    assert page.title == "01 The level of the Nile, with forty years missing"
    assert page.text.startswith("# The level of the Nile")
    assert "guide.condition(y=y, kwargs=" in page.text and "# %%" not in page.text.replace("`# %%`", "")
    assert page.text.count("```") % 2 == 0


SCRIPT = """# %% [markdown]
# # A square
# in two cells

# %%
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Square:
    side: float


print("in small settings:", os.environ["SDEPPL_TUTORIAL"] == "quick")

# %%
folder = Path(__file__).parent / "output" / "quick"
(folder / "square.png").write_bytes(b"a picture")
print(Square(2.0).side ** 2, __name__)
assert Square(1.0).side == SIDE
"""


@pytest.fixture
def square(tmp_path, monkeypatch):
    """A tutorial on a square of side 1, and no library that its record could depend on."""
    monkeypatch.setattr(outputs, "ROOT", tmp_path)
    monkeypatch.delenv("SDEPPL_TUTORIAL", raising=False)
    script = tmp_path / "square.py"
    script.write_text(SCRIPT.replace("SIDE", "1.0"))
    return script


def test_a_tutorial_is_run_cell_by_cell_and_again_only_when_it_has_changed(square):
    first = outputs.records([square])["square"]
    assert [output.text for output in first.outputs] == ["", "in small settings: True\n", "4.0 __main__\n"]
    assert [output.pictures for output in first.outputs] == [(), (), ("square.png",)]
    assert first.is_quick and first.pictures[0].read_bytes() == b"a picture"
    first.pictures[0].write_bytes(b"by hand")
    assert outputs.records([square])["square"] == first
    assert first.pictures[0].read_bytes() == b"by hand"
    square.write_text(square.read_text().replace("2.0", "3.0"))
    assert outputs.records([square])["square"].outputs[2].text == "9.0 __main__\n"
    assert first.pictures[0].read_bytes() == b"a picture"


def test_a_tutorial_whose_assertion_fails_fails_the_build(square):
    square.write_text(square.read_text().replace("== 1.0", "== 2.0"))
    with pytest.raises(RuntimeError, match=r"(?s)square\.py.*line 22.*AssertionError"):
        outputs.records([square])


def test_what_a_cell_printed_and_drew_stands_below_it(square):
    text = pages._tutorial(square, outputs.records([square])["square"]).text
    pieces = ["# A square", "SDEPPL_TUTORIAL=quick", "class Square", "small settings: True\n", "Square(2.0)"]
    pieces += ["4.0 __main__\n```", "![square.png](square.png)"]
    places = [text.index(piece) for piece in pieces]
    assert places == sorted(places) and text.count("```") == 8


def test_each_tutorial_is_described():
    assert set(pages.ABOUT) == {script.stem for script in pages.SCRIPTS}


def test_the_files_that_the_architecture_names_are_there():
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    named = {name for name in re.findall(r"`([\w/]+/[\w./]*)`", text) if "." in name or name.endswith("/")}
    places = (ROOT, ROOT / "src", ROOT / "src" / "sdeppl")
    assert len(named) > 40
    assert not {name for name in named if not any((place / name).exists() for place in places)}


@pytest.mark.parametrize("page", [p for p in PAGES if p.parent != ROOT], ids=lambda p: p.name)
def test_links_and_pictures_of_a_page_lead_somewhere(page):
    made = {p.path for p in [*pages.tutorials({}), *pages.api()]}
    made |= {"tutorials/index.md", "api/index.md", "changes.md"}
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        found = (page.parent / target).resolve()
        if not found.is_relative_to(ROOT / "docs"):
            pytest.fail(f"{page}: {target} is outside docs/")
        assert found.is_file() or str(found.relative_to(ROOT / "docs")) in made, f"{page}: {target}"


def test_the_site_loads_nothing_from_elsewhere():
    """Fonts, formulas and search come from docs/vendor; README.txt there says which versions."""
    settings = (ROOT / "mkdocs.yml").read_text("utf-8")
    assert not re.search(r"https?://", settings)
    for path in re.findall(r"vendor/[\w./-]+", settings):
        assert (ROOT / "docs" / path).is_file(), path
    style = (ROOT / "docs/vendor/katex/katex.min.css").read_text("utf-8")
    fonts = set(re.findall(r"url\(([^)]+)\)", style))
    assert fonts and all((ROOT / "docs/vendor/katex" / font).is_file() for font in fonts)
