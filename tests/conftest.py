"""Fixtures of all tests: one thread, fixed seeds, and the backends that the files in backends/ list."""

import os
import random
from typing import Any

# before NumPy is loaded: on a busy machine the threads of its linear algebra slow small matrices down
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from checks import MATRIX
from simulation import SIMULATED, opened

import sdeppl

torch.set_num_threads(1)


def _missing(selector: str) -> str | None:
    try:
        sdeppl.resolve(selector)
    except sdeppl.BackendUnavailable as error:
        return str(error)
    return None


MISSING = {selector: reason for selector, _ in MATRIX if (reason := _missing(selector))}
HERE = [pair for pair in MATRIX if pair[0] not in MISSING]
if "cupy" in MISSING:  # where it is not, it runs as what it is
    HERE.append((SIMULATED, "float64"))


def pytest_report_header() -> list[str]:
    """Which backends run, and which do not and why; tests/backend/test_backend_files.py skips for each."""
    tested = ", ".join("-".join(pair) for pair in HERE)
    return [f"backends tested: {tested}", *(f"backend not tested: {reason}" for reason in MISSING.values())]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Any:
    """What a simulated library cannot do is skipped, with the reason."""
    try:
        return (yield)
    except NotImplementedError as error:
        if "simulated CuPy" not in str(error):
            raise
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def seeds() -> None:
    """The same global random state for each test, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(params=HERE, ids=lambda pair: "-".join(pair))
def backend(request: pytest.FixtureRequest) -> Any:
    """Each backend, device and dtype of the matrix that is on this machine."""
    with opened(*request.param) as found:
        yield found


@pytest.fixture(params=[selector for selector, dtype in HERE if dtype == "float64"])
def precise(request: pytest.FixtureRequest) -> Any:
    """Each backend and device in float64: for measurements that float32 has no digits for."""
    with opened(request.param, "float64") as found:
        yield found
