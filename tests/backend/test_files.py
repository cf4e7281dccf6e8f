"""backends/*.toml, the adapters, the extras and the README tell one story."""

import re
import tomllib

import pytest
from checks import FILES, MATRIX, ROOT, array, assert_array

import sdeppl
from sdeppl.backend.adapters import ADAPTERS

FIELDS = {
    "name": str,
    "description": str,
    "install": list,
    "extra": str,
    "selectors": list,
    "dtypes": list,
    "tests_only": bool,
    "tolerances": dict,
    "devices": list,
    "gaps": list,
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EACH_FILE = pytest.mark.parametrize("content", FILES.values(), ids=FILES)


def test_one_file_for_each_adapter():
    assert set(FILES) == set(ADAPTERS)


@EACH_FILE
def test_every_file_has_the_same_fields(content):
    assert {name: type(value) for name, value in content.items()} == FIELDS
    assert content["description"] and "\n" not in content["description"]
    assert set(content["tolerances"]) == set(content["dtypes"]) <= {"float64", "float32"}
    assert all(set(gap) == {"what", "why"} for gap in content["gaps"])
    for device in content["devices"]:
        assert set(device) == {"name", "selector", "status", "matrix"}
        assert device["status"] in ("tested", "simulated", "untested")
        assert set(device["matrix"]) <= set(content["dtypes"])


@pytest.mark.parametrize("name", FILES)
def test_name_and_selectors_are_the_adapters(name):
    content = FILES[name]
    assert content["name"] == name
    assert tuple(content["selectors"]) == ADAPTERS[name].selectors


@EACH_FILE
def test_each_device_is_selected_by_a_listed_selector(content):
    patterns = [re.sub(r"<\w+>", r"\\w+", selector) for selector in content["selectors"]]
    for device in content["devices"]:
        assert any(re.fullmatch(pattern, device["selector"]) for pattern in patterns)


@EACH_FILE
def test_what_to_install_is_what_pyproject_installs(content):
    extras = PROJECT["optional-dependencies"]
    assert not content["extra"] or content["extra"] in extras
    listed = extras[content["extra"]] if content["extra"] else PROJECT["dependencies"]
    assert set(content["install"]) <= set(listed)


@EACH_FILE
def test_the_readme_names_each_selector(content):
    """One that is there for tests only may be left out."""
    readme = (ROOT / "README.md").read_text("utf-8")
    selectors = [] if content["tests_only"] else content["selectors"]
    missing = [selector for selector in selectors if f"`{selector}`" not in readme]
    assert not missing, f"README.md lacks {missing}"


@pytest.mark.parametrize(("selector", "dtype"), MATRIX)
def test_each_backend_of_the_matrix_opens_or_says_what_is_missing(selector, dtype):
    """Numerical tests run on those that open; this is the one place where the others are skipped."""
    try:
        backend = sdeppl.resolve(selector, dtype)
    except sdeppl.BackendUnavailable as error:
        assert "\n" not in str(error)
        pytest.skip(str(error))
    assert_array(array([[1.5, -2.0]], backend) @ array([[2.0], [1.0]], backend), [[1.0]], backend)
