"""Data as people have them are the same numbers, or are refused in words."""

import array
import datetime
import math
from collections import deque
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

import sdeppl as sp
from sdeppl.backend import host_numbers, place, require_arrays
from sdeppl.backend.arrays import DATES

nan = math.nan
Y = np.array([1.25, -2.0, nan, 0.5])
WHOLE = np.array([3, 0, 2, 7])


class WithArray:
    """As arrays of polars, awkward, Arrow and JAX are."""

    def __array__(self, dtype=None, copy=None):
        return Y


class WithDLPack:
    def __dlpack__(self, **options):
        return Y.__dlpack__()

    def __dlpack_device__(self):
        return Y.__dlpack_device__()


REAL = {
    "series": pd.Series(Y),
    "dates as index": pd.Series(Y, index=pd.date_range("2020-01-01", periods=4)),
    "filtered": pd.Series(np.r_[9.0, 9.0, Y])[2:],
    "nullable": pd.Series([1.25, -2, pd.NA, 0.5], dtype="Float64"),
    "series of objects": pd.Series([1.25, -2, pd.NA, Decimal("0.5")], dtype=object),
    "column": pd.DataFrame({"k": 1, "y": Y})["y"],
    "xarray": xr.DataArray(Y, dims="time"),
    "objects": Y.astype(object),
    "big-endian": Y.astype(">f8"),
    "long double": Y.astype(np.longdouble),
    "half": Y.astype(np.float16),
    "bfloat16": torch.tensor(Y).to(torch.bfloat16),
    "with gradient": torch.tensor(Y, requires_grad=True) * 1,
    "masked": np.ma.masked_array([1.25, -2.0, 8.0, 0.5], mask=[0, 0, 1, 0]),
    "masked item": [1.25, -2.0, np.ma.masked, 0.5],
    "list": Y.tolist(),
    "tuple of tensors": tuple(torch.tensor(v, requires_grad=True) for v in Y),
    "mixed": [1.25, np.float32(-2), nan, Fraction(1, 2)],
    "numbers in arrays": [np.array(1.25), torch.tensor(-2), nan, Decimal("0.5")],
    "reversed": Y[::-1].copy()[::-1],
    "every second": np.repeat(Y, 2)[::2],
    "__array__": WithArray(),
    "__dlpack__": WithDLPack(),
    "deque": deque(Y),
    "array.array": array.array("d", Y),
    "sparse tensor": torch.tensor(Y).to_sparse(),
}
WHOLES = {
    "nullable": pd.Series(WHOLE, dtype="Int64"),
    "objects": WHOLE.astype(object),
    "unsigned": WHOLE.astype(np.uint32),
    "big-endian": WHOLE.astype(">i4"),
    "big numbers": WHOLE.astype(np.uint64),
    "range": [*range(3, 4), 0, np.int8(2), 7],
}


@pytest.mark.parametrize("name", REAL)
def test_real_numbers(name):
    found = host_numbers(REAL[name])
    assert type(found) is np.ndarray and found.dtype.isnative
    assert found.dtype in (np.float64, np.float32, np.float16)
    np.testing.assert_array_equal(found, Y)
    np.testing.assert_array_equal(sp.place(REAL[name], "numpy"), Y)
    assert torch.equal(sp.place(REAL[name], "torch").nan_to_num(9.0), torch.tensor(Y).nan_to_num(9.0))


@pytest.mark.parametrize("name", WHOLES)
def test_whole_numbers_stay_whole(name):
    found = host_numbers(WHOLES[name])
    assert found.dtype.kind == "i" and found.dtype.isnative
    np.testing.assert_array_equal(found, WHOLE)


def test_tables_and_single_numbers():
    table = np.arange(6.0).reshape(2, 3)
    for same in (
        pd.DataFrame(table, index=[5, 7], columns=list("abc")),
        pd.DataFrame({"a": [0, 3], "b": [1.0, 4.0], "c": pd.array([2, 5], dtype="Int8")}),
        pd.Series([table[0], list(table[1])]),
        [pd.Series(table[0]), torch.tensor(table[1])],
        np.asfortranarray(table),
        table.view(np.matrix),
        xr.DataArray(table, dims=("row", "column")),
    ):
        np.testing.assert_array_equal(host_numbers(same), table)
    for one in (1.5, np.float32(1.5), np.array(1.5), torch.tensor(1.5), Decimal("1.5"), Fraction(3, 2)):
        found = host_numbers(one)
        assert found.shape == () and float(found) == 1.5
    hidden = [np.ma.masked_array([1.0, 2.0], [0, 1]), np.ma.masked_array([3.0, 4.0], [1, 0])]
    np.testing.assert_array_equal(host_numbers(hidden), [[1.0, nan], [nan, 4.0]])
    assert host_numbers([True, False]).dtype == host_numbers(pd.Series([True, False])).dtype == bool
    np.testing.assert_array_equal(host_numbers(pd.array([True, pd.NA], dtype="boolean")), [1.0, nan])
    assert host_numbers([2**70, 1]).tolist() == [2.0**70, 1.0]
    assert host_numbers([]).shape == (0,)


REFUSED = {
    "dates": (pd.Series(pd.date_range("2020-01-01", periods=2)), DATES),
    "zoned dates": (pd.Series(pd.date_range("2020-01-01", periods=2, tz="UTC")), DATES),
    "datetime64": (np.array(["2020-01-01"], dtype="M8[D]"), DATES),
    "periods": (pd.Series(pd.period_range("2020", periods=2, freq="Y")), DATES),
    "spans": (pd.Series([pd.Timedelta("1D")]), DATES),
    "a list of dates": ([datetime.date(2020, 1, 1)], DATES),
    "text": (np.array(["1.5", "2"]), "are not numbers but text"),
    "a string": ("three", "hold the text 'three'"),
    "categories": (pd.Series(["a", "b"], dtype="category"), "text 'a'"),
    "a frame with text": (pd.DataFrame({"a": [1.0], "b": ["x"]}), "text 'x'"),
    "none": ([1.0, None], "hold None; use NaN"),
    "complex": ([1.0, 2j], "are complex"),
    "complex tensor": (torch.tensor([1 + 1j]), "are complex"),
    "ragged": ([[1.0], [1.0, 2.0]], r"rows of one length, but \(1,\) and \(2,\)"),
    "records": (np.array([(1, 2.0)], dtype=[("a", int), ("b", float)]), "are a table of"),
    "mapping": ({"y": 1.0}, "are not numbers but a dict"),
    "set": ({1.0, 2.0}, "are not numbers but a set"),
    "generator": ((v for v in Y), "are not numbers but a generator"),
    "object": (object(), "are not numbers but a object"),
    "module": ([math], "hold a module"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_real_numbers_is_refused_by_name(name):
    value, words = REFUSED[name]
    with pytest.raises(TypeError, match=f"^site 'y': the data .*{words}"):
        host_numbers(value, "site 'y': the data")
    with pytest.raises(TypeError, match=words):
        place(value, "numpy")


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (pd.Series(Y), r"y must be an array .*got Series.*\.to_numpy"),
        (np.ma.masked_array(Y), "y is a MaskedArray that is masked"),
        (np.ones((2, 2)).view(np.matrix), "y is a matrix"),
        (Y.astype(">f8"), "y is of >f8"),
        (Y.astype(np.longdouble), r"y is of .*astype\('float64'\)"),
    ],
)
def test_layers_on_arrays_take_plain_ones(array, words):
    with pytest.raises(TypeError, match=f"^who: {words}"):
        require_arrays("who", y=array)
