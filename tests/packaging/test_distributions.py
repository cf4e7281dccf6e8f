"""Wheel and sdist hold what they should, and the wheel works where nothing else of the repository is."""

import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from checks import ROOT
from subprocesses import run

import sdeppl as sp

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def names_in(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_the_package_and_nothing_else(distributions):
    found = names_in(distributions[1])
    source = ROOT / "src"
    package = {
        str(path.relative_to(source))
        for path in (source / "sdeppl").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    information = f"sdeppl-{sp.__version__}.dist-info"
    assert {name for name in found if not name.startswith(information)} == package
    assert "sdeppl/py.typed" in found
    assert f"{information}/licenses/LICENSE" in found


def test_the_wheel_s_metadata(distributions):
    information = f"sdeppl-{sp.__version__}.dist-info"
    with zipfile.ZipFile(distributions[1]) as archive:
        metadata = archive.read(f"{information}/METADATA").decode()
        entry_points = archive.read(f"{information}/entry_points.txt").decode()
    assert f"\nVersion: {sp.__version__}\n" in metadata
    assert "\nRequires-Python: >=3.11\n" in metadata
    assert "\nClassifier: Typing :: Typed\n" in metadata
    assert "sdeppl = sdeppl.cli:main" in entry_points
    assert all(f"\nProvides-Extra: {extra}\n" in metadata for extra in PROJECT["optional-dependencies"])


def test_the_sdist_holds_what_a_packager_needs(distributions):
    with tarfile.open(distributions[0]) as archive:
        found = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {"pyproject.toml", "README.md", "LICENSE", "CITATION.cff", "tests/conftest.py"} <= found
    assert {"tutorials/01_nile.py", "backends/torch.toml"} <= found
    hidden = {name for name in found if name.startswith((".venv", ".ci", ".git/", "site/", "dist/"))}
    assert not hidden


def test_the_wheel_is_what_is_imported(environment, tmp_path):
    code = "import sdeppl; print(sdeppl.__file__); import sdeppl.cli; sdeppl.ScoreGuide, sdeppl.solve"
    finished = run(environment / "python", "-I", "-c", code, cwd=tmp_path)
    assert Path(finished.stdout.splitlines()[0]).is_relative_to(environment.parent)


def test_the_command_is_installed(environment, tmp_path):
    assert run(environment / "sdeppl", "--help", cwd=tmp_path).stdout.startswith("usage: sdeppl")
    assert "numpy on cpu in float64" in run(environment / "sdeppl", "backends", cwd=tmp_path).stdout


def test_a_posterior_trained_here_is_sampled_there(environment, tmp_path):
    """On NumPy, without torch or Pyro, to the same draws."""

    def model(y=None):
        x = pyro.sample("x", dist.Normal(torch.tensor([1.0, -2.0], dtype=torch.float64), 3.0).to_event(1))
        pyro.sample("y", dist.Normal(2 * x, 0.5).to_event(1), obs=y)

    posterior = sp.ScoreGuide(model, net=None).fit_gaussian(2_000, progress=False).condition(y=[1.0, 2.0])
    posterior.save(tmp_path / "posterior.safetensors")
    code = (
        "import sys, numpy, sdeppl\n"
        "draws = sdeppl.load_posterior('posterior.safetensors', 'numpy').sample(50, seed=3)\n"
        "numpy.save('draws.npy', draws['x'])\n"
        "assert not {'torch', 'pyro'} & set(sys.modules)\n"
    )
    run(environment / "python", "-I", "-c", code, cwd=tmp_path)
    expected = sp.to_host(posterior.sample(50, seed=3)["x"])
    np.testing.assert_allclose(np.load(tmp_path / "draws.npy"), expected, atol=1e-9)


def test_type_checkers_see_the_types(environment, tmp_path):
    """The names are loaded when they are used, so the stub is where a type checker finds them."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sdeppl as sp\n\nreveal_type(sp.resolve)\nreveal_type(sp.ScoreGuide)\nsp.resolv\n"
    )
    # what torch and the like are made of is not asked for, and takes half a minute
    (tmp_path / "mypy.ini").write_text(
        "[mypy]\nignore_missing_imports = True\n[mypy-torch.*,numpy.*,scipy.*,matplotlib.*]\n"
        "follow_imports = skip\nfollow_imports_for_stubs = True\n",
        "utf-8",
    )
    words = ["--config-file", tmp_path / "mypy.ini", "--python-executable", environment / "python", script]
    finished = subprocess.run(
        [sys.executable, "-m", "mypy", *map(str, words)], cwd=tmp_path, capture_output=True, text=True
    )
    assert "-> sdeppl.backend.arrays.Backend" in finished.stdout, finished.stdout
    assert "sdeppl.guide.guide.ScoreGuide" in finished.stdout
    assert 'Module has no attribute "resolv"' in finished.stdout
