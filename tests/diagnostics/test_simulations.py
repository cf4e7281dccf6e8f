"""What `Simulations`, `sbc` and `tarp` refuse, and arrays of every backend."""

import numpy as np
import pytest
from checks import array, host

import sdeppl as sp


def good(sets=20, draws=5):
    generator = np.random.default_rng(0)
    return generator.standard_normal((sets, 2)), generator.standard_normal((sets, draws, 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, d: (t, np.where(d > 1, np.nan, d)), r"site 'x': \d+ numbers of the draws are NaN"),
        (lambda t, d: (np.where(t > 1, np.inf, t), d), "site 'x': .* of the truths are NaN or infinite"),
        (lambda t, d: (t, d[:, :1]), "site 'x': at least 10 data sets and 2 draws of each .* 20 and 1"),
        (lambda t, d: (t[:5], d[:5]), "site 'x': at least 10 data sets"),
        (lambda t, d: (t, d[:, :, :1]), r"expected truths \(sets, \*shape\)"),
        (lambda t, d: (t, d[:10]), r"expected truths \(sets, \*shape\)"),
        (lambda t, d: (t * [1, 0], d * [1, 0]), "site 'x': 1 of 2 numbers never vary, number 1 the first"),
        (lambda t, d: ({"a": t}, {"b": d}), r"the sites differ: truths of \['a'\], draws of \['b'\]"),
    ],
)
def test_errors_name_the_site(change, message):
    with pytest.raises(ValueError, match=message):
        sp.Simulations(*change(*good()))


def test_errors_of_arguments():
    with pytest.raises(TypeError, match="takes a guide, or a function"):
        sp.sbc(good)
    with pytest.raises(TypeError, match="these are made"):
        sp.sbc(sp.Simulations(*good()), backend="numpy")
    with pytest.raises(ValueError, match=r"references must be finite and \(20, 2\)"):
        sp.tarp(sp.Simulations(*good()), references=np.zeros((20, 3)))
    with pytest.raises(ValueError, match="log_likelihood must be of shapes"):
        sp.Simulations(*good(), log_likelihood=(np.zeros(20), np.zeros(20)))
    with pytest.raises(ValueError, match="log_likelihood holds NaN"):
        sp.Simulations(*good(), log_likelihood=(np.zeros(20), np.full((20, 5), np.nan)))


def test_arrays_of_any_backend_are_taken(backend):
    truths, draws = good()
    found = sp.Simulations({"x": array(truths, backend)}, {"x": array(draws, backend)})
    np.testing.assert_allclose(found.draws["x"], host(array(draws, backend)))
    assert sp.sbc(found).sets == 20
