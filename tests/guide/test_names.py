"""Sites called like options: their data are data, and a keyword that could be either is refused."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import sdeppl as sp

D = torch.float64
OPTIONS = ["steps", "likelihood", "correction", "args", "kwargs", "model", "backend"]
# x ~ N(50, 20²), y and the other site N(x, 10²): 40 and 70 seen
MEAN = (50 / 400 + (40 + 70) / 100) / (1 / 400 + 2 / 100)
SD = (1 / 400 + 2 / 100) ** -0.5


def named(site):
    def model(y=None):
        x = pyro.sample("x", dist.Normal(torch.tensor(50.0, dtype=D), 20.0))
        pyro.sample("y", dist.Normal(x, 10.0), obs=y)
        pyro.sample(site, dist.Normal(x, 10.0))

    return model


def fitted(site):
    return sp.ScoreGuide(named(site), net=None).fit_gaussian(40_000, progress=False)


@pytest.mark.parametrize("site", OPTIONS)
def test_a_site_called_like_an_option(site):
    guide = fitted(site)
    clash = f"'{site}' is an observed site of the model and an option of condition.*NaN where .* by keyword"
    for call in (guide.condition, guide.condition_many):
        for given in (((), {"y": 40.0, site: 70.0}), (({"y": 40.0},), {site: 70.0})):
            with pytest.raises(sp.ModelError, match=clash):
                call(*given[0], **given[1])
    draws = guide.condition({"y": 40.0, site: 70.0}).run(2_000).draws["x"]
    # 40,000 draws for the prior's moments: 2,000 of the posterior, five standard errors
    assert (
        abs(float(draws.mean()) - MEAN) < 5 * SD / math.sqrt(2_000) and abs(float(draws.std()) / SD - 1) < 0.1
    )
    only = (
        guide.condition({"y": 40.0, site: math.nan}, backend="numpy", steps=30) if site == "steps" else None
    )
    assert only is None or only.arrays.steps == 30


def test_options_stand_beside_a_mapping_that_has_the_site():
    guide = fitted("steps")
    posterior = guide.condition({"y": 40.0, "steps": 70.0}, steps=30, backend="numpy")
    assert posterior.arrays.steps == 30 and isinstance(posterior.sample(2)["x"], np.ndarray)
    unseen = guide.condition({"y": 40.0, "steps": math.nan}, steps=30)
    assert unseen.arrays.steps == 30 and unseen.arrays.observation.count == 1
    many = guide.condition_many({"y": [40.0, 0.0], "steps": [70.0, 1.0]}, steps=30)
    assert many.arrays.steps == 30
    # a model without such a site takes the option, with one it does not
    plain = fitted("z")
    assert plain.condition(y=40.0, steps=30).arrays.steps == 30
    with pytest.raises(sp.ModelError, match="'steps' is an observed site of the model and an option"):
        plain.condition(y=40.0, steps=70, model=named("steps"))


def test_what_is_told_apart_elsewhere():
    guide = fitted("sets")
    with pytest.raises(sp.ModelError, match=r"'sets' is an observed site .* an option of posterior_sbc"):
        sp.posterior_sbc(guide, y=40.0, sets=70.0)
    assert sp.posterior_sbc(guide, {"y": 40.0, "sets": 70.0}, sets=20, draws=9, progress=False).sets == 20
    simulations = sp.simulate_posteriors(fitted("steps"), 20, 9, sites=["y"], steps=30, progress=False)
    assert simulations.sets == 20
    # as a Pyro guide: the model's arguments and data, and no options
    x = torch.stack([fitted_once("steps")(y=torch.tensor(40.0, dtype=D))["x"] for _ in range(3)])
    assert x.shape == (3,)


def fitted_once(site, cache={}):  # noqa: B006
    return cache.setdefault(site, fitted(site))


def test_data_given_twice_or_without_names():
    guide = fitted("z")
    with pytest.raises(TypeError, match="site 'y' is given twice: in the mapping and by keyword"):
        guide.condition({"y": 1.0}, y=2.0)
    with pytest.raises(
        TypeError, match=r"the data are a list; give them by site name: condition\(y=\.\.\.\)"
    ):
        guide.condition_many([1.0, 2.0])
    with pytest.raises(sp.ModelError, match="no observable site 'data'"):
        guide.condition(data=1.0)
