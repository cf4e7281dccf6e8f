"""Whatever takes data takes them as people have them: the same answer as for the plain array."""

import math

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray as xr

import sdeppl as sp

D = torch.float64
Y = np.array([1.2, math.nan, 2.1, 1.0])
FORMS = {
    "series": pd.Series(Y, index=pd.date_range("2020-01-01", periods=4)),
    "nullable": pd.Series([1.2, pd.NA, 2.1, 1.0], dtype="Float64"),
    "xarray": xr.DataArray(Y, dims="time"),
    "big-endian": Y.astype(">f8"),
    "objects": Y.astype(object),
    "list": Y.tolist(),
}


def model(y=None):
    x = pyro.sample("x", dist.Normal(torch.tensor(0.0, dtype=D), 2.0))
    pyro.sample("y", dist.Normal(x.unsqueeze(-1).expand(4), 0.5).to_event(1), obs=y)


@pytest.fixture(scope="module")
def guide():
    return sp.ScoreGuide(model, net=None).fit_gaussian(2_000, progress=False)


@pytest.mark.parametrize("name", FORMS)
def test_every_entry_takes_it(name, guide):
    y = FORMS[name]
    many = {"series": lambda: pd.DataFrame(np.stack([Y, 2 * Y]))}.get(name, lambda: [y, [2 * v for v in Y]])()
    cases = {
        "condition": lambda y, many: guide.condition(y=y).run(3).draws["x"],
        "condition_many": lambda y, many: guide.condition_many({"y": many}).run(3).draws["x"],
        "Pyro guide": lambda y, many: torch.stack(
            [pyro.poutine.trace(guide).get_trace(y=y).nodes["x"]["value"]]
        ),
        "exact": lambda y, many: sp.reference.exact(model, {"y": y}, draws=4).draws["x"],
        "hmc": lambda y, many: sp.reference.hmc(
            model, {"y": y}, draws=4, warmup=20, chains=4, progress=False
        ).draws["x"],
        "place": lambda y, many: sp.place(y, "torch").nan_to_num(5.0),
    }
    for entry, found in cases.items():
        results = []
        for data in ((Y, np.stack([Y, 2 * Y])), (y, many)):
            pyro.set_rng_seed(1)
            results.append(found(*data))
        assert torch.equal(*results), entry


def test_draws_and_truths_as_people_have_them():
    generator = np.random.default_rng(1)
    draws, other = generator.standard_normal((2, 200))
    plain = sp.compare({"x": draws}, {"x": other}, classifier=False)
    assert str(plain) == str(
        sp.compare({"x": pd.Series(draws)}, {"x": xr.DataArray(other)}, classifier=False)
    )
    truths, many = generator.standard_normal(20), generator.standard_normal((20, 9))
    plain = sp.sbc(sp.Simulations({"x": truths}, {"x": many}))
    assert str(plain) == str(sp.sbc(sp.Simulations({"x": pd.Series(truths)}, {"x": pd.DataFrame(many)})))
    with pytest.raises(TypeError, match="site 'x': the draws are not numbers but text"):
        sp.compare({"x": ["a", "b"]}, {"x": other})
    with pytest.raises(TypeError, match="site 'x': the numbers are dates"):
        sp.Simulations({"x": pd.date_range("2020", periods=20)}, {"x": many})


def test_dates_are_refused_by_the_site_s_name(guide):
    for dates in (pd.Series(pd.date_range("2020-01-01", periods=4)), ["2020-01-01"] * 4):
        with pytest.raises(sp.ModelError, match=r"site 'y': the data are .*(dates|text)"):
            guide.condition(y=dates)
        with pytest.raises(sp.ModelError, match=r"site 'y': the data are .*(dates|text)"):
            sp.reference.exact(model, {"y": dates})


def test_a_series_that_changes_is_read_again(guide):
    y = pd.Series([1.0, 1.0, 1.0, 1.0])
    before = torch.stack([guide(y=y)["x"] for _ in range(20)])
    y[:] = 9.0
    after = torch.stack([guide(y=y)["x"] for _ in range(20)])
    assert before.mean() < 2 and after.mean() > 7
