"""Latents with heavy tails are drawn in, and come back as they were."""

import math
import warnings
from types import SimpleNamespace

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from sklearn.datasets import load_digits

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
    sinh_transformed = with_tails(space, tails)
    u = sinh_transformed.flatten(values)
    assert find_tails(sinh_transformed, u) == {}
    torch.testing.assert_close(u[:, 1:3], torch.asinh((z[:, 1:3] - loc) / scale))
    back = sinh_transformed.unflatten(u)
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
    run = guide.condition(y=5.0, backend="numpy", correction=sp.TemperedSMC()).run(2_000)
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


def one_site(numbers=1, support=dist.constraints.real):
    shape = torch.Size([numbers])
    site = SimpleNamespace(name="x", start=0, stop=numbers, unconstrained_shape=shape, support=support)
    return SimpleNamespace(sites=[site])


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
        found = find_tails(one_site(), torch.as_tensor(values)[:, None])
        assert bool(found) == heavy, name


DIGITS = torch.as_tensor(load_digits().data, dtype=D) / 16


class Digits(dist.TorchDistribution):
    """Pictures of 64 pixels with a little noise, of which some are nearly always empty."""

    support = dist.constraints.real_vector
    arg_constraints = {}

    def __init__(self, noise):
        self.noise = noise
        super().__init__((), torch.Size([64]), validate_args=False)

    def expand(self, batch_shape, _instance=None):
        new = Digits(self.noise)
        new._batch_shape = torch.Size(batch_shape)
        return new

    def rsample(self, sample_shape=()):
        chosen = DIGITS[torch.randint(len(DIGITS), (*sample_shape, *self.batch_shape))]
        return chosen + self.noise * torch.randn_like(chosen)


@pytest.mark.parametrize("noise", [0.01, 0.02, 0.05])
def test_empty_pixels_are_no_heavy_tails_and_keep_the_closed_form(noise):
    def model(y=None):
        x = pyro.sample("x", Digits(noise))
        pyro.sample("y", dist.Normal(x[..., ::3], 0.1).to_event(1), obs=y)

    guide = sp.ScoreGuide(model, net=None)
    with warnings.catch_warnings():
        warnings.simplefilter("error", sp.HeavyTailsWarning)
        guide.fit_gaussian(40_000, progress=False)
    assert guide.tails == {}
    assert guide.condition(y=DIGITS[3, ::3]).run(2).diagnosis.likelihood == "exact"


def test_what_is_bounded_has_no_heavy_tails():
    """Draws that look like a t with 2 degrees (seed 3): between edges they have no tails; where 20 others
    of the same site reach farther, they are the rare spots of a field; and where the farthest of ten times
    as many draws lie no farther out, they end there."""
    generator = np.random.default_rng(3)
    t = torch.as_tensor(generator.standard_t(2.0, (8192, 1)))
    assert find_tails(one_site(), t)
    assert not find_tails(one_site(support=dist.constraints.interval(0.0, 1.0)), t)
    assert not find_tails(one_site(support=dist.constraints.simplex), t)
    far = float(t.abs().max())
    wide = torch.as_tensor(generator.uniform(-2 * far, 2 * far, (8192, 20)))
    assert not find_tails(one_site(21), torch.cat([t, wide], dim=1))
    assert find_tails(one_site(21), torch.cat([t, wide / 1000], dim=1))
    assert find_tails(
        one_site(), t, (torch.as_tensor(generator.standard_t(2.0, (8192, 1))) for _ in range(9))
    )
    # 1,000 draws as far out as the first 8192 go, which bounds them
    assert not find_tails(one_site(), t, [torch.full((1000, 1), far, dtype=D)])


def test_heavy_tails_are_said_and_can_be_left_alone():
    def model(y=None):
        x = pyro.sample("x", dist.StudentT(torch.tensor(2.0, dtype=D), 1.0, 3.0))
        pyro.sample("y", dist.Normal(x, 1.0), obs=y)

    with pytest.warns(sp.HeavyTailsWarning, match=r"\['x'\] have heavy tails.*tails=False"):
        sp.ScoreGuide(model, net=None).fit_gaussian(20_000, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", sp.HeavyTailsWarning)
        guide = sp.ScoreGuide(model, net=None, tails=False).fit_gaussian(20_000, progress=False)
    assert guide.tails == {}
    assert guide.condition(y=5.0, correction=None).run(2).diagnosis.likelihood == "exact"
