"""Surrogates against brute-force integrals: value, slope and curvature of ln ∫ p(y given e) N(e; η, v) de."""

import math

import numpy as np
import pytest
from checks import array, assert_array, host
from observed_families import CASES, CUTPOINTS
from scipy import special, stats
from tilting_by_brute_force import tilted

import sdeppl as sp
from sdeppl.likelihood import families

ETAS = np.array([-12.0, -4.0, -0.7, 0.0, 0.9, 3.1, 9.0])
VARIANCES = np.array([1e-6, 0.01, 0.3, 1.7, 25.0])

# (family, y, kinks or peaks in η, their width): parameters in other units than one
SCALAR = {
    "poisson 0": (families.Poisson(), 0.0, (0.0,), 1.0),
    "poisson 4": (families.Poisson(), 4.0, (math.log(4),), 0.5),
    "poisson 900": (families.Poisson(), 900.0, (math.log(900),), 0.03),
    "bernoulli": (families.Bernoulli(), 1.0, (0.0,), 1.0),
    "binomial": (families.Binomial(30), 4.0, (special.logit(4 / 30),), 0.6),
    "negative binomial": (families.NegativeBinomial(2.5), 8.0, (math.log(8 / 2.5),), 0.6),
    "ordinal lowest": (families.Ordinal(CUTPOINTS), 0.0, (-1.5,), 1.0),
    "ordinal between": (families.Ordinal(CUTPOINTS), 2.0, (1.0,), 1.0),
    "normal": (families.Normal(0.3), 1.3, (1.3,), 0.3),
    "student t": (families.StudentT(4.0, 0.3), 1.3, (1.3,), 0.3),
    "sharp student t": (families.StudentT(3.0, 0.01), 1.3, (1.3,), 0.01),
    "cauchy": (families.StudentT(1.0, 0.3), 1.3, (1.3,), 0.3),
    "laplace": (families.Laplace(0.3), 1.3, (1.3,), 0.3),
    "sharp laplace": (families.Laplace(0.01), 1.3, (1.3,), 0.01),
    "mixture": (families.NormalMixture((0.8, 0.2), (0.0, -2.0), (0.1, 3.0)), 1.3, (1.3, 3.3), 0.1),
    "censored above": (families.Censored(0.3, -1.0, 1.3), 1.3, (1.3,), 0.3),
    "censored below": (families.Censored(0.3, -1.0, 1.3), -1.0, (-1.0,), 0.3),
    "not censored": (families.Censored(0.3, -1.0, 1.3), 0.2, (0.2,), 0.3),
    "interval": (families.Interval(-1.0, 1.3, 0.3), 0.0, (-1.0, 1.3), 0.3),
    "narrow interval": (families.Interval(1.3, 1.3 + 1e-4, 0.3), 1.3, (1.3,), 0.3),
    "half line": (families.Interval(-math.inf, 1.3, 0.02), 0.0, (1.3,), 0.02),
}
# what a rule of 32 nodes has where there is no closed form, the worst being walls seen from √v = 5; errors as
# in `compare`
LIMITS = {"poisson 0": 5e-4, "bernoulli": 3e-5, "ordinal lowest": 1e-4, "cauchy": 1e-5}
LIMIT = 3e-6


def site_approximation_at(family, y, etas, variances, backend, nodes=32):
    """Surrogates at all pairs of etas and variances, as (etas · variances, 1) arrays on the host."""
    seen = sp.IndependentObservation(family, array([y], backend), H=array([[1.0]], backend), nodes=nodes)
    eta, v = (a.reshape(-1, 1) for a in np.meshgrid(etas, variances, indexing="ij"))
    found = seen.site_approximation(seen.linearise(array(eta, backend)), array(v, backend))
    assert found.diagonal
    assert_array(found.y, host(found.y), backend)
    return eta[:, 0], v[:, 0], host(found.y)[:, 0], host(found.R)[:, 0], host(found.log_scale)


def compare(family, log_density, y, peaks, width, backend):
    """The largest error of value, slope and curvature, in units of √v, over all η and v."""
    worst = 0.0
    rows = zip(*site_approximation_at(family, y, ETAS, VARIANCES, backend), strict=True)
    for eta, v, centre, R, log_scale in rows:
        log_mass, slope, curvature, _ = tilted(log_density, eta, v, peaks, width)
        total = v + R
        value = log_scale + stats.norm.logpdf(centre, eta, math.sqrt(total))
        errors = [
            abs(value - log_mass) / (1 + abs(log_mass)),
            abs((centre - eta) / total - slope) * math.sqrt(v) / (1 + abs(slope) * math.sqrt(v)),
            abs(-1 / total - min(curvature, 0.0)) * v,
        ]
        worst = max(worst, *errors)
    return worst


def plain(family, y):
    """e ↦ ln p(y given e): the family itself, which is tested against SciPy, but for intervals by SciPy."""
    if not isinstance(family, families.Interval):
        return lambda e: family(e, np.array(y))

    def between(e):
        a, b = (family.low - e) / family.scale, (family.high - e) / family.scale
        a, b = np.where(a + b > 0, -b, a), np.where(a + b > 0, -a, b)
        upper = special.log_ndtr(b)
        return upper + np.log(-np.expm1(special.log_ndtr(a) - upper))

    return between


@pytest.mark.parametrize("name", SCALAR)
def test_value_slope_and_curvature(name):
    """Also far in the tails, for tiny variances, outliers, bounds and narrow intervals."""
    family, y, peaks, width = SCALAR[name]
    error = compare(family, plain(family, y), y, peaks, width, sp.resolve("numpy"))
    assert error < LIMITS.get(name, LIMIT), error


@pytest.mark.parametrize(
    "name", ["poisson 4", "bernoulli", "student t", "laplace", "censored above", "interval"]
)
def test_every_backend_and_dtype(name, backend):
    family, y, _, _ = SCALAR[name]
    numpy = site_approximation_at(family, y, ETAS, VARIANCES[1:], sp.resolve("numpy"))
    other = site_approximation_at(family, y, ETAS, VARIANCES[1:], backend)
    single = "32" in str(backend.dtype)
    for found, expected in zip(_features(*other), _features(*numpy), strict=True):
        np.testing.assert_allclose(found, expected, atol=5e-3 if single else 1e-7)


def _features(eta, v, centre, R, log_scale):
    """Value, slope and information, each in units of √v; large values and slopes relative to themselves."""
    total = v + R
    slope = (centre - eta) / total * np.sqrt(v)
    value = log_scale + stats.norm.logpdf(centre, eta, np.sqrt(total))
    return value / (1 + abs(value)), slope / (1 + abs(slope)), v / total


@pytest.mark.parametrize("name", ["normal", "student t", "poisson 4", "ordinal between", "laplace"])
def test_a_function_is_treated_as_its_family(name):
    """Known by its values alone, and as accurately where it is smooth; a kink costs digits."""
    family, y, peaks, width = SCALAR[name]
    error = compare(
        lambda e, data: family(e, data),
        lambda e: family(e, np.array(y)),
        y,
        peaks,
        width,
        sp.resolve("numpy"),
    )
    assert error < {"laplace": 2e-2, "student t": 2e-2}.get(name, 1e-5), error


def test_more_nodes_are_more_accurate():
    family, y, peaks, width = SCALAR["poisson 0"]
    exact = [tilted(lambda e: family(e, np.array(y)), 1.0, v, peaks, width)[0] for v in (4.0, 60.0)]
    errors = []
    for nodes in (12, 24, 48):
        _, v, centre, R, log_scale = site_approximation_at(
            family, y, [1.0], [4.0, 60.0], sp.resolve("numpy"), nodes
        )
        found = log_scale + stats.norm.logpdf(centre, 1.0, np.sqrt(v + R))
        errors.append(np.max(np.abs(found - exact)))
    assert errors[1] < errors[0] / 10 and errors[2] < errors[1] / 10, errors


@pytest.mark.parametrize("name", CASES)
def test_no_variance_gives_the_derivatives_at_the_point(name, backend):
    """As v → 0 the slope is ∂ ln p/∂η, and R its curvature's inverse where that is negative."""
    make, y, _ = CASES[name]
    family, plain = make(lambda a: array(a, backend)), make(np.array)
    seen = sp.IndependentObservation(family, array(y, backend), H=array(np.eye(4), backend))
    eta = np.array([[0.4, -0.9, 0.35, 2.2]])
    linear = seen.linearise(array(eta, backend))
    found = seen.site_approximation(linear, 0 * linear.predicted)
    h = 1e-4
    log_density = [plain(eta + k * h, y) for k in (-1, 0, 1)]
    slope, curvature = (log_density[2] - log_density[0]) / (2 * h), log_density[0] + log_density[2]
    curvature = (curvature - 2 * log_density[1]) / h**2
    centre, R = host(found.y), host(found.R)
    assert np.isfinite(centre).all() and (R > 0).all()
    single = "32" in str(backend.dtype)
    smooth = {"rtol": 0.02 if single else 1e-5, "atol": 1e-3 if single else 1e-6}
    np.testing.assert_allclose((centre - eta) / R, slope, **smooth)
    bent = curvature < -0.05
    np.testing.assert_allclose(1 / R[bent], -curvature[bent], rtol=0.3 if single else 1e-4)


@pytest.mark.parametrize("residual", [3.0, 30.0, 3e3])
@pytest.mark.parametrize("v", [1e-4, 0.05, 2.0])
def test_an_outlier_under_heavy_tails_says_next_to_nothing(residual, v):
    """Student's t: the farther y is, the weaker it pulls, -(df + 1)/(η - y), and it never narrows η."""
    family = families.StudentT(4.0, 0.05)
    _, _, centre, R, _ = site_approximation_at(family, residual, [0.0], [v], sp.resolve("numpy"))
    slope = centre / (v + R)
    if residual > 8 * math.sqrt(v):
        pull = 5 * residual / (residual**2 + 4 * 0.05**2)
        assert slope == pytest.approx(pull, rel=8 * v / residual**2 + 1e-4)
        assert v / (v + R) < 1e-3


def test_a_value_that_only_other_predictors_allow_pulls_towards_them(backend):
    """Uniform noise, seen from 3,970 √v: the Gaussian says that η must come within 1 of y. NaN stays NaN."""

    def uniform(eta, y):
        xp = backend.xp
        return xp.where(xp.abs(y - eta) < 1, 0 * eta - math.log(2), 0 * eta - math.inf)

    seen = sp.IndependentObservation(uniform, array([2.0], backend), H=array([[1.0]], backend))
    linear = seen.linearise(array([[2.2], [400.0], [math.nan]], backend))
    found = seen.site_approximation(linear, array([[0.01]], backend) + 0 * linear.predicted)
    y, R, log_scale = host(found.y)[:, 0], host(found.R)[:, 0], host(found.log_scale)
    value = log_scale + stats.norm.logpdf(y, [2.2, 400.0, math.nan], np.sqrt(0.01 + R))
    assert value[0] == pytest.approx(-math.log(2), abs=1e-6)
    assert value[1] == pytest.approx(-0.5 * 397**2 / 0.01, rel=1e-3)
    assert (400 - y[1]) / (0.01 + R[1]) * 0.01 == pytest.approx(397, rel=1e-3)
    assert np.isnan(value[2])
