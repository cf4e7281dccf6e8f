"""Fixtures of all tests: one thread, fixed seeds, and the backends that the files in backends/ list."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from checks import FILES

import sdeppl

torch.set_num_threads(1)

MATRIX = [
    (device["selector"], dtype)
    for content in FILES.values()
    for device in content["devices"]
    for dtype in device["matrix"]
]


@pytest.fixture(autouse=True)
def seeds() -> None:
    """The same global random state for each test, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def _open(selector: str, dtype: str) -> Any:
    try:
        return sdeppl.resolve(selector, dtype)
    except sdeppl.BackendUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(params=MATRIX, ids=lambda pair: "-".join(pair))
def backend(request: pytest.FixtureRequest) -> Any:
    """Each backend, device and dtype of the matrix; skipped, with the reason, where it is missing."""
    return _open(*request.param)


@pytest.fixture(params=[s for s, dtype in MATRIX if dtype == "float64"])
def precise(request: pytest.FixtureRequest) -> Any:
    """Each backend and device in float64: for measurements that float32 has no digits for."""
    return _open(request.param, "float64")
