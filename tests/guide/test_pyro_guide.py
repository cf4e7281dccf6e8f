"""The guide called as a Pyro guide."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, Trace_ELBO
from scipy import stats

import sdeppl as sp

# theta_i ~ N(1, 2²), y_i ~ N(gain theta_i, 0.5²), alike and independent: the posterior is known
N = 1500


def model(y=None, gain=1.0):
    with pyro.plate("units", 3):
        theta = pyro.sample("theta", dist.Normal(torch.tensor(1.0, dtype=torch.float64), 2.0))
        pyro.sample("y", dist.Normal(gain * theta, 0.5), obs=y)


def exact(y, gain=1.0):
    precision = 1 / 4 + gain**2 / 0.25
    return (1 / 4 + gain * np.asarray(y) / 0.25) / precision, precision**-0.5


Y = torch.tensor([2.0, -1.0, 5.0], dtype=torch.float64)


@pytest.fixture(scope="module")
def fitted():
    return sp.ScoreGuide(model, net=None).fit_gaussian(100_000, progress=False)


@pytest.fixture
def guide(fitted):
    fitted.forget()
    return fitted


def agree(draws, y, gain=1.0):
    """Each unit by Kolmogorov–Smirnov at p > 1e-6: a false alarm once in 300 000."""
    mean, sd = exact(y, gain)
    for i in range(3):
        assert stats.kstest(np.asarray(draws)[:, i], stats.norm(mean[i], sd).cdf).pvalue > 1e-6


@pytest.mark.parametrize("parallel", [False, True])
def test_predictive_draws_from_the_posterior(guide, parallel):
    predictive = Predictive(model, guide=guide, num_samples=N, parallel=parallel, return_sites=("theta", "y"))
    draws = predictive(y=Y)
    assert (draws["theta"].shape, draws["theta"].dtype) == ((N, 3), torch.float64)
    assert len(torch.unique(draws["theta"], dim=0)) == N
    agree(draws["theta"], Y)
    assert torch.equal(draws["y"], Y.expand(N, 3))


@pytest.mark.parametrize("parallel", [False, True])
def test_posterior_predictive(guide, parallel):
    draws = guide.condition(y=Y).sample(N)
    predicted = Predictive(model, posterior_samples=draws, parallel=parallel)()["y"]
    assert predicted.shape == (N, 3)
    mean, sd = exact(Y)
    for i in range(3):
        law = stats.norm(mean[i], math.hypot(sd, 0.5))
        assert stats.kstest(predicted[:, i].numpy(), law.cdf).pvalue > 1e-6


def test_scalar_vector_and_matrix_sites_in_a_vectorised_plate():
    def mixed(y=None):
        a = pyro.sample("a", dist.Normal(1.0, 2.0))
        b = pyro.sample("b", dist.Gamma(torch.tensor([2.0, 3.0]), 1.0).to_event(1))
        with pyro.plate("rows", 2, dim=-2), pyro.plate("columns", 4, dim=-1):
            c = pyro.sample("c", dist.Normal(a.unsqueeze(-1).unsqueeze(-1) if a.dim() else a, 1.0))
        pyro.sample("y", dist.Normal(b.sum(-1), 0.5), obs=y)
        return c

    guide = sp.ScoreGuide(mixed, net=None, latents=["a", "b", "c"]).fit_gaussian(2000, progress=False)
    with pyro.plate("samples", 7, dim=-3):
        values = guide(y=4.0)
    assert {k: v.shape for k, v in values.items()} == {
        "a": (7, 1, 1),
        "b": (7, 1, 1, 2),
        "c": (7, 1, 1, 2, 4),
    }
    assert {v.dtype for v in values.values()} == {torch.float32}
    assert (values["b"] > 0).all()
    assert len(torch.unique(values["a"])) == 7


def test_a_trace_holds_the_latents_and_nothing_else(guide):
    trace = poutine.trace(guide).get_trace(y=Y)
    assert [n for n in trace.nodes if trace.nodes[n]["type"] == "sample"] == ["theta"]
    # it replays into the model
    replayed = poutine.trace(poutine.replay(model, trace)).get_trace(y=Y)
    assert torch.equal(replayed.nodes["theta"]["value"], trace.nodes["theta"]["value"])


def test_other_data_and_other_inputs_are_not_answered_from_kept_draws(guide):
    def many(*args, **kwargs):
        return torch.stack([guide(*args, **kwargs)["theta"] for _ in range(600)])

    agree(many(y=Y), Y)
    agree(many(y=Y + 3), Y + 3)
    agree(many(Y), Y)
    agree(many(Y, 0.5), Y, 0.5)
    agree(many(y=Y, gain=0.25), Y, 0.25)
    agree(many(y=Y, gain=torch.tensor(3.0, dtype=torch.float64)), Y, 3.0)


def test_inputs_that_print_alike_are_told_apart():
    def regression(X, y=None):
        slope = pyro.sample("slope", dist.Normal(torch.tensor(0.0, dtype=torch.float64), 2.0))
        pyro.sample("y", dist.Normal(slope * torch.as_tensor(X).mean(), 0.1), obs=y)

    X = np.ones(3000)
    other = X.copy()
    other[1500] = 3001.0  # numpy prints both as [1. 1. 1. ... 1. 1. 1.]
    guide = sp.ScoreGuide(regression, net=None, args=(X,)).fit_gaussian(20_000, progress=False)
    slopes = {}
    for name, inputs in {"ones": X, "other": other}.items():
        slopes[name] = float(torch.stack([guide(inputs, y=2.0)["slope"] for _ in range(200)]).mean())
    assert slopes["ones"] == pytest.approx(2.0, abs=0.05)
    assert slopes["other"] == pytest.approx(1.0, abs=0.05)
    # changed in place, it is another input too
    other[1500] = 1.0
    again = float(torch.stack([guide(other, y=2.0)["slope"] for _ in range(200)]).mean())
    assert again == pytest.approx(2.0, abs=0.05)
    # without X the guide's own stands
    assert float(guide(y=2.0)["slope"]) == pytest.approx(2.0, abs=0.5)


def test_the_argument_need_not_bear_the_sites_name():
    def pyro_style(data):
        x = pyro.sample("x", dist.Normal(torch.tensor(1.0, dtype=torch.float64), 2.0))
        pyro.sample("obs", dist.Normal(x, 0.5), obs=data)

    guide = sp.ScoreGuide(pyro_style, net=None, args=(None,)).fit_gaussian(50_000, progress=False)
    data = torch.tensor(4.0, dtype=torch.float64)
    draws = Predictive(pyro_style, guide=guide, num_samples=N, return_sites=("x",))(data)["x"].flatten()
    mean, sd = exact(4.0)
    assert stats.kstest(draws.numpy(), stats.norm(mean, sd).cdf).pvalue > 1e-6


def test_draws_follow_pyros_seed_and_differ_between_data(guide):
    def one(y, seed):
        guide.forget()
        pyro.set_rng_seed(seed)
        return guide(y=y)["theta"]

    assert torch.equal(one(Y, 1), one(Y, 1))
    assert not torch.equal(one(Y, 1), one(Y, 2))
    # a loop over data sets, as calibration runs it, must not reuse the noise
    pyro.set_rng_seed(1)
    sd = exact(Y)[1]
    z = [(guide(y=Y + k)["theta"].numpy() - exact(Y + k)[0]) / sd for k in range(4)]
    assert min(float(np.abs(a - b).max()) for a in z for b in z if a is not b) > 0.01


@pytest.mark.parametrize("parallel", [False, True])
def test_predictive_follows_pyros_seed_whatever_was_drawn_before(guide, parallel):
    predictive = Predictive(model, guide=guide, num_samples=20, parallel=parallel, return_sites=("theta",))

    def draws(seed):
        pyro.set_rng_seed(seed)
        return predictive(y=Y)["theta"]

    first = draws(0)
    assert torch.equal(first, draws(0))
    assert not torch.isin(first, draws(1)).any()
    assert not torch.isin(first, predictive(y=Y)["theta"]).any()


def test_predictive_costs_one_solve_for_each_block(guide, monkeypatch):
    solves = []
    sample = sp.SitePosterior.sample
    monkeypatch.setattr(
        sp.SitePosterior, "sample", lambda self, n, **rest: solves.append(n) or sample(self, n, **rest)
    )
    # Predictive calls the guide twice more, to see its sites
    Predictive(model, guide=guide, num_samples=2 * 256 - 2)(y=Y)
    assert solves == [256, 256]


def test_missing_data(guide):
    y = torch.tensor([2.0, math.nan, 5.0], dtype=torch.float64)
    draws = torch.stack([guide(y=y)["theta"] for _ in range(N)])
    assert stats.kstest(draws[:, 1].numpy(), stats.norm(1, 2).cdf).pvalue > 1e-6
    assert stats.kstest(draws[:, 0].numpy(), stats.norm(exact(2.0)[0], exact(2.0)[1]).cdf).pvalue > 1e-6


def test_kept_draws_do_not_outlive_what_they_were_drawn_from():
    guide = sp.ScoreGuide(model, net=None).fit_gaussian(500, progress=False)
    before = torch.stack([guide(y=Y)["theta"] for _ in range(3)])
    mean = guide.gaussian.location.clone()
    guide.seed = 9
    guide.fit_gaussian(500, progress=False)
    assert not torch.equal(mean, guide.gaussian.location)
    pyro.set_rng_seed(0)
    after = guide(y=Y)["theta"]
    fresh = sp.ScoreGuide(model, net=None, seed=9).fit_gaussian(500, progress=False)
    pyro.set_rng_seed(0)
    assert torch.equal(after, fresh(y=Y)["theta"])
    assert not torch.isin(after, before).any()


@pytest.mark.filterwarnings("ignore:Encountered NaN")
def test_its_density_is_unknown_so_an_elbo_is_nan():
    def scalar(y=None):
        x = pyro.sample("x", dist.Normal(torch.tensor(1.0, dtype=torch.float64), 2.0))
        pyro.sample("y", dist.Normal(x, 0.5), obs=y)

    guide = sp.ScoreGuide(scalar, net=None).fit_gaussian(500, progress=False)
    elbo = SVI(scalar, guide, pyro.optim.Adam({"lr": 0.1}), Trace_ELBO())
    assert math.isnan(elbo.evaluate_loss(y=torch.tensor(1.0)))


def test_called_without_data(guide):
    with pytest.raises(sp.ModelError, match=r"no data: give values for some of \['y'\]"):
        guide()
    with pytest.raises(sp.ModelError, match="not fitted"):
        sp.ScoreGuide(model)(y=Y)


def test_a_call_with_missing_data_and_validation_on():
    """NaN in the arguments means not observed, here too; Pyro's validation must not refuse it."""

    def pair(y=None):
        x = pyro.sample("x", dist.Normal(torch.tensor([1.0, -2.0]), 3.0).to_event(1))
        pyro.sample("y", dist.Normal(x, 0.5).to_event(1), obs=y)

    guide = sp.ScoreGuide(pair, net=None).fit_gaussian(20_000, progress=False)
    y = torch.tensor([0.3, math.nan])
    with pyro.validation_enabled(True):
        draws = torch.stack([guide(y=y)["x"] for _ in range(256)])
    gain = 9 / 9.25
    # 256 draws: four standard errors of the means
    assert abs(float(draws[:, 0].mean()) - (1 + gain * (0.3 - 1))) < 4 * 0.5 / 16
    assert abs(float(draws[:, 1].mean()) + 2.0) < 4 * 3 / 16
    assert float(draws[:, 1].std()) == pytest.approx(3.0, rel=0.2)
