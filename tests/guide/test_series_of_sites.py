"""Models with a loop of sample sites: how often the model is run, and that the answers are right."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from site_models import Counted

import sdeppl as sp
from sdeppl.tracing import SlowDrawsWarning, read_sites

D = torch.float64


def series(T, observe=lambda x: dist.Normal(x, 0.5)):
    def model():
        x = torch.tensor(0.3, dtype=D)
        for t in range(T):
            x = pyro.sample(f"x_{t}", dist.Normal(0.9 * x, 1.2))
            pyro.sample(f"y_{t}", observe(x))

    return Counted(model)


def fitted(model):
    guide = sp.ScoreGuide(model, net=None)
    return sp.ScoreMatching(guide, draws=4_000).fit(steps=0, progress=False).guide


def closed_form(T, y):
    """Mean and covariance of x given y = x + N(0, .25), x_0 = .27 + 1.2 ε, x_t = .9 x_{t-1} + 1.2 ε."""
    L = 1.2 * np.tril(0.9 ** (np.arange(T)[:, None] - np.arange(T)).clip(0))
    mean, K = 0.3 * 0.9 ** np.arange(1, T + 1), L @ L.T
    G = K @ np.linalg.inv(K + 0.25 * np.eye(T))
    return mean + G @ (y - mean), K - G @ K


OBSERVED = {
    "affine": lambda x: dist.Normal(x, 0.5),
    "curved": lambda x: dist.Normal(torch.tanh(x), 0.5),
    "noise of a latent": lambda x: dist.Normal(x, 0.3 + 0.1 * x**2),
    "affine family": lambda x: dist.StudentT(3.0, x, 0.5),
    "curved family": lambda x: dist.StudentT(3.0, torch.sin(x), 0.5),
    "density": lambda x: dist.StudentT(3.0, x, 0.5 + 0.1 * x**2),
}


@pytest.mark.parametrize("kind", OBSERVED)
def test_number_of_runs_does_not_grow(kind):
    found = []
    for T in (2, 9):
        model = series(T, OBSERVED[kind])
        guide, y = fitted(model), np.random.default_rng(T).standard_normal(T)
        model.runs = 0
        guide.condition({f"y_{t}": y[t] for t in range(T)})
        found.append(model.runs)
    assert found[1] <= found[0] + 2  # the numbers of chunks may differ


def test_sites_without_vmap_share_runs_too():
    def model_of(T):
        def observe(x):
            return dist.Normal(x if x.item() > 0 else 0.5 * x, 0.5)

        return series(T, observe)

    found = []
    for T in (2, 5):
        model, y = model_of(T), np.random.default_rng(T).standard_normal(T)
        guide = fitted(series(T))  # the same prior
        model.runs = 0
        with pytest.warns(SlowDrawsWarning):
            guide.condition({f"y_{t}": y[t] for t in range(T)}, model=model, correction=None)
        found.append(model.runs)
    assert found[1] <= found[0] + 2 * 64  # latents are moved in at most 64 runs of each of two readings


def test_posterior_is_the_closed_form():
    T = 30
    y = np.random.default_rng(0).standard_normal(T)
    guide = fitted(series(T))
    guide.fit_gaussian(100_000, progress=False)
    posterior = guide.condition({f"y_{t}": y[t] for t in range(T)})
    assert posterior.arrays.choice.name == "exact"
    draws = posterior.sample(4_000)
    mean, covariance = closed_form(T, y)
    x = np.stack([np.asarray(draws[f"x_{t}"]) for t in range(T)], axis=1)
    sd = np.sqrt(np.diag(covariance))
    assert np.abs((x.mean(0) - mean) / sd).max() < 5 / np.sqrt(4_000)
    assert np.abs(np.cov(x.T) - covariance).max() < 5 * sd.max() ** 2 * np.sqrt(2 / 4_000)


def test_one_site_that_is_not_smooth_is_found_among_many():
    """Of 12 sites one rounds, and one detaches: their gradients say nothing, those of the others do."""

    def observe(x, t):
        if t == 3:
            return dist.Normal(torch.round(x), 0.5)
        return dist.Normal(x.detach() if t == 7 else x, 0.5)

    def model():
        x = torch.tensor(0.3, dtype=D)
        for t in range(12):
            x = pyro.sample(f"x_{t}", dist.Normal(0.9 * x, 1.2))
            pyro.sample(f"y_{t}", observe(x, t))

    guide = fitted(model)
    data = {f"y_{t}": torch.tensor(0.1 * t, dtype=D) for t in range(12)}
    sites = read_sites(model, guide.space, data, guide.prior_batch(100, 1))
    assert [site.name for site in sites if not site.differentiable] == ["y_3", "y_7"]
    for t, site in enumerate(sites):
        if site.differentiable:
            expected = torch.zeros(1, 12, dtype=D)
            expected[0, t] = 1.0
            torch.testing.assert_close(site.H, expected)


@pytest.mark.parametrize("left_out", ["density", "curved"])
def test_interleaved_kinds_have_the_density_of_the_model(left_out):
    """Sites of five kinds by turns, one missing: ln p(y | z) is the trace's, in any order of the data."""
    kinds = [fn for name, fn in OBSERVED.items() if name != left_out]
    T = 2 * len(kinds)

    def model():
        x = torch.tensor(0.3, dtype=D)
        for t in range(T):
            x = pyro.sample(f"x_{t}", dist.Normal(0.9 * x, 1.2))
            fn = kinds[t % len(kinds)](x)
            pyro.sample(f"y_{t}", fn.expand([2]).to_event(1) if t % 5 == 0 else fn)

    guide, rng = fitted(model), np.random.default_rng(1)
    y = {f"y_{t}": rng.standard_normal(2 if t % 5 == 0 else ()) for t in rng.permutation(T)}
    y["y_5"], y["y_7"] = np.array([0.4, -0.2]), np.asarray(float("nan"))
    observation = guide.condition(y, correction=None).arrays.observation
    z = guide.prior_batch(20, 3)
    x = guide.gaussian.standardise(z)
    expected = []
    for row in z:
        values = {f"x_{t}": row[t] for t in range(T)}
        data = {name: torch.as_tensor(value, dtype=D) for name, value in y.items() if name != "y_7"}
        trace = pyro.poutine.trace(pyro.poutine.condition(model, data={**values, **data})).get_trace()
        expected.append(sum(trace.nodes[name]["fn"].log_prob(data[name]).sum() for name in data))
    torch.testing.assert_close(observation.log_prob(x), torch.stack(expected))
    assert observation.has_jacobian == (left_out == "density")
    if not observation.has_jacobian:
        return
    linear = observation.linearise(x)
    moved = x + 1e-6 * torch.eye(T, dtype=D)[4]
    slope = (observation.linearise(moved).predicted - linear.predicted) / 1e-6
    rows = linear.H if linear.H.ndim == 3 else linear.H.expand(20, *linear.H.shape)
    torch.testing.assert_close(slope, rows[..., 4], rtol=1e-4, atol=1e-4)


def test_many_data_sets_of_interleaved_sites():
    """Each data set's posterior is that of the data set by itself."""
    T, sets = 4, 3

    def model():
        x = torch.tensor(0.3, dtype=D)
        for t in range(T):
            x = pyro.sample(f"x_{t}", dist.Normal(0.9 * x, 1.2))
            pyro.sample(f"y_{t}", dist.Normal(x, 0.5) if t % 2 else dist.Normal(torch.tanh(x), 0.4))

    guide, rng = fitted(model), np.random.default_rng(2)
    y = {f"y_{t}": rng.standard_normal(sets) for t in (3, 0, 2, 1)}
    together = guide.condition_many(y).arrays
    z = guide.gaussian.standardise(guide.prior_batch(5, 3))
    for k in range(sets):
        alone = guide.condition({name: value[k] for name, value in y.items()}).arrays.observation
        torch.testing.assert_close(together.one(k).observation.log_prob(z), alone.log_prob(z))
        rows = together.observation.of_sets(torch.full((5,), k))
        torch.testing.assert_close(rows.log_prob(z), alone.log_prob(z))
