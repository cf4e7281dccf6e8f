"""What stands in several files says the same: names in the stub, the version."""

import re
import tomllib

from checks import ROOT
from write_stub import STUB, stub

import sdeppl


def test_the_stub_is_up_to_date():
    assert STUB.read_text("utf-8") == stub(), "run python tests/lint/write_stub.py"


def test_one_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert project["version"] == sdeppl.__version__
    assert re.search(r"^version: (\S+)$", citation, re.M).group(1) == sdeppl.__version__
    assert re.search(r"^license: (\S+)$", citation, re.M).group(1) == project["license"]
    assert f"{sdeppl.__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")
