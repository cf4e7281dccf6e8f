"""Draws as ArviZ keeps them: its groups, shapes, values and summaries."""

import pickle
import sys

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from checks import array

import sdeppl as sp

arviz = pytest.importorskip("arviz")
D = torch.float64


def model(y=None):
    x = pyro.sample("x", dist.Normal(torch.tensor([1.0, -2.0], dtype=D), 0.7).to_event(1))
    pyro.sample("y", dist.Normal(2 * x, 0.4).to_event(1), obs=y)


Y = torch.tensor([1.5, 0.5], dtype=D)


def test_draws_of_any_backend(precise):
    numbers = np.random.default_rng(3).standard_normal((50, 2, 3)) + 2.0
    tree = sp.to_arviz(
        {"field": array(numbers, precise)},
        observed={"y": array([1.0, 2.0], precise)},
        prior={"field": numbers},
    )
    assert tree["posterior"]["field"].dims[:2] == ("chain", "draw")
    np.testing.assert_array_equal(tree["posterior"]["field"].values, numbers[None, ...])
    np.testing.assert_array_equal(tree["prior"]["field"].values, numbers[None, ...])
    np.testing.assert_array_equal(tree["observed_data"]["y"].values, [1.0, 2.0])


def test_a_run_brings_its_diagnosis(tmp_path):
    guide = sp.ScoreGuide(model, net=None)
    sp.ScoreMatching(guide, draws=4_000).fit(0, progress=False)
    run = guide.condition(y=Y, backend="numpy").run(200, seed=1)
    tree = sp.to_arviz(run, observed={"y": Y})
    np.testing.assert_array_equal(tree["posterior"]["x"].values[0], run.draws["x"])
    kept = tree["posterior"].attrs
    assert kept["log_evidence"] == run.diagnosis.log_evidence and kept["trusted"] == 1
    assert kept["diagnosis"] == run.diagnosis.text and kept["ess_fraction"] == run.diagnosis.ess
    mean = arviz.summary(tree, kind="stats")["mean"].to_numpy()
    np.testing.assert_allclose(mean, run.draws["x"].mean(axis=0), atol=1e-3)


def test_a_reference_keeps_its_chains():
    found = sp.reference.hmc(model, {"y": Y}, chains=16, draws=40, warmup=60, progress=False)
    tree = sp.to_arviz(found)
    assert tree["posterior"]["x"].shape == (16, 40, 2)
    np.testing.assert_array_equal(tree["posterior"]["x"].values[3, 4], found.draws["x"][3 * 40 + 4].numpy())
    assert tree["posterior"].attrs["divergences"] == found.divergences
    stats = tree["sample_stats"]
    assert set(stats.data_vars) == {"lp", "acceptance_rate", "diverging", "n_steps"}
    assert stats["lp"].shape == (16, 40) and not stats["diverging"].values.any()
    assert float(stats["acceptance_rate"].mean()) == pytest.approx(found.tuning["acceptance"])
    assert float(stats["n_steps"].mean()) == pytest.approx(found.tuning["steps"])
    # ln p(x, y) in closed form
    x = found.draws["x"]
    expected = dist.Normal(torch.tensor([1.0, -2.0], dtype=D), 0.7).log_prob(x).sum(1)
    expected = expected + dist.Normal(2 * x, 0.4).log_prob(Y).sum(1)
    np.testing.assert_allclose(stats["lp"].values.reshape(-1), expected, rtol=1e-10)


def test_log_likelihoods_give_loo():
    """Eight numbers around one mean: each under the others, in closed form; .02 is Monte Carlo error."""
    y = torch.tensor([0.3, -1.1, 0.8, 2.0, -0.4, 0.1, 1.2, -0.6], dtype=D)

    def common(y=None):
        x = pyro.sample("x", dist.Normal(torch.tensor(0.0, dtype=D), 3.0))
        with pyro.plate("numbers", 8):
            pyro.sample("y", dist.Normal(x, 1.0), obs=y)

    found = sp.reference.hmc(common, {"y": y}, chains=64, draws=100, warmup=60, seed=2, progress=False)
    terms = dist.Normal(found.draws["x"][:, None], 1.0).log_prob(y)
    tree = sp.to_arviz(found, observed={"y": y}, log_likelihood={"y": terms})
    np.testing.assert_array_equal(tree["log_likelihood"]["y"].values.reshape(-1, 8), terms.numpy())
    precision = 1 / 9 + 7
    exact = dist.Normal((y.sum() - y) / precision, (1 + 1 / precision) ** 0.5).log_prob(y)
    loo = arviz.loo(tree, pointwise=True)
    np.testing.assert_allclose(
        np.asarray(getattr(loo, "loo_i", getattr(loo, "elpd_i", None))), exact.numpy(), atol=0.02
    )


def test_what_cannot_be_kept(monkeypatch):
    with pytest.raises(TypeError, match="takes draws by site name; got ndarray"):
        sp.to_arviz(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="site 'b' has 4 draws"):
        sp.to_arviz({"a": np.zeros(3), "b": np.zeros(4)})
    with pytest.raises(ValueError, match="site 'y' has 3 draws, not 4"):
        sp.to_arviz({"a": np.zeros(4)}, log_likelihood={"y": np.zeros(3)})
    monkeypatch.setitem(sys.modules, "arviz", None)
    with pytest.raises(ImportError, match=r"pip install 'sdeppl\[arviz\]'"):
        sp.to_arviz({"a": np.zeros(3)})


NUMBERS = torch.tensor([0.3, -1.1, 0.8, 2.0, -0.4, 0.1, 1.2, -0.6], dtype=D)


def common(y=None):
    x = pyro.sample("x", dist.Normal(torch.tensor(0.0, dtype=D), 3.0))
    with pyro.plate("numbers", 8):
        pyro.sample("y", dist.Normal(x, 1.0), obs=y)


def event(y=None):
    x = pyro.sample("x", dist.Normal(torch.tensor(0.0, dtype=D), 3.0))
    pyro.sample("y", dist.Normal(x.unsqueeze(-1).expand(8), 1.0).to_event(1), obs=y)


def by_guide(model, y):
    guide = sp.ScoreGuide(model, net=None).fit_gaussian(100_000, progress=False)
    return guide.condition(y=y).run(4_000, seed=1)


@pytest.mark.parametrize("model", [common, event])
@pytest.mark.parametrize("kind", ["guide", "own", "exact", "hmc"])
def test_loo_without_further_steps(model, kind):
    """Each number under the others, in closed form; .05 is Monte Carlo error of 4,000 draws."""
    y = NUMBERS
    if kind == "guide":
        found = by_guide(model, y.numpy())
    elif kind == "own":  # which the model observes by itself
        guide = sp.ScoreGuide(model, net=None, kwargs={"y": y}).fit_gaussian(100_000, progress=False)
        found = guide.condition().run(4_000, seed=1)
    elif kind == "exact":
        found = sp.reference.exact(model, {"y": y}, draws=4_000)
    else:
        found = sp.reference.hmc(model, {"y": y}, chains=64, draws=100, warmup=60, progress=False)
    tree = sp.to_arviz(found)
    terms = dist.Normal(torch.as_tensor(found.draws["x"])[:, None], 1.0).log_prob(y)
    np.testing.assert_allclose(tree["log_likelihood"]["y"].values.reshape(-1, 8), terms.numpy(), rtol=1e-12)
    np.testing.assert_array_equal(tree["observed_data"]["y"].values, y.numpy())
    precision = 1 / 9 + 7
    exact = dist.Normal((y.sum() - y) / precision, (1 + 1 / precision) ** 0.5).log_prob(y)
    loo = arviz.loo(tree, pointwise=True)
    pointwise = np.asarray(getattr(loo, "loo_i", getattr(loo, "elpd_i", None)))
    np.testing.assert_allclose(pointwise, exact.numpy(), atol=0.05)
    assert "log_likelihood" not in sp.to_arviz(found, log_likelihood=False)


def test_what_was_not_observed_is_left_out():
    pandas = pytest.importorskip("pandas")
    y = NUMBERS.numpy().copy()
    y[[1, 4]] = np.nan
    days = pandas.date_range("2020-01-01", periods=8, name="day")
    for model in (common, event):
        found = by_guide(model, pandas.Series(y, index=days))
        tree = sp.to_arviz(found)
        terms = tree["log_likelihood"]["y"]
        assert terms.dims == ("chain", "draw", "y_seen")
        np.testing.assert_array_equal(terms["y_seen"].values, days[~np.isnan(y)])
        kept = torch.as_tensor(y[~np.isnan(y)])
        expected = dist.Normal(found.draws["x"][:, None], 1.0).log_prob(kept)
        np.testing.assert_allclose(terms.values[0], expected.numpy(), rtol=1e-12)
        assert tree["observed_data"]["y"].dims == ("day",)
        assert np.isfinite(float(arviz.loo(tree).elpd_loo if hasattr(arviz.loo(tree), "elpd_loo") else 0.0))


def test_events_that_are_no_independent_numbers():
    """Rows of a multivariate normal count as one each; one of three is not there."""
    covariance = torch.tensor([[1.0, 0.5], [0.5, 2.0]], dtype=D)

    def rows(y=None):
        x = pyro.sample("x", dist.Normal(torch.tensor(0.0, dtype=D), 3.0))
        with pyro.plate("rows", 3):
            pyro.sample("y", dist.MultivariateNormal(x.unsqueeze(-1).expand(3, 2), covariance), obs=y)

    y = torch.tensor([[0.3, 1.0], [np.nan, np.nan], [0.8, -2.0]], dtype=D)
    found = sp.reference.exact(rows, {"y": y}, draws=50)
    terms = sp.to_arviz(found)["log_likelihood"]["y"].values[0]
    mean = found.draws["x"][:, None, None].expand(50, 2, 2)
    expected = dist.MultivariateNormal(mean, covariance).log_prob(y[[0, 2]])
    np.testing.assert_allclose(terms, expected.numpy(), rtol=1e-10)


def test_names_and_labels_of_axes():
    xarray = pytest.importorskip("xarray")
    draws = {"x": np.zeros((6, 2)), "field": np.ones((6, 2, 3))}
    tree = sp.to_arviz(
        draws,
        observed={"y": xarray.DataArray(np.arange(2.0), dims="place", coords={"place": ["a", "b"]})},
        dims={"x": ["number"], "field": ["place", "time"]},
        coords={"number": [10, 20], "time": [0.1, 0.2, 0.3]},
    )
    assert tree["posterior"]["field"].dims == ("chain", "draw", "place", "time")
    np.testing.assert_array_equal(tree["posterior"]["x"]["number"].values, [10, 20])
    np.testing.assert_array_equal(tree["observed_data"]["y"]["place"].values, ["a", "b"])
    np.testing.assert_array_equal(tree["posterior"]["field"]["time"].values, [0.1, 0.2, 0.3])
    # another axis of the same name goes by the site's
    other = xarray.DataArray(np.zeros(2), dims="place", coords={"place": ["a", "c"]})
    tree = sp.to_arviz(draws, observed={"y": other}, dims={"x": ["place"]}, coords={"place": ["a", "b"]})
    assert tree["observed_data"]["y"].dims == ("y_place",)
    with pytest.raises(ValueError, match=r"site 'field' has axes of \(2, 3\), and dims names \['a'\]"):
        sp.to_arviz(draws, dims={"field": ["a"]})
    with pytest.raises(ValueError, match="site 'x' has 2 numbers along 'number', and coords 3"):
        sp.to_arviz(draws, dims={"x": ["number"]}, coords={"number": [1, 2, 3]})


def test_likelihoods_of_other_families_and_masks():
    """Poisson and Bernoulli at two sites, a mask of the model's own, in closed form."""
    mask = torch.tensor([True, False, True])

    def model(n=None, b=None):
        x = pyro.sample("x", dist.Normal(torch.tensor(0.0, dtype=D), 1.0))
        with pyro.plate("three", 3):
            pyro.sample("n", dist.Poisson(x.exp()).mask(mask), obs=n)
        pyro.sample("b", dist.Bernoulli(logits=x), obs=b)

    guide = sp.ScoreGuide(model, net=None).fit_gaussian(4_000, progress=False)
    run = guide.condition(n=[2, 0, 1], b=1).run(40)
    tree, x = sp.to_arviz(run), run.draws["x"]
    counts = dist.Poisson(x.exp()[:, None]).log_prob(torch.tensor([2.0, 0.0, 1.0], dtype=D)) * mask
    np.testing.assert_allclose(tree["log_likelihood"]["n"].values[0], counts.numpy(), rtol=1e-10)
    coin = dist.Bernoulli(logits=x).log_prob(torch.tensor(1.0, dtype=D))
    np.testing.assert_allclose(tree["log_likelihood"]["b"].values[0], coin.numpy(), rtol=1e-10)


def test_a_pickled_run_keeps_its_draws_and_not_its_model():
    found = sp.reference.exact(common, {"y": NUMBERS}, draws=20)
    guide = sp.ScoreGuide(lambda y=None: common(y), net=None).fit_gaussian(400, progress=False)
    posterior = guide.condition(y=NUMBERS)
    for one in (found, posterior.run(20)):
        again = pickle.loads(pickle.dumps(one))
        assert one.given is not None and again.given is None
        assert torch.equal(again.draws["x"], one.draws["x"])
        assert "log_likelihood" not in sp.to_arviz(again)
    # by name where its model has one
    named = sp.ScoreGuide(common, net=None).fit_gaussian(400, progress=False).condition(y=NUMBERS)
    assert "log_likelihood" in sp.to_arviz(pickle.loads(pickle.dumps(named)).run(20))
