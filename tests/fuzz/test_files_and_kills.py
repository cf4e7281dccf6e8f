"""A small share of `damaged_files.py` and `kills.py`, of fixed seeds; `make fuzz` runs the whole."""

import sys

import damaged_files
import kills
import pytest


def test_damaged_files_are_refused_or_right():
    counts, bad = damaged_files.run(60, seed=1)
    assert not bad
    assert counts["refused"] > 100 and sum(counts.values()) == 180


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_killed_processes_lose_nothing():
    assert kills.run(3, seed=1).startswith("3 kills while training: every checkpoint opened")
