"""Data in any dtype, byte order, layout and container arrive as the numbers they are; by hypothesis."""

from decimal import Decimal
from fractions import Fraction

import hypothesis.extra.numpy as some
import numpy as np
import pandas as pd
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from sdeppl.backend import host_numbers

ORDERS = ("<", ">", "=")
REAL = st.one_of(
    some.boolean_dtypes(),
    *(some.integer_dtypes(endianness=order) for order in ORDERS),
    *(some.unsigned_integer_dtypes(endianness=order) for order in ORDERS),
    *(some.floating_dtypes(endianness=order) for order in ORDERS),
)
SHAPES = some.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
always = settings(derandomize=True, max_examples=300, deadline=None, database=None)


def same(found, expected):
    assert found.dtype.isnative and found.dtype.kind in "biuf" and found.dtype.itemsize <= 8
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found, expected.astype(found.dtype))


@always
@given(some.arrays(REAL, SHAPES), st.data())
def test_arrays_and_views_of_them(array, data):
    """Transposed, turned round, every other row; to float64 whole numbers up to 2⁶³ are exact in int64."""
    same(host_numbers(array), array)
    same(host_numbers(array.T), array.T)
    if array.ndim:
        step = data.draw(st.sampled_from([-2, -1, 2]))
        same(host_numbers(array[::step]), array[::step])


@always
@given(some.arrays(REAL, some.array_shapes(max_dims=2, max_side=4)))
def test_containers(array):
    native = array.astype(array.dtype.newbyteorder("="))
    kinds = [array.tolist(), tuple(array.tolist()), list(array), xr.DataArray(native)]
    kinds += [pd.Series(native)] if array.ndim == 1 else [pd.DataFrame(native)]
    if array.dtype.name not in ("float16", "uint16", "uint32", "uint64"):
        kinds.append(torch.tensor(native))
    if array.dtype.kind != "f":
        kinds += [native.astype(object)]
    for one in kinds:
        same(host_numbers(one), array)


@always
@given(some.arrays(np.float64, some.array_shapes(max_dims=2, max_side=4)), st.data())
def test_masked_entries_are_not_a_number(array, data):
    mask = data.draw(some.arrays(bool, array.shape))
    expected = np.where(mask, np.nan, array)
    np.testing.assert_array_equal(host_numbers(np.ma.masked_array(array, mask)), expected)


@always
@given(st.lists(st.one_of(st.fractions(), st.decimals(allow_nan=False, allow_infinity=False)), min_size=1))
def test_exact_numbers_are_rounded_once(numbers):
    assert all(isinstance(one, (Fraction, Decimal)) for one in numbers)
    try:
        expected = [float(one) for one in numbers]
    except OverflowError:
        return
    assert host_numbers(numbers).tolist() == expected
