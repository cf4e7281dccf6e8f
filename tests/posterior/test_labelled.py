"""Draws as an xarray Dataset: the names, labels and coordinates that the prior's DataArray had."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import sdeppl as sp

xr = pytest.importorskip("xarray")
D = torch.float64
ROWS = np.random.default_rng(0).normal(size=(400, 3, 2)) * [1.0, 2.0] + 4.0
DAYS = np.array(["2024-02-28", "2024-02-29", "2024-03-01"], dtype="datetime64[ns]")
SOURCE = xr.DataArray(
    ROWS,
    dims=("year", "day", "station"),
    coords={
        "day": DAYS,
        "station": ["Bern", "Ghat"],
        "height": ("station", [540.0, 670.0]),
        "open": (("day", "station"), np.eye(3, 2) > 0),
        "source": "a file",
    },
    name="temperature",
)


def model(y=None):
    field = pyro.sample("field", sp.Dataset(SOURCE))
    other = sp.Simulated(
        lambda n, rng: rng.standard_normal((n, 4)), 4, dims="station", coords={"station": list("abcd")}
    )
    other = pyro.sample("other", other)
    pyro.sample("level", dist.Normal(torch.zeros(2, dtype=D), 1.0).to_event(1))
    pyro.sample("y", dist.Normal(field[..., 0, :] + other[..., :2], 0.1).to_event(1), obs=y)


@pytest.fixture(scope="module")
def guide():
    return sp.ScoreGuide(model, latents=["field", "other", "level"], net=None).fit_gaussian()


def check(found, draws):
    assert found["field"].dims == ("draw", "day", "station") and found["field"].shape == (7, 3, 2)
    for name in ("day", "station", "height", "open", "source"):
        assert (
            found["field"]
            .coords[name]
            .drop_vars(set(found.coords) - {name}, errors="ignore")
            .equals(SOURCE.coords[name].drop_vars(set(SOURCE.coords) - {name}, errors="ignore"))
        )
    assert found["other"].dims == ("draw", "other_station")  # 4 others, of the same name
    assert list(found["other"].coords["other_station"].values) == list("abcd")
    assert found["level"].dims == ("draw", "level_dim_0") and "level_dim_0" not in found.coords
    for name, value in draws.items():
        np.testing.assert_array_equal(found[name].values, np.asarray(value))


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_a_run_has_the_names_and_labels_of_the_prior(guide, backend):
    run = guide.condition(y=[9.0, 10.0], backend=backend).run(7)
    found = run.to_xarray()
    check(found, run.draws)
    assert found.attrs["diagnosis"] == str(run.diagnosis) and found.attrs["trusted"] == int(
        run.diagnosis.trusted
    )
    assert float(found["field"].sel(day="2024-02-29", station="Ghat")[0]) == float(
        run.draws["field"][0, 1, 1]
    )


def test_it_goes_to_a_file_and_back(guide, tmp_path):
    pytest.importorskip("h5netcdf")
    found = guide.condition(y=[9.0, 10.0]).run(7).to_xarray()
    found.to_netcdf(tmp_path / "draws.nc")
    xr.testing.assert_identical(xr.open_dataset(tmp_path / "draws.nc").load(), found)


def test_a_saved_posterior_keeps_them(guide, tmp_path):
    posterior = guide.condition(y=[9.0, 10.0])
    posterior.save(tmp_path / "posterior.safetensors")
    run = sp.load_posterior(tmp_path / "posterior.safetensors", "numpy").run(7)
    check(run.to_xarray(), run.draws)


def test_many_data_sets_have_an_axis_in_front(guide):
    runs = guide.condition_many(y=np.array([[9.0, 10.0], [8.0, 9.0]])).run(7)
    found = runs.to_xarray()
    assert found["field"].dims == ("data_set", "draw", "day", "station")
    np.testing.assert_array_equal(found["field"].values, np.asarray(runs.draws["field"]))


def test_arviz_gets_them_too(guide):
    pytest.importorskip("arviz")
    found = sp.to_arviz(guide.condition(y=[9.0, 10.0]).run(7), log_likelihood=False)
    assert found["posterior"]["field"].dims == ("chain", "draw", "day", "station")
    assert list(found["posterior"].coords["station"].values) == ["Bern", "Ghat"]


def test_draws_without_site_names_are_refused():
    prior = sp.GaussianDenoiser(sp.VPSDE(), np.zeros(2), np.eye(2))
    run = sp.Posterior(prior, sp.LinearGaussian(np.eye(2), np.zeros(2), np.eye(2))).run(5)
    with pytest.raises(TypeError, match="takes draws by site name"):
        run.to_xarray()
