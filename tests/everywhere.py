"""The backends of the matrix that are on this machine, and which of them a case of a test runs on."""

import zlib
from typing import Any

import pytest
from checks import MATRIX
from simulation import SIMULATED

import sdeppl


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
HERE.sort(key=lambda pair: pair != ("numpy", "float64"))  # that one first
PRECISE = [selector for selector, dtype in HERE if dtype == "float64"]
ON: dict[str, list[Any]] = {"backend": HERE, "precise": PRECISE}  # the fixtures


class Diagonal:
    """Of each case of a test on every backend the first of them and another, the next for the next case."""

    def __init__(self) -> None:
        self.cases: dict[tuple[Any, ...], int] = {}
        self.counts: dict[str, int] = {}

    def has(self, item: pytest.Item) -> bool:
        """Whether an item runs. A case, a test but for its backend, gets its number when it comes first."""
        spec = getattr(item, "callspec", None)
        found = [] if spec is None else [name for name, on in ON.items() if spec.params.get(name) in on]
        if not found:
            return True
        name, test = found[0], item.nodeid.split("[")[0]
        place = ON[name].index(spec.params[name])
        if place == 0 or item.get_closest_marker("once"):
            return place == 0
        case = (test, *(id(value) for n, value in spec.params.items() if n != name))
        if case not in self.cases:
            self.cases[case] = self.counts[test] = self.counts.get(test, -1) + 1
        return place == 1 + (zlib.crc32(test.encode()) + self.cases[case]) % (len(ON[name]) - 1)
