"""What the site is made of, without building it: `make docs` does that, strictly."""

import re
import sys

import pytest
from blocks import PAGES
from checks import FILES, ROOT

import sdeppl

sys.path.insert(0, str(ROOT / "docs"))
import pages
import tables


def test_every_public_name_has_a_place_in_the_api():
    text = "\n".join(page.text for page in pages.api())
    assert set(sdeppl._MODULES) == set(pages.modules())
    for name in sdeppl._MODULE_OF_NAME:
        assert f"::: {pages.path_of(getattr(sdeppl, name))}\n" in text, name


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
    page = next(page for page in pages.tutorials() if page.path == "tutorials/01_nile.md")
    assert page.title == "01 The level of the Nile, with forty years missing"
    assert page.text.startswith("# The level of the Nile")
    assert "guide.condition(y=y, kwargs=" in page.text and "# %%" not in page.text.replace("`# %%`", "")
    assert page.text.count("```") % 2 == 0


@pytest.mark.parametrize("page", [p for p in PAGES if p.parent != ROOT], ids=lambda p: p.name)
def test_links_and_pictures_of_a_page_lead_somewhere(page):
    made = {p.path for p in [*pages.tutorials(), *pages.api()]}
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
