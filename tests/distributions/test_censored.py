"""Censored and interval data against scipy, far tails and gradients among them."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from scipy import integrate, stats

import sdeppl as sp
from sdeppl.distributions.tails import log_between, log_cdf, log_survival

D = torch.float64
nan, inf = math.nan, math.inf


def t(*numbers):
    return torch.tensor(numbers, dtype=D)


FAMILIES = {
    "normal": (lambda: dist.Normal(t(0.7), 1.3), stats.norm(0.7, 1.3)),
    "laplace": (lambda: dist.Laplace(t(0.7), 1.3), stats.laplace(0.7, 1.3)),
    "cauchy": (lambda: dist.Cauchy(t(0.7), 1.3), stats.cauchy(0.7, 1.3)),
    "logistic": (lambda: dist.Logistic(t(0.7), t(1.3)), stats.logistic(0.7, 1.3)),
    "lognormal": (lambda: dist.LogNormal(t(0.7), 1.3), stats.lognorm(1.3, scale=math.exp(0.7))),
    "exponential": (lambda: dist.Exponential(t(0.7)), stats.expon(scale=1 / 0.7)),
    "half normal": (lambda: dist.HalfNormal(t(0.7)), stats.halfnorm(scale=0.7)),
    "weibull": (lambda: dist.Weibull(t(1.5), t(0.7)), stats.weibull_min(0.7, scale=1.5)),
    "gamma": (lambda: dist.Gamma(t(2.5), t(0.7)), stats.gamma(2.5, scale=1 / 0.7)),
    "uniform": (lambda: dist.Uniform(t(-1.0), t(2.0)), stats.uniform(-1, 3)),
    "flipped": (
        lambda: dist.TransformedDistribution(
            dist.LogNormal(t(0.2), 1.3), [torch.distributions.AffineTransform(0.5, t(-2.0))]
        ),
        None,
    ),
    "mixture": (
        lambda: dist.MixtureSameFamily(dist.Categorical(t(0.3, 0.7)), dist.Normal(t(-1.0, 2.0), t(0.5, 3.0))),
        None,
    ),
}
POINTS = np.array([-40.0, -8.0, -1.0, -0.2, 0.1, 0.71, 1.9, 6.0, 30.0])


def tails(name, points):
    """ln cdf and ln survival from scipy."""
    with np.errstate(divide="ignore"):
        if name == "flipped":  # 0.5 - 2 X
            inner = stats.lognorm(1.3, scale=math.exp(0.2))
            return inner.logsf((0.5 - points) / 2), inner.logcdf((0.5 - points) / 2)
        if name == "mixture":
            parts = [(0.3, stats.norm(-1, 0.5)), (0.7, stats.norm(2, 3))]
            logs = [[math.log(w) + getattr(f, m)(points) for w, f in parts] for m in ("logcdf", "logsf")]
            return tuple(np.logaddexp(*pair) for pair in logs)
        reference = FAMILIES[name][1]
        above = reference.logsf(points)
        if name == "half normal":  # where scipy's own runs out of digits
            above = np.minimum(math.log(2) + stats.norm(0, 0.7).logsf(points), 0.0)
        return reference.logcdf(points), above


@pytest.mark.parametrize("name", FAMILIES)
def test_tails_are_those_of_scipy(name):
    fn, points = FAMILIES[name][0](), POINTS
    # a generic cdf near 1 has lost the digits of its tail
    kept = points < (8 if name == "gamma" else inf)
    for found, expected in zip(
        (log_cdf(fn, t(*points[kept])), log_survival(fn, t(*points[kept]))),
        tails(name, points[kept]),
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)
    ends = t(-inf, inf)
    assert (log_cdf(fn, ends).tolist(), log_survival(fn, ends).tolist()) == ([-inf, 0.0], [0.0, -inf])


def test_far_tails_of_the_normal():
    """At 1e4 standard deviations, where the probability is e^-5e7."""
    points = np.array([-1e4, -300.0, -38.0, 38.0])
    found = log_cdf(dist.Normal(t(0.0), 1.0), t(*points))
    np.testing.assert_allclose(found, stats.norm.logcdf(points), rtol=1e-13, atol=1e-300)
    slope = torch.func.vmap(torch.func.grad(lambda v: log_cdf(dist.Normal(t(0.0)[0], 1.0), v)))(t(*points))
    expected = np.exp(stats.norm.logpdf(points) - stats.norm.logcdf(points))
    expected[0] = 1e4 * (1 + 1e-8)
    np.testing.assert_allclose(slope, expected, rtol=1e-8)


@pytest.mark.parametrize(("low", "high"), [(0.5, 2.0), (None, 2.0), (0.5, None)])
@pytest.mark.parametrize("name", [name for name in FAMILIES if FAMILIES[name][1] and name != "uniform"])
def test_censored_density(name, low, high):
    fn, reference = sp.Censored(FAMILIES[name][0](), low, high), FAMILIES[name][1]
    points = np.array([0.1, 0.5, 0.9, 1.9, 2.0, 1.99])
    expected = reference.logpdf(points)
    if low is not None:
        expected[points <= low] = reference.logcdf(low)
    if high is not None:
        expected[points >= high] = reference.logsf(high)
    np.testing.assert_allclose(fn.log_prob(t(*points)), expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["normal", "laplace", "logistic", "exponential", "gamma"])
def test_censored_mass_is_one(name):
    """The density between the bounds, by Simpson's rule on 4,001 points, and the mass at both."""
    fn = sp.Censored(FAMILIES[name][0](), 0.5, 2.0)
    grid = torch.linspace(0.5, 2.0, 4_001, dtype=D)
    atoms = fn.log_prob(grid[[0, -1]]).exp().sum()
    density = FAMILIES[name][0]().log_prob(grid).exp()
    torch.testing.assert_close(fn.log_prob(grid)[1:-1].exp(), density[1:-1], rtol=0, atol=0)
    assert integrate.simpson(density, x=grid) + float(atoms) == pytest.approx(1.0, abs=1e-8)


@pytest.mark.parametrize("name", FAMILIES)
def test_interval_probability(name):
    lows = np.array([-9.0, -0.3, 0.6, 0.7, 1.5, 3.0, 12.0])
    highs = lows + np.array([0.1, 2.0, 0.1, 1e-3, 8.0, 0.05, 0.5])
    fn = sp.Interval(FAMILIES[name][0](), t(*lows), t(*highs))
    (c0, s0), (c1, s1) = tails(name, lows), tails(name, highs)
    with np.errstate(divide="ignore", invalid="ignore"):
        lower, upper = c1 + np.log1p(-np.exp(c0 - c1)), s0 + np.log1p(-np.exp(s1 - s0))
        expected = np.where(c1 < s0, lower, upper)
    kept = np.isfinite(expected) & ((lows < 8) | (name != "gamma"))
    inside = fn.log_prob(torch.ones(7, dtype=D)).numpy()
    np.testing.assert_allclose(inside[kept], expected[kept], rtol=1e-11)
    assert np.all(np.isneginf(inside[~np.isfinite(expected)]))
    with np.errstate(divide="ignore"):
        outside = np.log1p(-np.exp(np.minimum(expected, 0)))
    found = fn.log_prob(torch.zeros(7, dtype=D)).numpy()
    np.testing.assert_allclose(found[kept], outside[kept], rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("low", [30.0, 60.0, -31.0, -61.0])
def test_far_intervals_and_their_slopes(low):
    """One unit, (30, 31] of which under a standard normal is e^-454; the slope is in the mean."""
    mean = t(0.0).requires_grad_()
    value = log_between(dist.Normal(mean, 1.0), t(low), t(low + 1))
    near, far = sorted([abs(low), abs(low + 1)])
    expected = stats.norm.logsf(near) + math.log1p(-math.exp(stats.norm.logsf(far) - stats.norm.logsf(near)))
    assert value.item() == pytest.approx(expected, rel=1e-13)
    slope = torch.autograd.grad(value.sum(), mean)[0]
    density = np.exp(stats.norm.logpdf([near, far]) - expected)
    assert slope.item() == pytest.approx(math.copysign(density[0] - density[1], low), rel=1e-11)


def test_gradients_pass_where_a_bound_is_missing_or_taken():
    loc = t(0.3, 0.3, 0.3, 0.3).requires_grad_()
    fn = sp.Censored(dist.Normal(loc, 0.5), t(-inf, -inf, 0.0, 0.0), t(inf, 1.0, inf, 1.0))
    slope = torch.autograd.grad(fn.log_prob(t(0.7, 1.0, 0.0, 0.5)).sum(), loc)[0]
    hazard = np.exp(stats.norm.logpdf(1.4) - stats.norm.logsf(1.4)) / 0.5
    reverse = np.exp(stats.norm.logpdf(-0.6) - stats.norm.logcdf(-0.6)) / 0.5
    np.testing.assert_allclose(slope, [1.6, hazard, -reverse, 0.8], rtol=1e-12)
    inside = sp.Interval(dist.Normal(loc, 0.5), t(-inf, -inf, 0.0, 0.0), t(inf, 1.0, inf, 1.0))
    slope = torch.autograd.grad(inside.log_prob(torch.ones(4, dtype=D)).sum(), loc)[0]
    p = stats.norm.cdf(1.4) - stats.norm.cdf(-0.6)
    both = (stats.norm.pdf(-0.6) - stats.norm.pdf(1.4)) / 0.5 / p
    left = -stats.norm.pdf(1.4) / stats.norm.cdf(1.4) / 0.5
    right = stats.norm.pdf(-0.6) / stats.norm.sf(-0.6) / 0.5
    np.testing.assert_allclose(slope, [0.0, left, right, both], rtol=1e-12)


def test_samples_are_clamped_or_counted():
    """20,000 draws: 4 standard errors of a proportion are 0.014."""
    base = dist.Normal(t(0.7), 1.3).expand([20_000])
    x = sp.Censored(base, -0.5, 2.0).sample()
    assert (float(x.min()), float(x.max())) == (-0.5, 2.0)
    assert float((x == 2.0).double().mean()) == pytest.approx(stats.norm(0.7, 1.3).sf(2.0), abs=0.014)
    assert float((x == -0.5).double().mean()) == pytest.approx(stats.norm(0.7, 1.3).cdf(-0.5), abs=0.014)
    y = sp.Interval(base, -0.5, 2.0).sample()
    expected = stats.norm(0.7, 1.3).cdf(2.0) - stats.norm(0.7, 1.3).cdf(-0.5)
    assert set(y.tolist()) == {0.0, 1.0}
    assert float(y.mean()) == pytest.approx(expected, abs=0.014)


def test_shapes_masks_and_traces():
    low = t(-1.0, 0.0, 1.0)
    for fn, value in [
        (sp.Censored(dist.Normal(t(0.2), 0.5), low), t(0.5, 0.0, 1.5)),
        (sp.Interval(dist.Normal(t(0.2), 0.5), low, low + 2), t(1.0, 0.0, 1.0)),
    ]:
        assert (fn.batch_shape, fn.event_shape, fn.sample((4,)).shape) == ((3,), (), (4, 3))
        terms = fn.log_prob(value)
        wide = fn.expand([2, 3])
        assert (wide.batch_shape, wide.sample().shape) == ((2, 3), (2, 3))
        torch.testing.assert_close(wide.log_prob(value), terms.expand(2, 3))
        torch.testing.assert_close(fn.to_event(1).log_prob(value), terms.sum())
        masked = fn.mask(torch.tensor([True, False, True])).to_event(1).log_prob(value)
        torch.testing.assert_close(masked, terms[0] + terms[2])

        def model(fn=fn, value=value):
            with pyro.plate("data", 3):
                pyro.sample("y", fn, obs=value)

        trace = poutine.trace(model).get_trace()
        assert float(trace.log_prob_sum()) == pytest.approx(float(terms.sum()))


def test_numbers_are_taken_in_the_precision_of_the_base():
    assert sp.Censored(dist.Normal(t(0.0), 1.0), 0.1).low.dtype == D
    assert float(sp.Censored(dist.Normal(t(0.0), 1.0), 0.1).log_prob(t(0.1))) == pytest.approx(
        stats.norm.logcdf(0.1), rel=1e-15
    )
    assert sp.Interval(dist.Normal(0.0, 1.0), 0.1).log_prob(torch.tensor(1.0)).dtype == torch.float32


@pytest.mark.parametrize("family", [sp.Censored, sp.Interval])
def test_wrong_use(family):
    with pytest.raises(ValueError, match=r"must be univariate; got events of shape \(3,\). Call to_event on"):
        family(dist.Normal(torch.zeros(3), 1.0).to_event(1), 0.0)
    with pytest.raises(TypeError, match="StudentT has no cdf"):
        family(dist.StudentT(3.0), 0.0)
    with pytest.raises(TypeError, match="Poisson has no cdf"):
        family(dist.Poisson(torch.tensor(3.0)), 0.0)
    with pytest.raises(TypeError, match="base must be a distribution; got float"):
        family(1.0, 0.0)
    with pytest.raises(ValueError, match=r"need low < high; got low=2.0, high=1.0"):
        family(dist.Normal(0.0, 1.0), 2.0, 1.0)
    with pytest.raises(ValueError, match="within the support"):
        family(dist.Normal(0.0, 1.0), 0.0).log_prob(torch.tensor(nan))
