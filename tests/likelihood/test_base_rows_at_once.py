"""Rows of a mean likelihood, as many at a time as fit: the same numbers, little memory, or an error first."""

import tracemalloc

import numpy as np
import pytest
from checks import array, assert_array, host
from guided_mixture import DIM, SDE, X, bent, linear, mixture_on

import sdeppl as sp
from sdeppl.backend import OutOfMemory, resources

RUNGS = {
    "naive": sp.NaiveDenoiser,
    "dps": sp.DPSDenoiser,
    "sda": sp.SDADenoiser,
    "pigdm": sp.PiGDMDenoiser,
    "tweedie": sp.TweedieDenoiser,
    "cubature": sp.CubatureDenoiser,
    "monte-carlo": sp.MonteCarloDenoiser,
    "nested": lambda p, o: sp.NestedDenoiser(p, o, samples=8, steps=5),
}


@pytest.mark.parametrize("sets", [None, 8, 4])
@pytest.mark.parametrize("rung", RUNGS)
def test_rows_in_chunks_are_the_rows(rung, sets, precise, monkeypatch):
    """Of one data set, and of one for each row or for two."""
    prior, t = mixture_on(precise), 0.4
    x = array(np.concatenate([X, X + 0.3]), precise)
    seen = bent(precise)
    if sets is not None:
        seen = seen.with_data(array(np.random.default_rng(1).normal(size=(sets, 2)), precise))
    whole, rows = RUNGS[rung](prior, seen).mean(x, t), []
    guided = RUNGS[rung](prior, seen)
    guided.rows_at_once, inner = 3, type(guided)._mean

    def counted(self, x, t):
        rows.append(x.shape[0])
        return inner(self, x, t)

    monkeypatch.setattr(type(guided), "_mean", counted)
    assert_array(guided.mean(x, t), host(whole), precise, 1e-12)
    assert rows == [3, 3, 2]


@pytest.mark.parametrize("rung", RUNGS)
def test_a_single_row_that_does_not_fit_is_an_error_by_name_with_its_size(rung, monkeypatch):
    numpy = sp.resolve("numpy")
    guided = RUNGS[rung](mixture_on(numpy), bent(numpy))
    monkeypatch.setenv("SDEPPL_MEMORY_GB", "1e-7")  # 100 bytes
    said = rf"likelihood='{guided.name}', with 2 .* takes about .* GB, and 1e-07 GB are free; use"
    with pytest.raises(OutOfMemory, match=said):
        guided.mean(X, 0.4)


@pytest.mark.parametrize("rung", ["tweedie", "pigdm", "cubature"])
def test_memory_does_not_grow_with_the_draws(rung, monkeypatch):
    """150 numbers of 40 latents seen through a function: 8 n² for a draw, 300 MB for 200 of them."""
    rng, dim, n = np.random.default_rng(0), 40, 150
    slopes = rng.normal(size=(n, dim)) / 6

    def function(x):
        eta = x @ slopes.T
        return np.sin(eta), np.cos(eta)[:, :, None] * slopes

    seen = sp.NonlinearGaussian(function, dim, rng.normal(size=n), 0.3)
    prior = sp.GaussianDenoiser(sp.VPSDE(), np.zeros(dim), np.eye(dim))
    monkeypatch.setattr(resources, "AT_ONCE", 20e6)
    x = rng.normal(size=(200, dim))
    guided = RUNGS[rung](prior, seen)
    guided.gradient = "mean"  # of 'tweedie'; the full one holds more
    tracemalloc.start()
    guided.mean(x, 0.5)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60e6, peak / 1e6


def test_a_shared_matrix_is_factored_once_for_all_rows():
    """A linear Gaussian observation of a Gaussian prior needs no more for a row than the row."""
    numpy, rng = sp.resolve("numpy"), np.random.default_rng(0)
    prior = sp.GaussianDenoiser(SDE, np.zeros(300), np.eye(300))
    seen = sp.LinearGaussian(rng.normal(size=(300, 300)), rng.normal(size=300), 0.5)
    assert sp.TweedieDenoiser(prior, seen).rows_at_once > 10_000
    assert sp.TweedieDenoiser(mixture_on(numpy), linear(numpy)).rows_at_once > 10_000
    assert DIM == 3
