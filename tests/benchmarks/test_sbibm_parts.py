"""What benchmarks/sbibm.py is made of: the exact denoiser of a box, C2ST, and the tasks' densities."""

import importlib
import math
from pathlib import Path

import mpmath  # torch needs it
import numpy as np
import pytest
from checks import array, assert_array, host
from scipy import stats

import sdeppl as sp

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
LOW, HIGH = np.array([-1.0, 0.5, -3.0]), np.array([1.0, 0.7, 9.0])
SDES = {
    "vp": (sp.VPSDE(), 0.3),
    "end": (sp.VPSDE(), 1.0),  # the box is 1/150 of σ/α wide
    "early": (sp.VPSDE(), 0.01),  # and here up to 270 times as wide
    "ve": (sp.VESDE(0.05, 4.0), 0.6),
}
EACH_SDE = pytest.mark.parametrize(("sde", "t"), SDES.values(), ids=SDES)


@pytest.fixture(autouse=True)
def folder(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def box(backend, sde):
    denoiser = importlib.import_module("exact_denoisers").BoxUniformDenoiser
    return denoiser(sde, array(LOW, backend), array(HIGH, backend))


def states(sde, t):
    """x_t in the box's image, at its faces, and up to 5 of its widths outside it."""
    places = np.array([0.5, 0.1, 1.0, 0.0, 1.05, -0.3, 6.0])[:, None]
    return sde.alpha(t) * (LOW + places * (HIGH - LOW))


def in_closed_form(sde, t, x):
    """Mean, variance, third central moment and ln p_t of each number, with 60 digits."""
    found = np.zeros((4, *x.shape))
    with mpmath.workdps(60):
        scale = mpmath.mpf(sde.sigma(t)) / mpmath.mpf(sde.alpha(t))
        for (i, j), value in np.ndenumerate(x):
            location = mpmath.mpf(value) / mpmath.mpf(sde.alpha(t))
            a, b = ((mpmath.mpf(edge) - location) / scale for edge in (LOW[j], HIGH[j]))
            upper = (mpmath.erfc(z / mpmath.sqrt(2)) / 2 for z in ((a, b) if a + b > 0 else (-b, -a)))
            mass = next(upper) - next(upper)
            one = (mpmath.npdf(a) - mpmath.npdf(b)) / mass
            two = 1 + (a * mpmath.npdf(a) - b * mpmath.npdf(b)) / mass
            three = 2 * one + (a**2 * mpmath.npdf(a) - b**2 * mpmath.npdf(b)) / mass
            found[0, i, j] = location + scale * one
            found[1, i, j] = scale**2 * (two - one**2)
            found[2, i, j] = scale**3 * (three - 3 * one * two + 2 * one**3)
            found[3, i, j] = mpmath.log(mass / (mpmath.mpf(sde.alpha(t)) * (HIGH[j] - LOW[j])))
    return found


@EACH_SDE
def test_moments_of_a_box_are_the_truncated_normals(sde, t, backend):
    """Each number in units of its own standard deviation: they differ by a factor of 1e5 here."""
    x, denoiser = states(sde, t), box(backend, sde)
    exact = in_closed_form(sde, t, host(array(x, backend)))
    single = "32" in str(backend.dtype)
    moments, sd = denoiser(array(x, backend), t), np.sqrt(exact[1])
    # a mean is rounded like a number of the box, however small its standard deviation
    rounding = (6e-7 if single else 1e-15) * np.maximum(np.abs(exact[0]), HIGH - LOW)
    assert np.all(np.abs(host(moments.mean) - exact[0]) <= rounding + (2e-5 if single else 1e-9) * sd)
    variance = np.diagonal(host(moments.covariance.dense()), axis1=1, axis2=2)
    np.testing.assert_allclose(variance, exact[1], rtol=2e-3 if single else 1e-8)
    density = denoiser.log_density(array(x, backend), t)
    assert_array(density, exact[3].sum(axis=-1), backend, 1e-5 if single else 1e-11)
    assert_array(denoiser.mean(array(x, backend), t), host(moments.mean), backend)


@EACH_SDE
def test_score_of_a_box_is_the_slope_of_its_density(sde, t, precise):
    """By central differences of order 4 with steps of 1e-3 σ."""
    x, denoiser, h = states(sde, t)[:5], box(precise, sde), 1e-3 * sde.sigma(t)
    expected = np.zeros_like(x)
    for j, step in enumerate(h * np.eye(3)):
        at = {k: host(denoiser.log_density(array(x + k * step, precise), t)) for k in (-2, -1, 1, 2)}
        expected[:, j] = (8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * h)
    assert_array(denoiser.score(array(x, precise), t), expected, precise, 1e-8)


@EACH_SDE
def test_slope_of_a_boxs_covariance_is_its_third_moment(sde, t, precise):
    x, generator = states(sde, t), np.random.default_rng(5)
    V, w = generator.standard_normal((3, 2)), generator.standard_normal((7, 2))
    third = in_closed_form(sde, t, x)[2]
    expected = sde.alpha(t) / sde.sigma(t) ** 2 * third * np.einsum("ia,na,ia->ni", V, w, V)
    found = box(precise, sde).covariance_slope(array(x, precise), t, array(V, precise), array(w, precise))
    assert_array(found, expected, precise, 1e-8)


@EACH_SDE
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_conditional_draws_of_a_box_are_the_normals_quantiles(sde, t, library):
    """P(x_0 ≤ draw) = Φ(z), by scipy's truncated normal, which has 6 digits far out."""
    x, backend = states(sde, t), sp.resolve(library)
    z = np.random.default_rng(2).standard_normal((7, 40, 3))
    draws = host(box(backend, sde).conditional(array(x, backend), t, array(z, backend)))
    assert draws.shape == z.shape and np.all((draws >= LOW) & (draws <= HIGH))
    scale, location = sde.sigma(t) / sde.alpha(t), x[:, None, :] / sde.alpha(t)
    exact = stats.truncnorm((LOW - location) / scale, (HIGH - location) / scale, location, scale)
    np.testing.assert_allclose(exact.cdf(draws), stats.norm.cdf(z), atol=1e-6)


@pytest.mark.parametrize(("a", "b"), [(-1, 2), (0.3, 0.4), (-9, 12), (3, 5), (30, 90), (-60, -59), (-60, 2)])
def test_truncated_normals_have_scipys_moments(a, b):
    """The box [a, b] at σ = α; 1e-6 of a standard deviation is scipy's own error far out."""
    sde = sp.VESDE(0.05, 4.0)
    t = sp.sde.grids.time_of_half_log_snr(sde, 0.0)
    denoiser = importlib.import_module("exact_denoisers").BoxUniformDenoiser
    moments = denoiser(sde, np.array([float(a)]), np.array([float(b)]))(np.zeros((1, 1)), t)
    mean, variance = stats.truncnorm.stats(a, b)
    assert abs(moments.mean[0, 0] - mean) < 1e-6 * math.sqrt(variance)
    assert abs(moments.covariance.dense()[0, 0, 0] / variance - 1) < 1e-5


def test_an_empty_box_is_refused():
    denoiser = importlib.import_module("exact_denoisers").BoxUniformDenoiser
    with pytest.raises(ValueError, match="the box is empty"):
        denoiser(sp.VPSDE(), np.ones(2), np.array([2.0, 1.0]))
    with pytest.raises(ValueError, match=r"expected low and high \(dim,\)"):
        denoiser(sp.VPSDE(), np.ones(2), np.ones(3))


def test_c2st_of_equal_and_of_shifted_normals():
    """Bayes' accuracy of N(0, S) against N(m, S) is Φ(√(mᵀ S⁻¹ m)/2).

    A standard error is √(p(1 - p)/4,000) ≤ .008; networks lose another point or two to overfitting.
    """
    pytest.importorskip("sklearn")
    c2st = importlib.import_module("sdeppl.diagnostics.two_samples").c2st
    generator = np.random.default_rng(1)
    root = np.array([[3.0, 0.0], [0.5, 0.2]])
    first, second = (generator.standard_normal((2_000, 2)) @ root.T + 7 for _ in range(2))
    assert abs(c2st(first, second) - 0.5) < 0.03
    shift = np.array([1.0, -1.5])
    bayes = stats.norm.cdf(0.5 * np.linalg.norm(shift))
    assert -0.04 < c2st(first, second + root @ shift) - bayes < 0.025
    assert c2st(first, first + np.array([0.0, 50.0])) == 1.0
    with pytest.raises(ValueError, match="two sets of one shape"):
        c2st(first, second[:-1])
