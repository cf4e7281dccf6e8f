"""The distributions, built as for a release, and an environment that they alone are installed into."""

import sys
import sysconfig
from pathlib import Path

import pytest
from checks import ROOT
from subprocesses import run


@pytest.fixture(scope="session")
def distributions(tmp_path_factory):
    """(sdist, wheel): the wheel is built from the sdist, so that what the sdist lacks is found out."""
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="session")
def environment(distributions, tmp_path_factory):
    """The folder of the executables of a new environment with the wheel.

    The libraries that it depends on are those of this environment, put on the path by a .pth file, in
    which an editable sdeppl is not looked for.
    """
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    scripts = folder / ("Scripts" if sys.platform == "win32" else "bin")
    python = scripts / Path(sys.executable).name
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--no-deps",
        "--no-index",
        distributions[1],
    )
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip()
    (Path(site) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return scripts
