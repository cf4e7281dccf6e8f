"""Fixtures of all tests: one thread, fixed seeds, and the backends that the files in backends/ list."""

import os
import random
from typing import Any

# before NumPy is loaded: on a busy machine the threads of its linear algebra slow small matrices down
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from everywhere import HERE, MISSING, PRECISE, Diagonal
from simulation import opened

torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    """On how many backends a test runs."""
    said = "NumPy in float64 and one other, taken in turn from case to case of a test, or all"
    parser.addoption("--backends", choices=("two", "all"), default="two", help=said)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Which backends run, and which do not and why; tests/backend/test_files.py skips for each."""
    tested = ", ".join("-".join(pair) for pair in HERE)
    each = f"each case on {config.getoption('--backends')} of them"
    return [f"backends: {tested}; {each}", *(f"backend not tested: {reason}" for reason in MISSING.values())]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The mathematics once, the backends along a diagonal; a test named with :: runs where it is asked to.

    Every solver, likelihood, family and correction meets every backend in tests/backend/test_diagonal.py and
    test_agreement.py.
    """
    if config.getoption("--backends") == "all" or any("::" in argument for argument in config.args):
        return
    diagonal = Diagonal()
    on = [diagonal.has(item) for item in items]
    config.hook.pytest_deselected(items=[item for item, runs in zip(items, on, strict=True) if not runs])
    items[:] = [item for item, runs in zip(items, on, strict=True) if runs]


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


@pytest.fixture(params=PRECISE)
def precise(request: pytest.FixtureRequest) -> Any:
    """Each backend and device in float64: for measurements that float32 has no digits for."""
    with opened(request.param, "float64") as found:
        yield found
