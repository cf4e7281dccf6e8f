"""True supports: what transforms make of the base's, and the density inside them alone."""

import math

import pyro
import pyro.distributions as dist
import pyro.distributions.transforms as PT
import pytest
import torch
from torch.distributions import constraints
from torch.distributions import transforms as T

from sdeppl.tracing.latents import LatentSpace
from sdeppl.tracing.randomness import seeded
from sdeppl.tracing.supports import Image, bounds, fixed_support, log_density, plain

pytestmark = pytest.mark.usefixtures("unchecked")
D, INF = torch.float64, math.inf
e, ln = math.exp, math.log


def t(*numbers):
    return torch.tensor(numbers[0] if len(numbers) == 1 else numbers, dtype=D)


@pytest.fixture
def unchecked():
    """As models are read: without torch's validation, which rounding onto an end would not pass."""
    with pyro.validation_enabled(False):
        yield


def of(base, *parts):
    return dist.TransformedDistribution(base, list(parts))


def exponential():
    return dist.Exponential(t(1.5))


def affine(loc, scale):
    return T.AffineTransform(loc, scale)


NORMAL = torch.distributions.Normal(t(1.0), 2.0)
# distribution, and the ends of its support as pencil and paper have them
NUMBERS = {
    "shifted": (of(exponential(), affine(2.0, 1.0)), (2.0, INF)),
    "turned": (of(exponential(), affine(2.0, -3.0)), (-INF, 2.0)),
    "shifted twice": (of(of(exponential(), affine(2.0, 1.0)), affine(1.0, -0.5)), (-INF, 0.0)),
    "log of shifted": (of(exponential(), affine(2.0, 1.0), T.ExpTransform().inv), (ln(2.0), INF)),
    "composed": (
        of(exponential(), T.ComposeTransform([affine(2.0, 1.0), T.ExpTransform().inv])),
        (ln(2), INF),
    ),
    "inverse of composed": (
        of(exponential(), T.ComposeTransform([T.ExpTransform(), affine(-2.0, 1.0)]).inv),
        (ln(2.0), INF),
    ),
    "scaled uniform": (of(dist.Uniform(t(0.5), 2.0), affine(1.0, -2.0)), (-3.0, 0.0)),
    "log-uniform": (of(dist.Uniform(t(-1.0), 2.0), T.ExpTransform()), (e(-1.0), e(2.0))),
    "logit of beta": (of(dist.Beta(t(2.0), 3.0), T.SigmoidTransform().inv), (-INF, INF)),
    "logit of inner beta": (
        of(dist.Beta(t(2.0), 3.0), affine(0.25, 0.5), T.SigmoidTransform().inv),
        (-ln(3.0), ln(3.0)),
    ),
    "tanh": (of(dist.Uniform(t(-1.0), 2.0), T.TanhTransform()), (-math.tanh(1.0), math.tanh(2.0))),
    "softplus": (of(dist.Uniform(t(-1.0), 2.0), T.SoftplusTransform()), (ln(1 + e(-1.0)), ln(1 + e(2.0)))),
    "power": (of(dist.Gamma(t(3.0), 3.0), T.PowerTransform(t(-0.5))), (0.0, INF)),
    "power of uniform": (of(dist.Uniform(t(1.0), 3.0), T.PowerTransform(t(-2.0))), (1 / 9, 1.0)),
    "quantile": (
        of(dist.Uniform(t(0.2), 0.7), T.CumulativeDistributionTransform(NORMAL).inv),
        tuple(NORMAL.icdf(t(0.2, 0.7)).tolist()),
    ),
    "exp of minus half-normal": (of(dist.HalfNormal(t(1.0)), affine(0.0, -1.0), T.ExpTransform()), (0, 1.0)),
    "shifted log-normal": (of(dist.LogNormal(t(0.0), 0.5), affine(-1.0, 1.0)), (-1.0, INF)),
    "scaled log-normal": (of(dist.Normal(t(0.3), 0.5), T.ExpTransform(), affine(0.0, 2.0)), (0.0, INF)),
    "pareto": (dist.Pareto(t(1.5), 3.0), (1.5, INF)),
    "log of pareto": (of(dist.Pareto(t(1.5), 3.0), T.ExpTransform().inv), (ln(1.5), INF)),
    "folded, longer below": (dist.FoldedDistribution(dist.Uniform(t(-3.0), 1.0)), (0.0, 3.0)),
    "folded, all below": (dist.FoldedDistribution(dist.Uniform(t(-3.0), -1.0)), (1.0, 3.0)),
    "elu": (of(dist.Normal(t(0.0), 1.0), PT.ELUTransform()), (-1.0, INF)),
    "folded": (dist.FoldedDistribution(dist.Normal(t(-1.0), 2.0)), (0.0, INF)),
    "folded uniform": (dist.FoldedDistribution(dist.Uniform(t(-1.0), 3.0)), (0.0, 3.0)),
    "mixture of shifted": (
        dist.MixtureSameFamily(
            dist.Categorical(t(0.3, 0.7)), of(dist.Exponential(t(1.0, 2.0)), affine(t(3.0, 5.0), 1.0))
        ),
        (3.0, INF),
    ),
    "mixture of uniforms": (
        dist.MixtureSameFamily(dist.Categorical(t(0.3, 0.7)), dist.Uniform(t(0.0, 2.0), t(1.0, 3.0))),
        (0.0, 3.0),
    ),
    "mixture of normals": (
        dist.MixtureSameFamily(dist.Categorical(t(0.3, 0.7)), dist.Normal(t(0.0, 2.0), t(1.0, 3.0))),
        (-INF, INF),
    ),
    "von Mises": (dist.VonMises(t(3.0), 2.0), (-math.pi, math.pi)),
    "affine beta": (dist.AffineBeta(t(2.0), 3.0, t(1.0), t(4.0)), (1.0, 5.0)),
    "inverse gamma": (dist.InverseGamma(t(4.0), 3.0), (0.0, INF)),
    "weibull": (dist.Weibull(t(2.0), 3.0), (0.0, INF)),
    "kumaraswamy": (dist.Kumaraswamy(t(2.0), 3.0), (0.0, 1.0)),
    "gumbel": (dist.Gumbel(t(2.0), 3.0), (-INF, INF)),
    "logistic": (dist.Logistic(t(2.0), 0.3), (-INF, INF)),
    "bounded Pareto": (
        dist.GeneralizedPareto(torch.tensor(2.0), torch.tensor(1.0), torch.tensor(-0.5)),
        (2, 4),
    ),
    "endless Pareto": (
        dist.GeneralizedPareto(torch.tensor(2.0), torch.tensor(1.0), torch.tensor(0.1)),
        (2, INF),
    ),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_support_of_numbers(name):
    """The ends; draws inside; and all the mass inside: ∫ p dx = 1 over the image, by quadrature."""
    fn, ends = NUMBERS[name]
    support = fixed_support(fn)
    found = torch.stack([torch.as_tensor(end, dtype=D) for end in bounds(support)])
    torch.testing.assert_close(found, torch.tensor(ends, dtype=D), rtol=1e-6, atol=1e-12)
    with seeded(0):
        draws = fn.sample((2_000,))
    assert bool(support.check(draws).all())
    space = LatentSpace.from_trace({"x": {"value": draws[0], "fn": fn}})
    z = torch.linspace(-16, 16, 32_001, dtype=D)
    if space.sites[0].is_real:
        z = 10 * z
    x = space.unflatten(z[:, None])["x"]
    density = log_density(fn, x.double()) + space.sites[0].transform.log_abs_det_jacobian(z, x.double())
    total = torch.trapezoid(torch.where(density.isnan(), 0.0, density.exp()), z)
    assert abs(float(total) - 1) < 3e-3


def rows():
    exp = dist.Exponential(t(1.0, 2.0))
    return {
        "signs": (of(exp, affine(2.0, t(1.0, -1.0))).to_event(1), (2.0, -INF), (INF, 2.0)),
        "affine of events": (
            of(exp.to_event(1), T.AffineTransform(t(1.0, 3.0), 2.0, event_dim=1)),
            (1.0, 3.0),
            (INF, INF),
        ),
        "cat": (
            of(exp.to_event(1), T.CatTransform([affine(2.0, -1.0), T.ExpTransform()], -1, [1, 1])),
            (-INF, 1.0),
            (2.0, INF),
        ),
        "stack": (
            of(exp.to_event(1), T.StackTransform([affine(2.0, 1.0), T.ExpTransform()], -1)),
            (2.0, 1.0),
            (INF, INF),
        ),
        "mixture of events": (
            dist.MixtureSameFamily(
                dist.Categorical(t(0.3, 0.7)),
                dist.Uniform(t((0.0, 1.0), (2.0, 3.0)), t((1.0, 2.0), (3.0, 4.0))).to_event(1),
            ),
            (0.0, 1.0),
            (3.0, 4.0),
        ),
        "by a mask": (
            dist.MaskedMixture(torch.tensor([True, False]), exp, of(exp, affine(2.0, -1.0))).to_event(1),
            (-INF, 0.0),
            (2.0, INF),
        ),
        "angles": (
            dist.SineBivariateVonMises(t(3.0), t(-3.0), t(2.0), t(2.0), t(0.3)),
            (-math.pi,) * 2,
            (math.pi,) * 2,
        ),
    }


@pytest.mark.parametrize("name", rows())
def test_support_of_rows(name):
    fn, low, high = rows()[name]
    support = fixed_support(fn)
    assert support.event_dim == 1
    for end, wanted in zip(bounds(support), (low, high), strict=True):
        torch.testing.assert_close(torch.as_tensor(end, dtype=D).expand(2), t(*wanted))
    with seeded(0):
        draws = fn.sample((500,))
    assert bool(support.check(draws).all())
    space = LatentSpace.from_trace({"x": {"value": draws[0], "fn": fn}})
    z = space.flatten({"x": draws})
    torch.testing.assert_close(space.unflatten(z)["x"], draws)
    wide = space.unflatten(3 * torch.randn(500, 2, dtype=D, generator=torch.Generator().manual_seed(0)))["x"]
    assert bool(support.check(wide).all())


def images():
    exp = dist.Exponential(t(1.0, 2.0)).to_event(1)
    uniform = dist.Uniform(t(-1.0, 0.0), 1.0).to_event(1)
    return {
        "stick breaking": of(uniform, T.StickBreakingTransform()),
        "correlated": of(exp, PT.LowerCholeskyAffine(t(1.0, -1.0), t((1.0, 0.0), (0.5, 2.0)))),
        "ordered": of(uniform, PT.OrderedTransform()),
        "permuted": of(dist.HalfNormal(t(1.0, 2.0)).to_event(1), PT.Permute(torch.tensor([1, 0]))),
        "shifted simplex": of(dist.Dirichlet(t(2.0, 3.0, 4.0)), affine(1.0, 2.0)),
    }


@pytest.mark.parametrize("name", images())
def test_support_that_a_bijection_of_rows_makes(name):
    """∫ p dx = 1 over the image, on a grid of the two unconstrained numbers."""
    fn = images()[name]
    support = fixed_support(fn)
    assert isinstance(plain(support), Image)
    with seeded(0):
        draws = fn.sample((500,))
    assert bool(support.check(draws).all())
    space = LatentSpace.from_trace({"x": {"value": draws[0], "fn": fn}})
    assert space.dim == 2
    torch.testing.assert_close(space.unflatten(space.flatten({"x": draws}))["x"], draws)
    line = torch.linspace(-9, 9, 361, dtype=D)
    z = torch.cartesian_prod(line, line)
    x = space.unflatten(z)["x"]
    slope = space.sites[0].transform.log_abs_det_jacobian(z, x)
    density = log_density(fn, x) + slope.reshape(len(z), -1).sum(-1)
    total = torch.where(density.isnan(), 0.0, density.exp()).sum() * (line[1] - line[0]) ** 2
    assert abs(float(total) - 1) < 3e-3


def test_what_torch_says_rightly_stays():
    whole = {
        constraints.real: of(dist.Normal(t(0.0), 1.0), affine(2.0, 3.0)),
        constraints.simplex: of(dist.Normal(t(0.0, 0.0), 1.0).to_event(1), T.StickBreakingTransform()),
        constraints.positive: of(dist.Normal(t(0.0), 1.0), affine(2.0, 3.0), T.ExpTransform()),
    }
    for support, fn in whole.items():
        assert plain(fixed_support(fn)) is support
    assert fixed_support(dist.Normal(torch.zeros(2, 3), 1.0).to_event(2)).event_dim == 2


def test_density_outside_is_zero():
    """As validation would have it, where torch's own density goes on without it."""
    late = of(dist.Exponential(t(1.0, 2.0)), affine(t(0.0, 5.0), 1.0))
    got = log_density(late, t(2.0, 2.0))
    torch.testing.assert_close(got, t(-2.0, -INF))
    mixture = dist.MixtureSameFamily(dist.Categorical(t(0.25, 0.75)), late)
    got = log_density(mixture, t(2.0, 6.0, -1.0))
    wanted = [ln(0.25) - 2, ln(0.25 * e(-6) + 0.75 * 2 * e(-2)), -INF]
    torch.testing.assert_close(got, t(*wanted))
    scale = t(2.0).requires_grad_()
    pareto = dist.Pareto(scale, 3.0).expand([3]).mask(torch.tensor([True, True, False]))
    got = log_density(pareto.to_event(1), t(3.0, 4.0, 1.0))  # the last is masked
    torch.testing.assert_close(got, t(sum(ln(3 * 2**3 / x**4) for x in (3, 4))))
    assert torch.autograd.grad(got, scale)[0].item() == pytest.approx(3.0)  # 2 · 3 / 2
    assert log_density(pareto, t(1.0, 4.0, 1.0)).tolist()[0] == -INF


def test_bounds_under_vmap():
    def density(shift):
        fn = of(dist.Exponential(t(1.0)), affine(shift, 1.0))
        return log_density(fn, t(2.0))

    got = torch.func.vmap(density)(t(0.0, 1.0, 3.0))
    torch.testing.assert_close(got, t(-2.0, -1.0, -INF))
    slope = torch.func.vmap(torch.func.grad(density))(t(0.0, 3.0))
    torch.testing.assert_close(slope, t(1.0, 0.0))
