"""Sites observed at values that depend on the latents: their density is that of the model's own trace."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from site_models import SCALES, A, B, D, eta, nan, prior, read, t

from sdeppl.tracing import (
    ConstraintSite,
    DensitySite,
    FamilySite,
    GaussianSite,
    ModelError,
    find_sites,
)
from sdeppl.tracing.runs import origins_of

Y = t(1.0, 2.0, 3.0)
S = A @ A.T + torch.eye(3, dtype=D)


def residuals(fn, value):
    """x ~ prior, r ~ fn(x) observed at value(x)."""

    def model():
        x = prior()
        pyro.sample("r", fn(x), obs=value(x))

    return model


def own_density(model, z):
    """ln p of all but the latent x, as the model's own trace has it at x = z."""
    with pyro.validation_enabled(False), torch.no_grad():
        trace = poutine.trace(poutine.condition(model, data={"x": z})).get_trace()
        return trace.log_prob_sum(site_filter=lambda name, site: name != "x")


GAUSSIAN, FAMILY, DENSITY = GaussianSite, FamilySite, DensitySite
CASES = {
    "affine": (lambda x: dist.Normal(eta(x), SCALES).to_event(1), lambda x: Y - 2 * x, GAUSSIAN),
    "not to_event": (lambda x: dist.Normal(0.0 * Y, SCALES), lambda x: Y - A @ x, GAUSSIAN),
    "curved": (lambda x: dist.Normal(eta(x), SCALES).to_event(1), lambda x: x**2, GAUSSIAN),
    "multivariate": (lambda x: dist.MultivariateNormal(eta(x), S), lambda x: Y - x, GAUSSIAN),
    "low rank": (
        lambda x: dist.LowRankMultivariateNormal(B, A[:, :1], SCALES),
        lambda x: Y - x,
        GAUSSIAN,
    ),
    "noise of the latents": (
        lambda x: dist.Normal(B, eta(x).exp()).to_event(1),
        lambda x: Y - x,
        GAUSSIAN,
    ),
    "student": (lambda x: dist.StudentT(t(3.0), B, SCALES).to_event(1), lambda x: Y - eta(x), FAMILY),
    "laplace": (lambda x: dist.Laplace(B, SCALES).to_event(1), lambda x: Y - eta(x), FAMILY),
    "von mises": (lambda x: dist.VonMises(B, t(1.7)).to_event(1), lambda x: x, FAMILY),
    "lognormal": (lambda x: dist.LogNormal(B, SCALES).to_event(1), lambda x: x.exp(), DENSITY),
    "gamma": (lambda x: dist.Gamma(t(2.5), (x[0] / 3).exp()).expand([3]), lambda x: x**2, DENSITY),
    "beta": (lambda x: dist.Beta(t(2.5), t(1.5)).expand([3]).to_event(1), torch.sigmoid, DENSITY),
    "mixture": (
        lambda x: dist.MixtureSameFamily(
            dist.Categorical(t(0.2, 0.8).expand(3, 2)), dist.Normal(t(0.0, 1.0).expand(3, 2), 0.7)
        ),
        lambda x: Y - x,
        DENSITY,
    ),
    "multivariate student": (
        lambda x: dist.MultivariateStudentT(t(3.0)[0], B, S),
        lambda x: Y - x,
        DENSITY,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_density_is_that_of_the_trace(case):
    fn, value, kind = CASES[case]
    model = residuals(fn, value)
    (site,) = read(model)
    assert isinstance(site, kind) and site.differentiable and site.vectorised
    for z in t(0.3, -1.0, 0.8), t(-0.2, 0.4, 1.4):
        torch.testing.assert_close(site.log_prob(z), own_density(model, z))


def test_an_affine_residual_is_a_linear_observation_of_zero():
    (site,) = read(residuals(*CASES["affine"][:2]))
    torch.testing.assert_close(site.H, A + 2 * torch.eye(3, dtype=D))
    torch.testing.assert_close(site.offset, B - Y)
    torch.testing.assert_close(site.R, SCALES**2)
    torch.testing.assert_close(site.y, torch.zeros(3, dtype=D))


def test_masked_and_missing_numbers_are_left_out():
    gap = t(1.0, nan, 3.0)
    masked = residuals(
        lambda x: dist.Normal(eta(x), SCALES).mask(torch.tensor([True, False, True])).to_event(1),
        lambda x: Y - x,
    )
    (site,), (other,) = read(masked), read(residuals(CASES["affine"][0], lambda x: gap - x))
    z = t(0.3, -1.0, 0.8)
    expected = dist.Normal(eta(z), SCALES).log_prob(Y - z)[[0, 2]].sum()
    torch.testing.assert_close(site.log_prob(z), expected)
    torch.testing.assert_close(other.log_prob(z), expected)
    (joint,) = read(residuals(CASES["multivariate"][0], lambda x: gap - x))
    kept = [0, 2]
    marginal = dist.MultivariateNormal(eta(z)[kept], S[kept][:, kept])
    torch.testing.assert_close(joint.log_prob(z), marginal.log_prob((Y - z)[kept]))


def test_two_values_that_must_agree_are_a_constraint():
    (site,) = read(residuals(lambda x: dist.Delta(2 * x, event_dim=1), lambda x: Y - A @ x))
    assert isinstance(site, ConstraintSite)
    torch.testing.assert_close(site.H, A + 2 * torch.eye(3, dtype=D))
    torch.testing.assert_close(site.y - site.offset, Y)


def test_what_the_model_observes_at_fixed_data_is_read_as_data():
    fn = CASES["affine"][0]
    for value in (lambda x: Y, lambda x: Y + 0 * x):
        (site,) = read(residuals(fn, value))
        torch.testing.assert_close(site.y, Y)
        torch.testing.assert_close(site.H, A)


COMPUTED = {
    "pyro.deterministic": lambda v: pyro.deterministic("v", v),
    "Delta": lambda v: pyro.sample("v", dist.Delta(v, event_dim=1), obs=v),
    "masked Delta": lambda v: pyro.sample("v", dist.Delta(v, event_dim=1).mask(False), obs=v),
}


@pytest.mark.parametrize("how", COMPUTED)
def test_a_delta_at_its_own_value_is_no_observation(how):
    def model():
        v = COMPUTED[how](2 * prior())
        pyro.sample("y", dist.Normal(v, 0.5).to_event(1))

    found = find_sites(model)
    assert (found.space.names, found.observable, found.moving) == (["x"], ("y",), ())
    (site,) = read(model, y=Y)
    torch.testing.assert_close(site.H, 2 * torch.eye(3, dtype=D))
    with pytest.raises(ModelError, match="'v' is computed from other sites"):
        read(model, v=Y, y=Y)
    with pytest.raises(ModelError, match="'v' is computed from other sites"):
        find_sites(model, latents=["v"])


def test_kinds_of_sites():
    def model():
        x = prior()
        y = pyro.sample("y", dist.Normal(x, 1.0).to_event(1), obs=Y)
        pyro.sample("r", dist.Normal(0.0 * Y, 1.0).to_event(1), obs=y - x)
        pyro.sample("w", dist.Normal(x, 1.0).to_event(1), obs=y + 1.0)

    found = find_sites(model)
    assert (found.space.names, found.observable, found.moving) == (["x"], ("y", "w"), ("r",))


def test_origins_through_assignments_and_computed_sites():
    data = torch.zeros(4)

    def model():
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        gaps = pyro.sample("gaps", dist.Normal(mu, 1.0).expand([2]).to_event(1))
        data[1:3] = gaps
        pyro.sample("y", dist.Normal(0.0, 1.0).expand([4]).to_event(1), obs=data)
        twice = pyro.sample("twice", dist.Delta(2 * mu), obs=2 * mu)
        pyro.sample("z", dist.Normal(twice, 1.0))

    trace = poutine.trace(model).get_trace()
    origins = origins_of(model, (), {}, {n: s for n, s in trace.nodes.items() if s["type"] == "sample"})
    assert origins.value["y"] == {"gaps"} and origins.distribution["y"] == set()
    assert origins.distribution["z"] == {"mu"} and origins.data == frozenset()
    assert type(data) is torch.Tensor  # as it was
    assert find_sites(model).moving == ("y",)


def test_values_that_depend_on_what_no_latent_gives_are_refused():
    def noisy():
        x = prior()
        pyro.sample("r", dist.Normal(0.0 * Y, 1.0).to_event(1), obs=Y - x + torch.randn(3))

    def ragged():
        x = prior()
        pyro.sample("r", dist.Normal(0.0 * Y, 1.0).to_event(1), obs=torch.where(x > 0, x, nan))

    with pytest.raises(ModelError, match="'r' depends on something random that is neither"):
        read(noisy)
    with pytest.raises(ModelError, match="'r': which numbers of its value are missing"):
        read(ragged)
    with pytest.raises(ModelError, match=r"'r': Normal of shape \(2,\) has no density at a value"):
        read(residuals(lambda x: dist.Normal(0.0, 1.0).expand([2]), lambda x: Y - x))


def test_a_weighted_delta_is_refused_by_name():
    def model():
        x = prior()
        pyro.sample("w", dist.Delta(x, log_density=-(x.sum() ** 2), event_dim=1), obs=x)
        pyro.sample("y", dist.Normal(x, 1.0).to_event(1))

    with pytest.raises(ModelError, match=r"'w' is a Delta with a log_density, which is a pyro\.factor"):
        read(model, y=Y)
