"""Each Python block of README and documentation runs, page by page in one namespace, with small settings."""

import numpy as np
import pytest
import torch
from blocks import PAGES, blocks
from checks import ROOT

ERRORS = ROOT / "docs" / "guides" / "errors.md"
GIVEN = {"README.md": {"flow": np.full(100, 1000.0)}}  # names that a page takes for granted
LONG = {ROOT / "docs" / "guides" / "own_simulator.md"}  # half a million runs of a simulator


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(p, id=str(p.relative_to(ROOT)), marks=[pytest.mark.slow] if p in LONG else [])
        for p in PAGES
        if blocks(p) and p != ERRORS
    ],
)
def test_the_code_of_a_page_runs(page, small):
    namespace = {"__name__": "page", **GIVEN.get(str(page.relative_to(ROOT)), {})}
    before = torch.get_default_dtype()
    skipped = set()
    try:
        for block in blocks(page):
            if block.missing:
                skipped.add(block.needs)
            elif block.kind == "python":
                block.run(namespace)
    finally:
        torch.set_default_dtype(before)
    if skipped:
        pytest.skip(f"all but the code that needs {', '.join(sorted(skipped))} ran")


def test_the_beginners_errors_are_raised_word_by_word(small):
    """In errors.md a text block holds the error that the Python block before it ends in."""
    namespace, raised, compared = {"__name__": "page"}, None, 0
    for block in blocks(ERRORS):
        if block.kind == "text":
            assert " ".join(block.text.split()) == raised, f"{ERRORS}, line {block.line}"
            raised, compared = None, compared + 1
            continue
        assert raised is None, f"{ERRORS}, line {block.line}: the code before it raised {raised}"
        try:
            block.run(namespace)
        except Exception as error:
            module = type(error).__module__.split(".")[0]
            name = type(error).__name__ if module == "builtins" else f"{module}.{type(error).__name__}"
            raised = " ".join(f"{name}: {error}".split())
    assert compared == 10
