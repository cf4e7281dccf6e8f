"""How much memory is free, what does not fit, and rows in chunks."""

import numpy as np
import pytest
from checks import array, assert_array, host
from simulation import simulated_cupy

import sdeppl as sp
from sdeppl.backend import OutOfMemory, free_memory, in_chunks, require_memory, resources, rows_at_once

HOST = sp.resolve("numpy")


def test_the_variable_stands_in_place_of_all_else(monkeypatch):
    monkeypatch.setenv("SDEPPL_MEMORY_GB", "2.5")
    assert free_memory(HOST) == 2_500_000_000
    monkeypatch.setenv("SDEPPL_MEMORY_GB", "lots")
    with pytest.raises(ValueError, match=r"SDEPPL_MEMORY_GB must be a number of gigabytes above 0.*'lots'"):
        free_memory(HOST)


def test_the_least_of_what_the_system_says_counts(monkeypatch):
    for name, size in (("_available", 8), ("_of_group", 3), ("_of_limit", None)):
        monkeypatch.setattr(resources, name, lambda size=size: size)
    assert free_memory(HOST) == 3
    monkeypatch.setattr(resources, "_of_group", lambda: None)
    assert free_memory(HOST) == 8
    monkeypatch.setattr(resources, "_available", lambda: None)
    assert free_memory(HOST) is None


def test_a_control_group_leaves_what_its_parents_leave(monkeypatch, tmp_path):
    inner = tmp_path / "jobs" / "one"
    inner.mkdir(parents=True)
    limits = ((tmp_path / "jobs", "1000", "700", 50), (inner, "max", "10", 0))
    for place, most, used, files in limits:
        (place / "memory.max").write_text(f"{most}\n")
        (place / "memory.current").write_text(f"{used}\n")
        (place / "memory.stat").write_text(f"anon 1\ninactive_file {files}\n")
    monkeypatch.setattr(resources, "CGROUP", tmp_path)
    monkeypatch.setattr(resources, "_own_group", lambda: "/jobs/one")
    assert resources._of_group() == 350


def test_a_device_counts_its_own_memory_and_what_its_pool_holds():
    with simulated_cupy() as backend:
        assert free_memory(backend) == 7 * 10**9


def test_a_limit_on_addresses_counts(monkeypatch):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (2**40, 2**40))
    left = resources._of_limit()
    if left is not None:  # on Linux
        assert 2**39 < left < 2**40


def test_what_does_not_fit_is_an_error_with_its_size_what_is_free_and_what_to_do(monkeypatch):
    monkeypatch.setenv("SDEPPL_MEMORY_GB", "1")
    require_memory(0.9e9, HOST, "a solve", "ask for fewer draws")
    with pytest.raises(
        OutOfMemory, match="a solve takes about 3 GB, and 1 GB are free; ask for fewer draws"
    ) as caught:
        require_memory(3e9, HOST, "a solve", "ask for fewer draws")
    assert isinstance(caught.value, MemoryError)
    assert rows_at_once(1e6, HOST, "a row", "") == resources.AT_ONCE // 1_000_000
    assert rows_at_once(1e8, HOST, "a row", "") == 2
    assert rows_at_once(0.9e9, HOST, "a row", "") == 1
    with pytest.raises(OutOfMemory, match="a row takes about 2 GB"):
        rows_at_once(2e9, HOST, "a row", "do less")


def test_rows_in_chunks_are_the_rows(precise):
    rng, seen = np.random.default_rng(0), []
    rows = array(rng.normal(size=(7, 3)), precise)

    def function(part, place):
        seen.append((part.shape[0], place))
        return part * 2, part[:, 0] + place.start

    twice, first = in_chunks(function, rows, 3)
    assert [count for count, _ in seen] == [3, 3, 1]
    assert_array(twice, 2 * host(rows), precise)
    assert_array(first, host(rows)[:, 0] + np.array([0, 0, 0, 3, 3, 3, 6]), precise)
    assert_array(in_chunks(lambda part, _: part, rows, 7), host(rows), precise)
