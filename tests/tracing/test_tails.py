"""Latents with heavy tails are drawn in, and come back as they were."""

import math
from types import SimpleNamespace

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

import sdeppl as sp
from sdeppl.tracing import find_sites, find_tails, prior_draws, with_tails

D = torch.float64


def mixed(y=None):
    a = pyro.sample("a", dist.Normal(torch.tensor(3.0, dtype=D), 2.0))
    t = pyro.sample(
        "t", dist.StudentT(torch.tensor(1.5, dtype=D), torch.tensor([10.0, -4.0], dtype=D), 2.0).to_event(1)
    )
    tau = pyro.sample("tau", dist.HalfCauchy(torch.tensor(5.0, dtype=D)))
    share = pyro.sample("share", dist.Uniform(torch.tensor(0.0, dtype=D), 1.0))
    pyro.sample("y", dist.Normal(a + t.sum() + tau + share, 1.0), obs=y)


def draws_of(model, latents, count=20_000):
    space = find_sites(model, latents=latents).space
    values = prior_draws(model, space.names, count, (0,))
    return space, values, space.flatten(values)


def test_only_heavy_tails_are_found_and_they_are_tame_afterwards():
    """ln tau and logit share have exponential tails, and stay as they are."""
    space, values, z = draws_of(mixed, ["a", "t", "tau", "share"])
    tails = find_tails(space, z)
    assert list(tails) == ["t"]
    loc, scale = tails["t"]
    assert loc.shape == scale.shape == (2,)
    expected = stats.t(1.5).ppf(0.75) * 2.0 / 0.6745  # 20,000 draws: 2% standard error; four of them
    np.testing.assert_allclose(scale, [expected] * 2, rtol=0.08)
    np.testing.assert_allclose(loc, [10.0, -4.0], atol=0.15)
    tamed = with_tails(space, tails)
    u = tamed.flatten(values)
    assert find_tails(tamed, u) == {}
    torch.testing.assert_close(u[:, 1:3], torch.asinh((z[:, 1:3] - loc) / scale))
    back = tamed.unflatten(u)
    for name, value in values.items():
        torch.testing.assert_close(back[name], value, rtol=1e-9, atol=1e-12)


def test_a_posterior_under_a_heavy_tailed_prior():
    """Cauchy location seen with noise, against quadrature: 2,000 draws, seed 0; the network is trained
    briefly, so 0.1 sd and 8% are allowed. Without taming the scale of the prior is 1e3 or more."""

    def model(y=None):
        x = pyro.sample("x", dist.Cauchy(torch.tensor(2.0, dtype=D), 1.5))
        pyro.sample("y", dist.Normal(x, 1.0), obs=y)

    guide = sp.ScoreGuide(model)
    sp.ScoreMatching(guide, draws=50_000, seed=1).fit(steps=1_000, progress=False)
    assert list(guide.tails) == ["x"]
    run = guide.condition(y=5.0, backend="numpy").run(2_000)
    grid = np.linspace(-10, 20, 60_001)
    joint = stats.cauchy(2.0, 1.5).pdf(grid) * stats.norm(grid, 1.0).pdf(5.0)
    weight = joint / joint.sum()
    mean = float(weight @ grid)
    sd = math.sqrt(float(weight @ (grid - mean) ** 2))
    assert abs(run.draws["x"].mean() - mean) < 0.1 * sd
    assert run.draws["x"].std() == pytest.approx(sd, rel=0.08)
    assert run.diagnosis.log_evidence == pytest.approx(math.log(joint.sum() * (grid[1] - grid[0])), abs=0.1)


def test_a_guide_keeps_its_tails_when_saved(tmp_path):
    def model(y=None):
        x = pyro.sample("x", dist.Cauchy(torch.tensor(2.0, dtype=D), 1.5))
        pyro.sample("y", dist.Normal(x, 1.0), obs=y)

    guide = sp.ScoreGuide(model, net=None).fit_gaussian(20_000, progress=False)
    guide.save(tmp_path / "guide")
    loaded = sp.ScoreGuide.load(tmp_path / "guide", model)
    for mine, theirs in zip(guide.tails["x"], loaded.tails["x"], strict=True):
        assert torch.equal(mine, theirs)
    one, other = (g.condition(y=5.0, steps=20).sample(8, seed=2)["x"] for g in (guide, loaded))
    assert torch.equal(one, other)


def test_a_small_mode_at_a_distance_is_no_tail():
    """One draw in a hundred lies 20 standard deviations off: the variance is right, and nothing is to be
    drawn in. Of t with 2 degrees the farthest draws grow apart (seed 7)."""
    generator = np.random.default_rng(7)
    normal, far = generator.standard_normal((2, 8192))
    there = generator.random(8192) < 0.01
    cases = {
        "mode": (np.where(there, 20.0 + far, normal), False),
        "t": (generator.standard_t(2.0, 8192), True),
    }
    for name, (values, heavy) in cases.items():
        space = SimpleNamespace(
            sites=[SimpleNamespace(name="x", start=0, stop=1, unconstrained_shape=torch.Size([]))]
        )
        found = find_tails(space, torch.as_tensor(values)[:, None])
        assert bool(found) == heavy, name
