"""Every kind of observed site: ln p(y | z) as it was read is that of the model's own trace."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from site_models import (
    AFFINE_FAMILIES,
    ALL,
    CURVED_FAMILIES,
    DENSITIES,
    GAUSSIANS,
    LATENT_NOISE,
    A,
    B,
    D,
    Skewed,
    eta,
    nan,
    own_log_prob,
    prior,
    read,
    t,
    with_likelihood,
)

from sdeppl.tracing import ConstraintSite, DensitySite, FamilySite, GaussianSite, ModelError

pytestmark = pytest.mark.filterwarnings("ignore::sdeppl.tracing.SlowDrawsWarning", "ignore:There is a perf")
POINTS = torch.randn((6, 3), generator=torch.Generator().manual_seed(3), dtype=D)


def event(case):
    """Independent numbers as one event."""
    fn, y = case
    return with_likelihood(lambda x: fn(x).to_event(len(fn(x).batch_shape))), y


def agrees(site, model, tolerance=1e-10, points=POINTS, **data):
    found = torch.stack([site.log_prob(z) for z in points])
    expected = torch.stack([own_log_prob(model, z, **data) for z in points])
    assert bool(torch.isfinite(expected).any())
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ALL)
def test_log_density_is_that_of_the_trace(name):
    model, y = event(ALL[name])
    (site,) = read(model, y=y)
    kind, _, which = name.partition(": ")
    expected = {"family": FamilySite, "curved family": FamilySite, "density": DensitySite}
    assert type(site) is expected.get(kind, GaussianSite)
    assert site.differentiable and site.vectorised
    if kind != "density":
        assert (site.H is not None) == (kind == "family" or which in AFFINE_GAUSSIANS)
    agrees(site, model, y=y)


AFFINE_GAUSSIANS = [name for name in GAUSSIANS if name != "curved"]


@pytest.mark.parametrize("name", AFFINE_FAMILIES)
def test_predictors_are_affine_with_the_matrix_of_the_model(name):
    model, y = event(AFFINE_FAMILIES[name])
    (site,) = read(model, y=y)
    rate_of_a_mean = {"mixture of rates": t(0.5).log(), "mixture of shifts": t(-1.0)}
    torch.testing.assert_close(site.H, A, rtol=1e-12, atol=1e-12)
    # of a mixture, η is the first component's
    torch.testing.assert_close(site.offset, B + rate_of_a_mean.get(name, 0.0), rtol=1e-12, atol=1e-12)
    etas = torch.stack([site.predictor(z) for z in POINTS])
    torch.testing.assert_close(etas, POINTS @ site.H.T + site.offset, rtol=1e-12, atol=1e-12)
    # η (batch, nodes, n), as quadrature asks for them
    found = site.log_density(etas.reshape(2, 3, -1), site.y)
    rows = torch.stack([site.log_density(row, site.y) for row in etas])
    torch.testing.assert_close(found, rows.reshape(2, 3, -1), rtol=1e-12, atol=1e-12)


def test_predictors_that_bend():
    """The slope of η = f(A x + B) is f' A; H there would be wrong."""
    for name, curve in [("squared location", lambda e: e**2), ("squared logit", lambda e: e**2)]:
        model, y = event(CURVED_FAMILIES[name])
        (site,) = read(model, y=y)
        z = POINTS[1]
        torch.testing.assert_close(site.predictor(z), curve(A @ z + B), rtol=1e-12, atol=1e-12)
        slope = torch.func.jacrev(site.predictor)(z)
        torch.testing.assert_close(slope, 2 * (A @ z + B)[:, None] * A, rtol=1e-12, atol=1e-12)


UNIVARIATE = {
    name: case
    for name, case in ALL.items()
    if name.split(": ")[1] not in ("dirichlet", "multinomial", "multivariate student", "categorical")
}


@pytest.mark.parametrize("name", UNIVARIATE)
def test_what_was_not_observed_is_left_out(name):
    model, y = event(UNIVARIATE[name])
    y = [y[0], nan, y[2]]
    (site,) = read(model, y=y)
    agrees(site, model, tolerance=1e-9, y=y)
    assert site.seen.shape == (2,)
    if isinstance(site, FamilySite):
        assert site.y.tolist() == [y[0], y[2]]
        if site.H is not None:
            torch.testing.assert_close(site.H, A[[0, 2]], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["poisson", "student", "heavy-tailed mixture", "censored", "binomial"])
def test_nothing_observed_says_nothing(name):
    model, _ = event(AFFINE_FAMILIES[name])
    (site,) = read(model, y=[nan, nan, nan])
    assert len(site.seen) == 0
    assert float(site.log_prob(POINTS[0])) == 0.0


PLATED = {
    "family": lambda e: dist.Poisson(e.exp()),
    "latent noise": lambda e: dist.Normal(e, e.exp()),
    "density": lambda e: dist.StudentT(t(3.0), e, e.exp()),
}


@pytest.mark.parametrize("kind", PLATED)
def test_plates_and_masks(kind):
    rows, mask = torch.tensor([[0, 2], [1, 1]]), torch.tensor([[True, False], [True, True]])

    def model():
        e = eta(prior())[rows]
        with pyro.plate("outer", 2, dim=-2), pyro.plate("inner", 2, dim=-1), poutine.mask(mask=mask):
            pyro.sample("y", PLATED[kind](e))

    y = torch.tensor([[2.0, 1.0], [nan, 3.0]], dtype=D)
    (site,) = read(model, latents=["x"], y=y)
    assert (len(site.seen), site.vectorised) == (2, True)
    agrees(site, model, y=y)


def test_several_sites_one_inside_another():
    def model():
        x = prior()
        n = pyro.sample("n", dist.Poisson(eta(x).exp()).to_event(1))
        pyro.sample("k", dist.Binomial(n, torch.sigmoid(x)).to_event(1))
        pyro.sample("y", dist.StudentT(t(4.0), n + x, 0.5).to_event(1))

    data = {"n": [3.0, 1.0, 6.0], "k": [2.0, 0.0, 5.0], "y": [3.5, 0.2, nan]}
    sites = read(model, latents=["x"], **data)
    assert [type(site) for site in sites] == [FamilySite] * 3
    for site in sites:
        alone = sum(
            own_log_prob(model, POINTS[0], **{k: v for k, v in data.items() if k in kept}) * sign
            for kept, sign in BETWEEN[site.name]
        )
        torch.testing.assert_close(site.log_prob(POINTS[0]), alone, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(sites[1].H, torch.eye(3, dtype=D), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(sites[2].offset, t(3.0, 1.0), rtol=1e-12, atol=1e-12)
    with pytest.raises(ModelError, match=r"'k' depends on something random .*: site 'n', which is discrete"):
        read(model, latents=["x"], k=data["k"])


# what must be added to and taken from each other to leave one site
BETWEEN = {"n": [("n", 1)], "k": [("nk", 1), ("n", -1)], "y": [("ny", 1), ("n", -1)]}


def test_a_number_alone_and_a_scalar_latent():
    def model():
        rate = pyro.sample("x", dist.Gamma(t(2.0)[0], 1.5))
        pyro.sample("y", dist.Poisson(3 * rate))

    (site,) = read(model, y=4.0)
    torch.testing.assert_close(site.H, torch.ones((1, 1), dtype=D))  # z is the logarithm of the rate
    torch.testing.assert_close(site.offset, t(3.0).log())
    expected = dist.Poisson(3 * t(0.7).exp()).log_prob(t(4.0))[0]
    torch.testing.assert_close(site.log_prob(t(0.7)), expected)


@pytest.mark.parametrize("name", ["poisson", "student", "bernoulli by probs", "negative binomial"])
def test_models_in_float32(name):
    fn, y = AFFINE_FAMILIES[name]

    def model():
        x = prior(torch.float32)
        base = fn(x.double())
        single = {k: v.float() for k, v in vars(base).items() if k in base.arg_constraints}
        pyro.sample("y", type(base)(**single).to_event(1))

    (site,) = read(model, y=y)
    assert isinstance(site, FamilySite)
    torch.testing.assert_close(site.H, A, rtol=1e-5, atol=1e-5)
    agrees(site, with_likelihood(lambda x: fn(x).to_event(1)), tolerance=1e-5, y=y)


def test_whole_events_may_be_missing():
    def model():
        x = prior()
        with pyro.plate("two", 2):
            pyro.sample("y", dist.MultivariateStudentT(t(3.0, 5.0), eta(x), torch.eye(3, dtype=D)))

    y = torch.tensor([[1.0, 2.0, 0.3], [nan, nan, nan]], dtype=D)
    (site,) = read(model, latents=["x"], y=y)
    z = POINTS[2]
    alone = dist.MultivariateStudentT(t(3.0)[0], eta(z), torch.eye(3, dtype=D)).log_prob(y[0])
    torch.testing.assert_close(site.log_prob(z), alone, rtol=1e-12, atol=1e-12)
    agrees(site, model, y=y)
    with pytest.raises(ModelError, match="'y' has missing entries, but MultivariateStudentT cannot"):
        read(model, latents=["x"], y=[[1.0, nan, 0.3], [1.0, 2.0, 3.0]])


def test_part_of_a_normal_event_with_latent_covariance():
    fn, y = LATENT_NOISE["covariance"]
    y = [y[0], nan, y[2]]
    model = with_likelihood(fn)
    (site,) = read(model, y=y)
    agrees(site, model, y=y)


def test_a_delta_is_a_constraint():
    def model():
        x = prior()
        m = pyro.sample("m", dist.Delta(2 * x))  # in between, it is nothing of its own
        pyro.sample("total", dist.Delta(A @ m + B, event_dim=1))
        pyro.sample("w", dist.Normal(m, 1.0).to_event(1))

    (site,) = read(model, total=[1.0, nan, 2.0])
    assert type(site) is ConstraintSite
    torch.testing.assert_close(site.H, 2 * A)
    torch.testing.assert_close(site.offset, B)
    torch.testing.assert_close(site.y, t(1.0, nan, 2.0), equal_nan=True)


def test_densities_by_hand():
    """Against formulas written out here, not through the distribution."""
    z = POINTS[3]
    (site,) = read(event(AFFINE_FAMILIES["poisson"])[0], y=[2.0, 0.0, 5.0])
    y, e = t(2.0, 0.0, 5.0), A @ z + B
    torch.testing.assert_close(site.log_prob(z), (y * e - e.exp() - torch.lgamma(y + 1)).sum())
    (site,) = read(event(GAUSSIANS["lognormal"])[0], y=[2.0, 0.3, 5.0])
    y, s = t(2.0, 0.3, 5.0), t(0.4, 1.3, 0.8)
    normal = -0.5 * ((y.log() - e) / s) ** 2 - s.log() - 0.5 * torch.log(t(2 * torch.pi)) - y.log()
    torch.testing.assert_close(site.log_prob(z), normal.sum())
    (site,) = read(event(DENSITIES["of the user's own"])[0], y=[2.0, -0.3, 5.0])
    r = t(2.0, -0.3, 5.0) - e
    torch.testing.assert_close(site.log_prob(z), (-r - torch.exp(-r)).sum())
    assert Skewed.arg_constraints == {}
