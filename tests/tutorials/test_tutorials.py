"""The tutorials run as scripts, with small settings, on NumPy and torch; a bad backend ends in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

TUTORIALS = Path(__file__).parents[2] / "tutorials"
SCRIPTS = sorted(path.name for path in TUTORIALS.glob("[0-9][0-9]_*.py"))
OPTIONS = {("01_nile.py", "torch"): ["--nuts"]}  # run once with what is optional


def run(script, backend, *options):
    environment = os.environ | {"SDEPPL_BACKEND": backend, "SDEPPL_TUTORIAL": "quick"}
    return subprocess.run(
        [sys.executable, str(TUTORIALS / script), *options], env=environment, capture_output=True, text=True
    )


QUICK = {("01_nile.py", "numpy"), ("05_mean_likelihood.py", "numpy")}
CASES = [
    pytest.param(script, library, marks=[] if (script, library) in QUICK else pytest.mark.slow)
    for script in SCRIPTS
    for library in ("numpy", "torch")
]


@pytest.mark.parametrize(("script", "library"), CASES)
def test_a_tutorial_ends_in_its_assertions_and_a_picture(script, library):
    """Each script asserts on its own numbers, such as the errors against the Kalman smoother."""
    picture = TUTORIALS / "output" / "quick" / f"{script.removesuffix('.py')}.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(picture.with_suffix(".lock")):  # another process may run it on the other library
        picture.unlink(missing_ok=True)
        finished = run(script, library, *OPTIONS.get((script, library), []))
        assert finished.returncode == 0, finished.stderr
        assert f"backend: {library} on cpu in float64" in finished.stdout
        assert picture.read_bytes().startswith(b"\x89PNG")
    if (script, library) == ("01_nile.py", "numpy"):  # as `make demo` runs it: a verdict that can be given
        assert "NUTS" not in finished.stdout
        assert finished.stdout.splitlines()[-1].startswith("trusted: no error beyond")


def test_a_misspelt_backend_lists_the_valid_ones():
    finished = run("01_nile.py", "nunpy")
    assert finished.returncode == 1
    line = finished.stderr.strip()
    assert "\n" not in line
    assert line.startswith("sdeppl: SDEPPL_BACKEND='nunpy' names no backend; valid are: numpy, torch,")


def test_cupy_without_a_gpu_says_in_one_line_what_is_missing():
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    finished = run("01_nile.py", "cupy")
    assert finished.returncode == 1
    line = finished.stderr.strip()
    assert "\n" not in line
    assert line.startswith("sdeppl: SDEPPL_BACKEND='cupy': backend 'cupy' needs")
