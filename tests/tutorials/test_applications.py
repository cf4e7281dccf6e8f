"""Tutorials 06 and later run as scripts, with small settings, on NumPy and torch, to their own assertions."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TUTORIALS = Path(__file__).parents[2] / "tutorials"
SCRIPTS = (
    "06_eight_schools",
    "07_digits",
    "08_carbon_dioxide",
    "09_lorenz_63",
    "10_black_scholes",
)


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_tutorial_ends_in_its_assertions_and_a_picture(script, library):
    picture = TUTORIALS / "output" / f"{script}.png"
    picture.unlink(missing_ok=True)
    finished = subprocess.run(
        [sys.executable, str(TUTORIALS / f"{script}.py")],
        env=os.environ | {"SDEPPL_BACKEND": library, "SDEPPL_TUTORIAL": "quick"},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    assert f"backend: {library} on cpu in float64" in finished.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
