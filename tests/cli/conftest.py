"""A folder with a model, and the command in this process."""

import pytest
from commands import MODEL

from sdeppl.cli import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("cli")
    (found / "model.py").write_text(MODEL, "utf-8")
    return found


@pytest.fixture
def sdeppl(folder, monkeypatch, capsys):
    """words ↦ (exit code, what it printed, what it printed to stderr), run in the folder."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv("SDEPPL_BACKEND", raising=False)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")  # what the command sets is put back after the test

    def run(*words):
        code = main([str(word) for word in words])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run
