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


def pytest_report_header() -> list[str]:
    """Which backends run, and which do not and why; tests/backend/test_backend_files.py skips for each."""
    tested = ", ".join("-".join(pair) for pair in HERE)
    return [f"backends tested: {tested}", *(f"backend not tested: {reason}" for reason in MISSING.values())]


@pytest.fixture(autouse=True)
def seeds() -> None:
    """The same global random state for each test, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(params=HERE, ids=lambda pair: "-".join(pair))
def backend(request: pytest.FixtureRequest) -> Any:
    """Each backend, device and dtype of the matrix that is on this machine."""
    return sdeppl.resolve(*request.param)


@pytest.fixture(params=[selector for selector, dtype in HERE if dtype == "float64"])
def precise(request: pytest.FixtureRequest) -> Any:
    """Each backend and device in float64: for measurements that float32 has no digits for."""
    return sdeppl.resolve(request.param, "float64")
