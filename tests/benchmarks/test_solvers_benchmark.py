"""benchmarks/solvers.py runs, and refuses to time a wrong answer."""

import importlib
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_it_prints_a_row_for_each_method_and_problem():
    """NumPy's methods only: the others take seconds to import. The script checks their answers itself."""
    options = ["--short", "--rounds", "2", "--only", "NumPy SFC64", "NumPy, native", "hand-fused NumPy"]
    finished = subprocess.run(
        [sys.executable, str(BENCHMARKS / "solvers.py"), *options], capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr
    for problem in ("ou: 2,000 paths × 50 steps, dimension 1", "lorenz: 200 paths × 50 steps, dimension 3"):
        rows = finished.stdout.split(problem)[1].splitlines()[2:5]
        names = ["NumPy SFC64", "sdeppl, NumPy, native", "hand-fused NumPy"]
        assert [row[:30].strip() for row in rows] == names
        assert all(float(row[30:44]) > 0 for row in rows)
        assert rows[0].endswith(" -") and all(row.endswith(" se") for row in rows[1:])


@pytest.fixture
def solvers(monkeypatch):
    """The script as a module."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("solvers")


def worker(solvers, name, mean, variance, paths=10_000):
    problem = replace(solvers.loops.PROBLEMS[name], paths=paths)
    run = {"mean": mean, "variance": variance, "paths": paths}
    return SimpleNamespace(name="a method", problem=problem, runs=[run])


def test_a_wrong_mean_or_variance_is_refused(solvers):
    loops = solvers.loops
    mean, variance = 2 * math.exp(-loops.A), loops.B**2 / (2 * loops.A) * (1 - math.exp(-2 * loops.A))
    error = math.sqrt(variance / 10_000)
    good = worker(solvers, "ou", [mean + 2 * error], [variance])
    assert solvers.check(good, [good]) == "2.0 se"
    for wrong in ([mean + 6 * error], [variance]), ([mean], [variance * 1.1]):
        with pytest.raises(AssertionError, match="a method on ou is wrong by"):
            solvers.check(worker(solvers, "ou", *wrong), [good])


def test_a_mean_unlike_the_others_is_refused(solvers):
    others = [worker(solvers, "lorenz", [1.0, 2.0, 3.0], [1.0, 1.0, 1.0]) for _ in range(3)]
    assert solvers.check(others[0], others) == "0.0 se"
    wrong = worker(solvers, "lorenz", list(np.array([1.0, 2.0, 3.06])), [1.0, 1.0, 1.0])
    with pytest.raises(AssertionError, match=r"wrong by 6\.0 standard errors"):
        solvers.check(wrong, [*others, wrong])
