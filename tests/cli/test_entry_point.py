"""The installed command: help without torch, completion, exit codes of wrong use."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from commands import installed

import sdeppl

NAMES = ["demo", "backends", "train", "sample", "check", "report", "completion"]


def test_help_lists_the_commands(tmp_path):
    finished = installed("--help", cwd=tmp_path)
    assert finished.returncode == 0
    assert all(re.search(rf"\n    {name}\s", finished.stdout) for name in NAMES)
    assert "exit codes: 0 good" in finished.stdout


def test_without_a_command_it_helps_and_is_wrong_use(tmp_path):
    finished = installed(cwd=tmp_path)
    assert finished.returncode == 2
    assert finished.stdout.startswith("usage: sdeppl")
    assert installed("trian", cwd=tmp_path).returncode == 2


def test_python_m_sdeppl_is_the_same_command(tmp_path):
    finished = subprocess.run(
        [sys.executable, "-m", "sdeppl", "--version"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (finished.returncode, finished.stdout) == (0, f"sdeppl {sdeppl.__version__}\n")


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["completion", "bash"]])
def test_help_and_completion_load_neither_torch_nor_numpy(words):
    code = (
        "import sys\nfrom sdeppl.cli import main\n"
        f"try:\n    main({words!r})\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "found = {'torch', 'numpy', 'pyro', 'scipy', 'matplotlib', 'arviz'} & set(sys.modules)\n"
        "assert not found, found\n"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["sdeppl", "tr"], ["train"]),
        (["sdeppl", "train", "--che"], ["--checkpoint"]),
        (["sdeppl", "sample", "--dr"], ["--draws"]),
        (["sdeppl", "sample", "prior.safetensors", "--mo"], ["--model"]),
        (["sdeppl", "sample", "prior.safetensors", "--data", "y"], []),  # a file again
        (["sdeppl", "train", "mod"], []),  # left to the shell: a file
    ],
)
def test_bash_completes(typed, expected, tmp_path):
    script = installed("completion", "bash", cwd=tmp_path).stdout
    words = " ".join(f"'{word}'" for word in typed)
    script += f'\nCOMP_WORDS=({words}); COMP_CWORD={len(typed) - 1}; _sdeppl; echo "${{COMPREPLY[@]}}"'
    finished = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert finished.stdout.split() == expected, finished.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_read_their_script(shell, tmp_path):
    script = installed("completion", shell, cwd=tmp_path).stdout
    assert all(name in script for name in NAMES) and "checkpoint" in script
    if shutil.which(shell):
        finished = subprocess.run([shell, "-c", script], capture_output=True, text=True)
        assert finished.returncode == 0, finished.stderr


def test_backends_says_what_is_usable_and_why_not(tmp_path):
    finished = installed("backends", cwd=tmp_path, SDEPPL_BACKEND="numpy")
    assert finished.returncode == 0, finished.stderr
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in finished.stdout.splitlines()[:6]}
    assert set(rows) == {"numpy", "torch", "torch:cpu", "torch:cuda", "cupy", "strict"}
    for selector, (usable, text) in rows.items():
        try:
            assert (usable, text.split(",")[0]) == ("yes", str(sdeppl.resolve(selector)))
        except sdeppl.BackendUnavailable as error:
            assert usable == "no" and text in str(error)
    assert finished.stdout.endswith("SDEPPL_BACKEND=numpy: numpy on cpu in float64\n")


def test_a_misspelt_backend_is_wrong_use(tmp_path):
    finished = installed("backends", cwd=tmp_path, SDEPPL_BACKEND="nunpy")
    assert finished.returncode == 2
    assert finished.stderr.startswith("sdeppl: error: ") and "valid are: numpy, torch" in finished.stderr
    assert len(finished.stderr.splitlines()) == 1


@pytest.mark.parametrize(("words", "threads"), [([], 1), (["--threads", "2"], 2)])
def test_threads_are_limited_before_torch_is_loaded(words, threads):
    code = (
        f"from sdeppl.cli import main\nassert main(['backends', '-q', *{words!r}]) == 0\n"
        f"import torch\nassert torch.get_num_threads() == {threads}, torch.get_num_threads()\n"
    )
    environment = {name: value for name, value in os.environ.items() if "NUM_THREADS" not in name}
    finished = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr


def test_a_closed_pipe_is_no_error(tmp_path):
    command = f"{os.fspath(sys.executable)} -m sdeppl backends | head -1"
    finished = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert finished.stdout.startswith("numpy") and not finished.stderr
