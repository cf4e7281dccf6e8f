"""A data set as a prior: which rows are drawn, which are held out, where they lie, what is refused."""

import os
import pickle

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.stats import chisquare

import sdeppl as sp
from sdeppl.distributions import SamplerError
from sdeppl.tracing import Rows, prior_draws

xr = pytest.importorskip("xarray")
N = 50
ROWS = np.random.default_rng(0).normal(size=(N, 4, 3))


def memmap(tmp_path):
    np.save(tmp_path / "rows.npy", ROWS)
    return np.load(tmp_path / "rows.npy", mmap_mode="r")


def hdf5(tmp_path):
    h5py = pytest.importorskip("h5py")
    file = h5py.File(tmp_path / "rows.h5", "w")
    return file.create_dataset("rows", data=ROWS)


def zarr(tmp_path):
    found = pytest.importorskip("zarr").create_array(
        tmp_path / "rows.zarr", shape=ROWS.shape, chunks=(7, 4, 3), dtype="f8"
    )
    found[:] = ROWS
    return found


def netcdf(tmp_path):
    pytest.importorskip("h5netcdf")
    xr.DataArray(ROWS, dims=("time", "y", "x"), name="rows").to_netcdf(tmp_path / "rows.nc")
    return xr.open_dataarray(tmp_path / "rows.nc")


SOURCES = {
    "NumPy": lambda tmp_path: ROWS,
    "torch": lambda tmp_path: torch.as_tensor(ROWS),
    "memmap": memmap,
    "hdf5": hdf5,
    "zarr": zarr,
    "DataArray": lambda tmp_path: xr.DataArray(ROWS, dims=("time", "y", "x")),
    "netCDF file": netcdf,
    "a list": lambda tmp_path: ROWS.tolist(),
    "big-endian": lambda tmp_path: ROWS.astype(">f8"),
}


def model_of(*args, **settings):
    def model(y=None):
        x = pyro.sample("x", sp.Dataset(*args, **settings))
        pyro.sample("y", dist.Normal(x.sum(), 1.0), obs=y)

    return model


def numbers(draws, rows=ROWS):
    """Which row each draw is; all must be one, exactly."""
    flat = {row.tobytes(): k for k, row in enumerate(rows)}
    return np.array([flat[np.ascontiguousarray(draw).tobytes()] for draw in np.asarray(draws)])


@pytest.mark.parametrize("kind", SOURCES)
def test_rows_are_the_sources_each_as_often(kind, tmp_path):
    """χ² of 10,000 draws from 50 rows: a false alarm in 10⁶ tests; seed 3."""
    fn = sp.Dataset(SOURCES[kind](tmp_path))
    assert fn.event_shape == (4, 3) and len(fn) == N
    draws = prior_draws(lambda: pyro.sample("x", fn), ["x"], 10_000, (3,))["x"]
    assert chisquare(np.bincount(numbers(draws), minlength=N)).pvalue > 1e-6
    again = prior_draws(lambda: pyro.sample("x", fn), ["x"], 10_000, (3,))["x"]
    assert torch.equal(draws, again)


def test_neighbouring_draws_know_nothing_of_each_other():
    """χ² of pairs of successive rows, 20 × 20 cells of 40,000 draws: a false alarm in 10⁶ tests; seed 4."""
    model = model_of(np.arange(20.0)[:, None])
    draws = prior_draws(model, ["x"], 40_000, (4,))["x"][:, 0].numpy().astype(int)
    counts = np.bincount(draws[::2] * 20 + draws[1::2], minlength=400)
    assert chisquare(counts).pvalue > 1e-6


@pytest.mark.parametrize("held_out", [0.1, 0.25, 0.5])
def test_parts_have_no_row_in_common_and_all_together(held_out):
    model, stride = model_of(ROWS, held_out=held_out), round(1 / held_out)
    found = {
        part: numbers(prior_draws(model, ["x"], 4_000, (1,), rows=Rows(part))["x"])
        for part in ("training", "held out", "all")
    }
    kept = set(range(stride - 1, N, stride))
    assert set(found["held out"]) == kept and set(found["training"]) == set(range(N)) - kept
    assert set(found["all"]) == set(range(N))
    for part in ("training", "held out"):
        counts = np.bincount(found[part], minlength=N)
        assert chisquare(counts[sorted(set(found[part]))]).pvalue > 1e-6


def test_rows_in_their_order_each_once_also_where_the_model_runs_draw_by_draw(recwarn):
    def branching():
        x = pyro.sample("x", sp.Dataset(ROWS))
        if x.sum() > 100:
            pyro.sample("z", dist.Normal(0.0, 1.0))

    training = [k for k in range(N) if k % 10 != 9]
    for model in (model_of(ROWS), branching):
        first = numbers(prior_draws(model, ["x"], 30, (0,), rows=Rows("training", 0))["x"])
        then = numbers(prior_draws(model, ["x"], 20, (0,), rows=Rows("training", 30))["x"])
        assert [*first, *then] == [*training, *training[:5]]
    assert any("running it 30 times" in str(w.message) for w in recwarn)


def test_held_out_rows_of_another_source():
    others = ROWS[:7] + 1.0
    model = model_of(ROWS, held_out=others)
    draws = prior_draws(model, ["x"], 7, (0,), rows=Rows("held out", 0))["x"]
    assert list(numbers(draws, others)) == list(range(7))
    assert set(numbers(prior_draws(model, ["x"], 2_000, (0,), rows=Rows("training"))["x"])) == set(range(N))


def test_a_guide_learns_from_some_rows_and_is_checked_on_others():
    """Its moments are those of the training rows, each once; the check reads the others alone."""
    rows = np.random.default_rng(1).normal(size=(1_000, 2)) * [1.0, 3.0] + [0.0, 5.0]
    rows[9::10] += 100.0  # the held-out rows are of another prior, which the fit must not have seen
    with pytest.warns(sp.UntrustedWarning):
        guide = sp.ScoreGuide(model_of(rows), net=None, tails=False).fit_gaussian(100_000)
    seen = np.delete(rows, np.s_[9::10], axis=0)
    np.testing.assert_allclose(guide.gaussian.location, seen.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(guide.gaussian.scale, seen.std(axis=0, ddof=1), rtol=1e-12)
    assert guide.gaussian.draws == 900 and guide.fit_check.held_out == 100
    assert guide.fit_check.state == "do not trust"


def test_a_transform_makes_the_draws():
    def coarse(rows):
        assert isinstance(rows, np.ndarray)
        return rows.mean(axis=2)

    def noisy(rows, rng):
        return rows + 0.1 * rng.standard_normal(rows.shape)

    draws = prior_draws(model_of(ROWS, coarse), ["x"], 100, (0,))["x"]
    assert set(numbers(draws, ROWS.mean(axis=2))) <= set(range(N)) and draws.shape == (100, 4)
    model = model_of(ROWS, noisy, shape=(4, 3))
    one, other = (prior_draws(model, ["x"], 100, (0,))["x"] for _ in range(2))
    assert torch.equal(one, other) and len(one.unique(dim=0)) == 100


def test_whole_numbers_become_floating_ones():
    fn = sp.Dataset((ROWS * 50).astype("uint8"))
    assert fn.sample().dtype == torch.get_default_dtype()
    assert sp.Dataset(ROWS.astype("float32")).sample().dtype == torch.float32
    assert sp.Dataset(ROWS, dtype=torch.float32).sample().dtype == torch.float32


class Counted:
    """An array that notes which of its rows are read, and refuses to be read whole."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.read = array, array.shape, array.dtype, []

    def __getitem__(self, rows):
        self.read.append(np.asarray(rows))
        return self.array[rows]

    def __array__(self, *args, **kwargs):
        raise AssertionError("it was copied whole")


def test_the_rows_that_are_drawn_are_read_and_no_others():
    source = Counted(np.arange(100_000.0)[:, None])
    fn = sp.Dataset(source, check=False)
    draws = fn.sample((64,))
    assert len(source.read) == 1 and np.all(np.diff(source.read[0]) > 0)
    assert set(draws[:, 0].numpy()) == set(source.read[0])


def test_a_guide_reads_all_rows_once_in_blocks_and_names_one_with_nan(monkeypatch):
    monkeypatch.setattr("sdeppl.distributions.dataset.BLOCK", 100)
    rows = ROWS.copy()
    rows[33, 2, 1] = np.nan
    source = Counted(rows)
    with pytest.raises(sp.ModelError, match="latent site 'x': Dataset: row 33 of source has 1 of 12 numbers"):
        sp.ScoreGuide(model_of(source))
    assert max(len(read) for read in source.read) <= 100 // 12
    sp.Dataset(ROWS).check()


def test_nan_is_found_when_it_is_drawn_too():
    rows = np.full((20, 2), np.nan)
    rows[0] = 0.0
    with pytest.raises(sp.ModelError, match=r"site 'x': Dataset: row .* of source has 2 of 2 numbers"):
        prior_draws(model_of(rows, check=False), ["x"], 100, (0,))


def test_a_memmap_that_is_gone_or_shorter_is_refused_before_it_is_read(tmp_path):
    kinds = (
        lambda rows: rows,
        lambda rows: rows[5:],
        np.asarray,
        lambda rows: xr.DataArray(rows, dims=("time", "y", "x")),
    )
    for kind in kinds:
        source = kind(memmap(tmp_path))
        fn, model = sp.Dataset(source), model_of(source)
        fn.sample()
        with open(tmp_path / "rows.npy", "r+b") as file:
            file.truncate(500)
        with pytest.raises(
            SamplerError, match=r"rows.npy, which source is mapped from, has 500 bytes; expected"
        ):
            fn.sample()
        with pytest.raises(sp.ModelError, match=r"site 'x': Dataset: rows.npy.* it was shortened since"):
            sp.ScoreGuide(model)
        os.remove(tmp_path / "rows.npy")
        with pytest.raises(sp.ModelError, match=r"site 'x': Dataset: rows.npy.* is gone"):
            sp.ScoreGuide(model)
        memmap(tmp_path)  # written anew, while the old map is still of the file that was shortened
        with pytest.raises(SamplerError, match="has 500 bytes"):
            fn.sample()


def test_a_mapped_file_is_sent_by_its_path(tmp_path):
    np.save(tmp_path / "rows.npy", np.zeros((1_000, 50)))
    fn = sp.Dataset(np.load(tmp_path / "rows.npy", mmap_mode="r"), held_out=0.2)
    sent = pickle.dumps(fn)
    assert len(sent) < 5_000  # and the numbers are 400,000 bytes
    again = pickle.loads(sent)
    assert isinstance(again.source.array, np.memmap) and again.reading("held out").sample((3,)).shape == (
        3,
        50,
    )
    view = pickle.loads(pickle.dumps(sp.Dataset(memmap(tmp_path)[3:])))
    assert set(numbers(view.sample((100,)))) <= set(range(3, N))
    os.remove(tmp_path / "rows.npy")
    with pytest.raises(
        SamplerError, match=r"rows.npy, which source is mapped from, is gone or too short here"
    ):
        pickle.loads(sent)


ARGUMENTS = {
    "no rows": (ValueError, lambda: sp.Dataset(np.zeros((0, 3))), r"at least one row.*got shape \(0, 3\)"),
    "no numbers": (ValueError, lambda: sp.Dataset(np.zeros((3, 0))), "and one number; got shape"),
    "one number": (ValueError, lambda: sp.Dataset(1.0), r"got shape \(\)"),
    "text": (TypeError, lambda: sp.Dataset(["a", "b"]), "must hold real numbers"),
    "complex": (TypeError, lambda: sp.Dataset(torch.zeros(3, 2, dtype=torch.complex64)), "real numbers"),
    "ragged": (TypeError, lambda: sp.Dataset([[1.0], [1.0, 2.0]]), "must be an array"),
    "several variables": (
        TypeError,
        lambda: sp.Dataset(xr.Dataset({"a": ("t", [1.0])})),
        "got an xarray.Dataset with \\['a'\\]",
    ),
    "other rows": (
        ValueError,
        lambda: sp.Dataset(ROWS, held_out=np.zeros((3, 3))),
        r"held_out has rows of shape \(3,\); those of the source have \(4, 3\)",
    ),
    "a large share": (ValueError, lambda: sp.Dataset(ROWS, held_out=0.7), "a share from 0 to .5"),
    "no transform": (TypeError, lambda: sp.Dataset(ROWS, 3), "transform must be a function"),
    "fewer rows": (
        SamplerError,
        lambda: sp.Dataset(ROWS, lambda rows: rows[:, 0, :2].sum(), shape=()).sample((4,)),
        r"made shape \(\) of 4 rows of \(4, 3\); expected \(4,\)",
    ),
    "its own error": (
        SamplerError,
        lambda: sp.Dataset(ROWS, lambda rows: 1 / 0),
        "transform <lambda> raised",
    ),
}


@pytest.mark.parametrize("what", ARGUMENTS)
def test_wrong_arguments(what):
    error, call, words = ARGUMENTS[what]
    with pytest.raises(error, match=words):
        call()


def test_too_few_rows_for_all_entries_of_a_covariance():
    rows = np.random.default_rng(0).normal(size=(40, 30))
    with pytest.raises(
        ValueError, match="36 rows of a data set are too few for the covariance of 30 numbers"
    ):
        sp.ScoreGuide(model_of(rows)).fit_gaussian()


def test_it_has_no_density_and_says_so():
    with pytest.raises(NotImplementedError, match=r"Dataset\(50 rows of \(4, 3\)\) has no density"):
        sp.Dataset(ROWS).log_prob(torch.zeros(4, 3))


def test_names_and_labels_of_a_data_array_are_kept():
    source = xr.DataArray(
        ROWS,
        dims=("time", "y", "x"),
        coords={"y": [1.0, 2, 3, 4], "x": list("abc"), "land": (("y", "x"), ROWS[0] > 0), "time": range(N)},
    )
    names, labels = sp.Dataset(source).axes
    assert names == ("y", "x") and set(labels) == {"y", "x", "land"}
    assert labels["land"][0] == ("y", "x") and list(labels["x"][1]) == ["a", "b", "c"]
    assert sp.Dataset(ROWS).axes is None
