"""Draws and densities of priors that agree, of many families, and of some that do not."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import constraints

import sdeppl as sp
from sdeppl.tracing import PriorRecord, SiteReader, find_sites

D = torch.float64


def T(value):
    return torch.tensor(value, dtype=D)


FAMILIES = {
    "Normal": lambda: dist.Normal(T(3.0), 0.1),
    "Normal in float32": lambda: dist.Normal(torch.tensor(100.0), 0.001),
    "Laplace": lambda: dist.Laplace(T(1.0), 2.0),
    "StudentT": lambda: dist.StudentT(T(2.0), 0.0, 1.0),
    "Cauchy": lambda: dist.Cauchy(T(0.0), 2.0),
    "HalfCauchy": lambda: dist.HalfCauchy(T(1.0)),
    "HalfNormal": lambda: dist.HalfNormal(T(2.0)),
    "Gamma": lambda: dist.Gamma(T(0.7), 2.0),
    "InverseGamma": lambda: dist.InverseGamma(T(3.0), 1.0),
    "Beta": lambda: dist.Beta(T(2.0), T(0.5)),
    "Dirichlet": lambda: dist.Dirichlet(T([1.0, 2.0, 0.5])),
    "Exponential": lambda: dist.Exponential(T(1.0)),
    "LogNormal": lambda: dist.LogNormal(T(0.0), 0.5),
    "Uniform": lambda: dist.Uniform(T(-1.0), 3.0),
    "Gumbel": lambda: dist.Gumbel(T(0.0), 1.0),
    "Pareto": lambda: dist.Pareto(T(1.0), T(3.0)),
    "VonMises": lambda: dist.VonMises(T(0.5), T(2.0)),
    "MultivariateNormal": lambda: dist.MultivariateNormal(T([0.0, 1.0]), T([[1.0, 0.8], [0.8, 1.0]])),
    "mixture": lambda: dist.MixtureSameFamily(
        dist.Categorical(T([0.3, 0.7])), dist.Normal(T([-2.0, 2.0]), 0.5)
    ),
    "shifted exponential": lambda: dist.TransformedDistribution(
        dist.Exponential(T(1.0)), [dist.transforms.AffineTransform(2.0, 3.0)]
    ),
    "vector": lambda: dist.Gamma(T([0.5, 1.0, 20.0]), T([1.0, 1e3, 1e-3])).to_event(1),
}


class Pair(dist.TorchDistribution):
    """Draws of one distribution, densities of another."""

    arg_constraints = {}

    def __init__(self, draws, density, support=constraints.real, tilt=None):
        self.draws, self.density, self.own_support, self.tilt = draws, density, support, tilt
        super().__init__(draws.batch_shape, draws.event_shape, validate_args=False)

    @property
    def support(self):
        return self.own_support

    def sample(self, sample_shape=()):
        return self.draws.sample(sample_shape)

    def log_prob(self, value):
        found = self.density.log_prob(value)
        return found if self.tilt is None else found + self.tilt(value)


def site(fn):
    def model(y=None):
        x = pyro.sample("x", fn())
        pyro.sample("y", dist.Normal(x.sum(), 1.0), obs=y)

    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_right_ones_agree(family):
    check = sp.check_prior(site(FAMILIES[family]), draws=2_000)
    assert check.good and not check.sites[0].skipped, check
    assert "agree" in check.verdict and check.sites[0].effect < (1.2 if family == "Cauchy" else 0.5)


def test_right_ones_fail_once_in_a_thousand():
    """p < .05 in at most 5% of 200 checks, each of three numbers, and 5 standard errors; seeds 0 to 199."""

    def model():
        with pyro.plate("plate", 3):
            pyro.sample("x", dist.Gamma(T(2.0), 1.0))

    found = [sp.check_prior(model, latents=["x"], draws=500, seed=seed).sites[0].p for seed in range(200)]
    assert np.count_nonzero(np.array(found) < 0.05) <= 10 + 5 * math.sqrt(9.5) and min(found) > 1e-3 / 200


POSITIVE = constraints.positive
WRONG = {
    "another scale": lambda: Pair(dist.Normal(T(0.0), 1.0), dist.Normal(T(0.0), 1.1)),
    "a rate taken for a scale": lambda: Pair(
        dist.Gamma(T(2.0), T(3.0)), dist.Gamma(T(2.0), T(1 / 3)), POSITIVE
    ),
    "a shifted support": lambda: Pair(
        dist.TransformedDistribution(dist.Exponential(T(1.0)), [dist.transforms.AffineTransform(0.3, 1.0)]),
        dist.Exponential(T(1.0)),
        POSITIVE,
    ),
    "no Jacobian": lambda: Pair(
        dist.LogNormal(T(0.0), 0.5), dist.LogNormal(T(0.0), 0.5), POSITIVE, tilt=lambda x: x.log()
    ),
    "a truncation that draws ignore": lambda: Pair(
        dist.Normal(T(0.0), 1.0), dist.Normal(T(0.0), 1.0), tilt=lambda x: torch.where(x > -1, 0.0, -math.inf)
    ),
    "a correlation": lambda: Pair(
        dist.MultivariateNormal(T([0.0, 0.0]), T([[1.0, 0.6], [0.6, 1.0]])),
        dist.Normal(T([0.0, 0.0]), 1.0).to_event(1),
        constraints.real_vector,
    ),
    "degrees of freedom": lambda: Pair(dist.StudentT(T(3.0)), dist.StudentT(T(30.0))),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_ones_are_found(wrong):
    check = sp.check_prior(site(WRONG[wrong]))
    assert not check.good and check.verdict.startswith("do not trust: latent site 'x'"), check
    if wrong == "a truncation that draws ignore":
        assert check.sites[0].outside == pytest.approx(0.1587, abs=0.02) and "-inf" in check.verdict


def test_the_effect_is_a_shift_in_standard_deviations():
    """Of N(.2, 2) draws and N(0, 2): .1 standard deviations; 5 standard errors of 40,000 draws."""
    fn = lambda: Pair(dist.Normal(T(0.2), 2.0), dist.Normal(T(0.0), 2.0))  # noqa: E731
    check = sp.check_prior(site(fn), draws=40_000)
    assert check.sites[0].effect == pytest.approx(0.1, abs=5 / math.sqrt(40_000) + 0.005)


def test_the_site_is_named_not_its_children_or_parents():
    """The middle of a chain of three; the others are right, given their parents."""

    def model():
        a = pyro.sample("a", dist.Normal(T(0.0), 1.0))
        b = pyro.sample("b", Pair(dist.Normal(a, 1.0), dist.Normal(a, 2.0)))
        pyro.sample("c", dist.Normal(b, 1.0))

    check = sp.check_prior(model, latents=["a", "b", "c"])
    assert [found.good for found in check.sites] == [True, False, True]


def test_a_scale_that_draws_take_from_a_parent_and_the_density_does_not():
    def model():
        a = pyro.sample("a", dist.Normal(T(0.0), 1.0))
        pyro.sample("b", Pair(dist.Normal(0.5 * a, 1.0), dist.Normal(T(0.0), math.sqrt(1.25))))

    check = sp.check_prior(model, latents=["a", "b"])
    assert [found.good for found in check.sites] == [True, False]


def test_a_site_without_density_is_passed_over():
    class Program(Pair):
        def log_prob(self, value):
            raise NotImplementedError

    fn = lambda: Program(dist.Normal(T(0.0), 1.0), None)  # noqa: E731
    check = sp.check_prior(site(fn))
    assert check.good and check.sites[0].skipped == "it has no density given the other latents"
    assert "at 0 latent sites" in check.verdict and "1 have no density" in check.verdict


def test_a_site_given_something_random_that_is_no_latent_is_passed_over():
    def model():
        start = pyro.sample("start", dist.Normal(T(0.0), 3.0))
        pyro.sample("x", dist.Normal(start, 0.1))

    check = sp.check_prior(model, latents=["x"])
    assert check.good and check.sites[0].skipped


def test_torch_draws_lkj_matrices_of_another_density():
    """Of 3 rows and concentration 2 a correlation has variance 1/6; where torch's draws have, they agree."""
    torch.manual_seed(0)
    factor = dist.LKJCholesky(3, T(2.0)).sample((20_000,))
    variance = float((factor @ factor.mT)[:, 2, 1].var())
    right = abs(variance - 1 / 6) < 0.01
    check = sp.check_prior(lambda: pyro.sample("x", dist.LKJCholesky(3, T(2.0))), latents=["x"])
    assert check.good == right


@pytest.mark.parametrize("wrong", ["another scale", "a shifted support", "no Jacobian"])
def test_a_guide_says_so_at_the_fit_and_does_not_trust_its_posterior(wrong):
    guide = sp.ScoreGuide(site(WRONG[wrong]), net=None, latents=["x"])
    with pytest.warns(sp.UntrustedWarning, match="latent site 'x': its draws are not of its log_prob"):
        guide.fit_gaussian(50_000, progress=False)
    run = guide.condition(y=0.5).run(50)
    assert not run.diagnosis.trusted and "its draws are not of its log_prob" in run.diagnosis.text


def test_what_is_observed_is_not_drawn_and_all_draws_are_compared():
    """vmap cannot draw a projected normal, which made it a check of 256 draws."""

    def model(y=None):
        x = pyro.sample("x", dist.Gamma(T(2.5), T(0.4)))
        pyro.sample("y", dist.ProjectedNormal(torch.stack([x, x])), obs=y)

    check = sp.check_prior(model, latents=["x"], draws=3_000)
    assert check.good and check.draws == 3_000


def test_a_data_set_has_no_density():
    """The log_prob of dist.Empirical is of a mass, which says nothing of moments."""
    data = torch.randn((500, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def model():
        x = pyro.sample("x", dist.Empirical(data, torch.zeros(500)))
        pyro.sample("y", dist.Normal(x, 1.0).to_event(1))

    guide = sp.ScoreGuide(model, net=None)
    sp.ScoreMatching(guide, draws=2_000).fit(steps=0, progress=False)
    assert not guide.fit_check.density and not guide.fit_check.disagreement


SCALES = {"field": 1.0}


def wide(y=None):
    def sampler(n):  # by torch's generator, as any model that draws something else before
        extra = torch.randn(SCALES.get("extra", 0))
        return SCALES["field"] * torch.randn(n, 4_000, dtype=D) + 0 * extra.sum()

    pyro.sample("field", sp.Simulated(sampler, 4_000))


@pytest.fixture
def record():
    SCALES.update(field=1.0, extra=0)
    space = find_sites(wide, latents=["field"]).space
    reader = SiteReader(wide, space, (), {})
    yield PriorRecord.of(reader, (0, 7)), reader
    SCALES.update(field=1.0, extra=0)


def test_few_draws_of_a_wide_site_are_kept_and_tell_a_change(record):
    """4,000 numbers: four draws and 130 numbers of 64 more; a scale that is 1.15 times what it was is found,
    and the same prior by other random numbers is not. Seed 7."""
    kept, reader = record
    assert kept.z.shape == (4, 4_000) and kept.summary.shape == (64, 130)
    assert kept.changed(reader) is None
    SCALES["extra"] = 3  # other numbers, the same law
    assert kept.changed(reader) is None
    SCALES["field"] = 1.15
    assert kept.changed(reader) == "field"
