"""Crossing between libraries: the same numbers, and the same memory where that is promised."""

import numpy as np
import pytest
import torch
from checks import array, assert_array, host

import sdeppl as sp
from sdeppl.backend import convert, from_torch, place, to_host, to_torch

NUMBERS = np.array([[1.5, -2.25, 3.0], [0.0, 1e-3, -7.0]])
AWKWARD = {
    "read-only": lambda a: np.broadcast_to(a, (4, *a.shape)),
    "negative stride": lambda a: a[::-1, ::-1],
    "transposed": lambda a: a.T,
    "strided": lambda a: a[:, ::2],
    "byte-swapped": lambda a: a.astype(">f8"),
    "scalar": lambda a: a[0, 0],
    "empty": lambda a: a[:0],
}


def test_round_trip_through_torch(backend):
    tensor = to_torch(array(NUMBERS, backend))
    assert isinstance(tensor, torch.Tensor)
    assert_array(from_torch(tensor, backend), host(array(NUMBERS, backend)), backend, tolerance=0.0)


@pytest.mark.parametrize("kind", AWKWARD)
def test_numpy_arrays_that_torch_cannot_hold_cross_all_the_same(kind):
    awkward = AWKWARD[kind](NUMBERS.copy())
    tensor = to_torch(awkward)
    assert tensor.dtype == torch.float64
    np.testing.assert_array_equal(tensor.numpy(), awkward)


@pytest.mark.parametrize("kind", AWKWARD)
def test_awkward_numpy_arrays_convert_to_every_backend(kind, backend):
    awkward = AWKWARD[kind](NUMBERS.copy())
    expected = np.asarray(awkward, dtype=np.float64)
    assert_array(place(np.asarray(awkward), backend), expected, backend, tolerance=1e-7)
    if backend.name != "cupy" and "cuda" not in str(backend.device):
        assert_array(convert(np.asarray(awkward), backend), expected, backend, tolerance=1e-7)


def test_a_read_only_array_stays_as_it_was():
    fixed = NUMBERS.copy()
    fixed.flags.writeable = False
    to_torch(fixed)[0, 0] = 99.0
    np.testing.assert_array_equal(fixed, NUMBERS)


def test_numpy_and_torch_share_memory_both_ways():
    numbers = NUMBERS.copy()
    tensor = to_torch(numbers)
    tensor[0, 0] = 42.0
    assert numbers[0, 0] == 42.0
    back = from_torch(tensor, sp.resolve("numpy"))
    back[1, 1] = -42.0
    assert float(tensor[1, 1]) == -42.0 and np.shares_memory(back, numbers)


def test_convert_shares_memory_where_nothing_has_to_change():
    numpy64, torch64 = sp.resolve("numpy"), sp.resolve("torch")
    numbers, tensor = NUMBERS.copy(), torch.tensor(NUMBERS)
    assert np.shares_memory(convert(numbers, numpy64), numbers)
    assert convert(numbers, torch64).data_ptr() == numbers.ctypes.data
    assert convert(tensor, numpy64).ctypes.data == tensor.data_ptr()
    assert to_host(tensor).ctypes.data == tensor.data_ptr()


def test_strict_arrays_are_copied_on_the_way_to_torch():
    strict = array(NUMBERS, sp.resolve("strict:device1"))
    to_torch(strict)[0, 0] = 99.0
    np.testing.assert_array_equal(host(strict), NUMBERS)


def test_a_tensor_that_needs_a_gradient_crosses_detached(backend):
    tensor = torch.tensor(NUMBERS, requires_grad=True)
    if backend.device != tensor.device and backend.name in ("torch", "cupy"):
        pytest.skip("the tensor is on the CPU")
    crossed = from_torch(tensor * 2, backend)
    assert_array(crossed, 2 * NUMBERS, backend, tolerance=1e-7)
    assert not getattr(crossed, "requires_grad", False)
    assert not to_torch(tensor).requires_grad
    np.testing.assert_array_equal(to_host(tensor * 2), 2 * NUMBERS)


def test_place_takes_lists_numbers_and_arrays_of_any_library(backend):
    assert_array(place([[1, 2], [3, 4]], backend), [[1.0, 2.0], [3.0, 4.0]], backend, tolerance=0.0)
    assert_array(place(0.5, backend), 0.5, backend, tolerance=0.0)
    for selector in ("numpy", "torch", "strict", "strict:device1"):
        other = array(NUMBERS, sp.resolve(selector))
        assert_array(place(other, backend), NUMBERS, backend, tolerance=1e-7)


def test_place_copies_data_of_another_library():
    numbers = NUMBERS.copy()
    tensor = place(numbers, sp.resolve("torch"))
    tensor[0, 0] = 99.0
    np.testing.assert_array_equal(numbers, NUMBERS)


def test_another_device_is_refused_by_convert_and_crossed_by_place():
    there = sp.resolve("strict:device1")
    elsewhere = torch.ones(2, device="meta", dtype=torch.float64)
    for backend in (there, sp.resolve("numpy"), sp.resolve("torch")):
        with pytest.raises(sp.BackendMismatch, match="got a tensor on meta, expected"):
            from_torch(elsewhere, backend)
