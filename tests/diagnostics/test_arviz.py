"""Draws as ArviZ keeps them: its groups, shapes, values and summaries."""

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
    assert kept["diagnosis"] == run.diagnosis.text and kept["effective_share"] == run.diagnosis.ess
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
