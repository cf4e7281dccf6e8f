"""Data in CSV and JSON are the same arrays, and what was read is said."""

import numpy as np
import pytest

from sdeppl.cli.arrays import read_arrays
from sdeppl.cli.errors import UsageError

nan = np.nan
GOOD = {
    "y,x\n1.5,2\n,3\n-4e1,NA\n": {"y": [1.5, nan, -40.0], "x": [2.0, 3.0, nan]},
    "\ufeffy ; x\r\n1.5;2\r\n": {"y": 1.5, "x": 2.0},
    "y\n1\n2\n\n": {"y": [1.0, 2.0]},
    "y[0]\ty[1]\tn\n1\t2\t7\n3\t4\t8\n": {"y": [[1.0, 2.0], [3.0, 4.0]], "n": [7.0, 8.0]},
    '"y[1,0]","y[0,0]"\n1,2\n': {"y": [[2.0], [1.0]]},
    "y\nnan\n-inf\n": {"y": [nan, -np.inf]},
}
BAD = {
    "": "at least one line of numbers",
    "y\n": "at least one line of numbers",
    "1,2\n3,4\n": "first line must name each column by its site; got '1'",
    ",y\n0,1.5\n": "first line must name each column by its site; got ''",
    "y,y\n1,2\n": "two columns are called 'y'",
    "y,x\n1,2\n1,2,3\n": "line 3: 3 cells, and 2 names",
    "day,y\n2020-01-01,2\n": "line 2, column 'day': '2020-01-01' is not a number",
    "y\n1\n1_000\n": "line 3, column 'y': '1_000' is not a number",
    "y;x\n1,5;2\n": "line 2, column 'y': '1,5' is not a number",
    "y[0],y[2]\n1,2\n": "the columns of 'y' are not those of one array",
    "y,y[0]\n1,2\n": "the columns of 'y' are not those of one array",
}
JSON = {
    '{"y": [1.5, null, 2], "n": 3}': {"y": [1.5, nan, 2.0], "n": 3},
    '{"y": [[1, 2], [3, NaN]]}': {"y": [[1.0, 2.0], [3.0, nan]]},
    '{"on": [true, false]}': {"on": [True, False]},
}
BAD_JSON = {
    "[1, 2]": "must hold an object of arrays by name",
    "{'y': 1}": "is not JSON",
    '{"y": ["a"]}': "'y' are not numbers but text",
    '{"y": [[1], [1, 2]]}': "'y' are not numbers in rows of one length",
    '{"y": {"z": 1}}': "'y' are not numbers but a dict",
}


def same(found, expected):
    assert list(found) == list(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].shape == np.shape(value)


@pytest.mark.parametrize("text", GOOD)
def test_csv(text, tmp_path):
    (tmp_path / "y.csv").write_text(text, "utf-8")
    same(read_arrays(str(tmp_path / "y.csv"), "--data"), GOOD[text])


@pytest.mark.parametrize("text", JSON)
def test_json(text, tmp_path):
    (tmp_path / "y.json").write_text(text, "utf-8")
    same(read_arrays(str(tmp_path / "y.json"), "--data"), JSON[text])


@pytest.mark.parametrize(("name", "text"), [("y.csv", t) for t in BAD] + [("y.json", t) for t in BAD_JSON])
def test_mistakes_name_file_line_and_column(name, text, tmp_path):
    (tmp_path / name).write_text(text, "utf-8")
    with pytest.raises(UsageError, match=(BAD | BAD_JSON)[text]) as caught:
        read_arrays(str(tmp_path / name), "--data")
    assert str(caught.value).startswith(f"--data {tmp_path / name}")


def test_csv_that_is_not_text(tmp_path):
    (tmp_path / "y.csv").write_bytes(b"y\n\xff\xfe\n")
    with pytest.raises(UsageError, match="is not text in UTF-8"):
        read_arrays(str(tmp_path / "y.csv"), "--data")


def test_draws_of_a_site_called_like_an_argument_of_savez(tmp_path):
    from types import SimpleNamespace

    from sdeppl.cli.arrays import write_draws

    draws = {"file": np.arange(3.0), "allow_pickle": np.eye(2), "scope/x": np.zeros(1), "arr_0": np.ones(1)}
    write_draws(str(tmp_path / "draws.npz"), SimpleNamespace(draws=draws), None)
    same(read_arrays(str(tmp_path / "draws.npz"), "draws"), draws)


def test_names_that_netcdf_has_not_are_refused_before_draws_are_made():
    from types import SimpleNamespace

    from sdeppl.cli.arrays import check_names

    sites = [SimpleNamespace(name="x"), SimpleNamespace(name="scope/x")]
    for posterior in (SimpleNamespace(sites=sites), SimpleNamespace(space=SimpleNamespace(sites=sites))):
        opened = SimpleNamespace(posterior=posterior, data=None)
        check_names("draws.npz", opened)
        with pytest.raises(UsageError, match=r"no names with '/', as site 'scope/x' has; use \.npz"):
            check_names("draws.nc", opened)
