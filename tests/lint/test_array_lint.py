"""The lint of array use: the layers pass it, and it catches what it is for."""

import pytest
from array_lint import PACKAGE, check, sources


def test_the_numerical_layers_pass():
    assert len(sources()) > 70
    found = [str(finding) for path in sources() for finding in check(path.read_text("utf-8"), path.name)]
    assert found == []


WAITS = "() in a step waits for the device"
CAUGHT = {
    "y = xp.clamp(x, min=0.0)": "xp.clamp is not in the Array API standard",
    "y = self.backend.xp.einsum('ij,j->i', A, x)": "xp.einsum is not in the Array API standard",
    "L = xp.linalg.solve_triangular(A, b)": "xp.linalg.solve_triangular is not in the Array API standard",
    "y = xp.zeros((3,))": "xp.zeros does not state dtype and device",
    "y = xp.eye(3, dtype=x.dtype)": "xp.eye does not state device",
    "y = xp.arange(3, device=device(x))": "xp.arange does not state dtype",
    "y = x.item()": ".item() is no method of a standard array",
    "y = x.detach()": ".detach() is no method of a standard array",
    "y = x.astype(xp.float32)": ".astype() is no method of a standard array",
    "def step(self, x):\n    return float(x[0])": "float" + WAITS,
    "def guided(self, x, t):\n    if bool(xp.any(x > 0)):\n        pass": "bool" + WAITS,
    "def drift(self, x, t):\n    def inner():\n        return to_host(x)": "to_host" + WAITS,
}


@pytest.mark.parametrize("source", CAUGHT)
def test_it_catches(source):
    assert [finding.text for finding in check(source)] == [CAUGHT[source]]


FINE = [
    "y = xp.clip(x, min=0.0)",
    "y = xp.astype(x, xp.float32)",
    "y = xp.linalg.eigh(A)",
    "y = xp.zeros((3,), dtype=x.dtype, device=device(x))",
    "y = xp.zeros((3,), **like)",
    "def prepare(self, x):\n    return float(x[0])",  # no step
    "def step(self, x):\n    return float('inf') + float(xp.finfo(x.dtype).eps)",
    "y = x.item()  # array-lint: on the host",
]


@pytest.mark.parametrize("source", FINE)
def test_it_lets_pass(source):
    assert check(source) == []


def test_it_reports_where():
    (finding,) = check("import math\n\ny = xp.zeros(3)\n", "sde/vp.py")
    assert str(finding) == "sde/vp.py:3: xp.zeros does not state dtype and device"
    assert (PACKAGE / "sde" / "vp.py").exists()
