"""Families p(y given η): densities against SciPy's, supports, parameters, and what is refused."""

import math

import numpy as np
import pytest
from checks import array, assert_array, tolerance_of
from observed_families import CASES, CUTPOINTS, ETA
from scipy import integrate, stats

import sdeppl as sp
from sdeppl.likelihood import families

EACH = pytest.mark.parametrize("name", CASES)
IDENTITY = np.eye(4)


@EACH
def test_log_density_is_scipys(name, backend):
    make, y, reference = CASES[name]
    family = make(lambda a: array(a, backend))
    found = family(array(ETA, backend), array(y, backend))
    assert_array(found, reference(ETA, y), backend, 10 * tolerance_of(backend))


@EACH
def test_log_prob_of_the_observation_is_the_sum(name, backend):
    make, y, reference = CASES[name]
    offset = np.array([0.1, -0.2, 0.3, 0.0])
    seen = sp.IndependentObservation(
        make(lambda a: array(a, backend)),
        array(y, backend),
        H=array(2 * IDENTITY, backend),
        offset=array(offset, backend),
    )
    found = seen.log_prob(array((ETA - offset) / 2, backend))
    assert_array(found, reference(ETA, y).sum(axis=1), backend, 10 * tolerance_of(backend))


@EACH
def test_a_missing_row_takes_its_parameters_with_it(name, backend):
    make, y, reference = CASES[name]
    keep = [0, 2, 3]
    gaps = np.where(np.isin(np.arange(4), keep), y, np.nan)
    seen = sp.IndependentObservation(
        make(lambda a: array(a, backend)), array(gaps, backend), H=array(IDENTITY, backend)
    )
    assert seen.count == 3
    expected = reference(ETA, y)[:, keep].sum(axis=1)
    assert_array(seen.log_prob(array(ETA, backend)), expected, backend, 10 * tolerance_of(backend))


def test_interval_keeps_its_digits_in_far_tails_and_narrow_intervals(precise):
    """Where Φ(b) - Φ(a) is 0 in floating point, or a difference of two nearly equal numbers."""
    low = np.array([30.0, -200.0, 1.0, 5.0])
    high = np.array([31.0, -199.9, 1.0 + 1e-7, 5.0 + 1e-9])
    family = families.Interval(array(low, precise), array(high, precise), 0.7)
    for eta in (0.0, 1.0, -2.0):
        expected = []
        for a, b in zip((low - eta) / 0.7, (high - eta) / 0.7, strict=True):
            peak = min(abs(a), abs(b))
            # the density relative to its peak, over what of the interval carries it
            start, end = (a, min(b, a + 3)) if a > 0 else (max(a, b - 3), b)
            value = integrate.quad(
                lambda u, p=peak: math.exp(0.5 * (p - u) * (p + u)), start, end, epsabs=0, epsrel=1e-13
            )
            # a narrow one has no digits in b - a, only in high - low
            width = value[0] if b - a > 1e-5 else None
            narrow = (high - low)[len(expected)] / 0.7
            mass = (
                math.log(width)
                if width
                else math.log(narrow) - 0.5 * (0.5 * (a + b) - peak) * (0.5 * (a + b) + peak)
            )
            expected.append(mass - 0.5 * peak**2 - 0.5 * math.log(2 * math.pi))
        found = family(array([[eta] * 4], precise), array(low, precise))
        assert_array(found, [expected], precise, 1e-12)


@pytest.mark.parametrize(
    ("family", "data", "message"),
    [
        (families.Poisson(), [1.0, -2.0], "Poisson takes whole numbers from 0; got -2, one of 1 such values"),
        (families.Poisson(), [1.5, 2.5], "Poisson takes whole numbers from 0; got 1.5, one of 2 such values"),
        (families.Bernoulli(), [0.0, 0.5], "Bernoulli takes 0 and 1; got 0.5"),
        (families.Binomial(3), [4.0, 1.0], "Binomial takes whole numbers from 0 to total_count; got 4"),
        (families.NegativeBinomial(3), [0.0, -1.0], "NegativeBinomial takes whole numbers from 0; got -1"),
        (families.Ordinal(CUTPOINTS), [4.0, 0.0], "Ordinal takes whole numbers from 0 to the number of"),
        (families.Censored(1.0, -1.0, 2.0), [2.5, 0.0], "Censored takes numbers from low to high; got 2.5"),
        (families.Interval(-1.0, 2.0, 1.0), [-1.5, 0.0], "Interval takes numbers from low to high; got -1.5"),
        (families.Normal(1.0), [np.inf, 0.0], "the data hold infinity; mark what was not observed with NaN"),
    ],
)
def test_data_outside_the_support_are_refused(family, data, message, backend):
    with pytest.raises(ValueError, match=message):
        sp.IndependentObservation(family, array(data, backend), H=array(np.eye(2), backend))


def test_data_that_no_predictor_explains_are_refused(backend):
    """Of a function whose support nobody knows."""

    def log_density(eta, y):
        xp = backend.xp
        return xp.where(y + 0 * eta > 0, -xp.abs(eta), 0 * eta - math.inf)

    with pytest.raises(
        ValueError, match="not finite at any η for 1 values of y, the first of which is number 1"
    ):
        sp.IndependentObservation(log_density, array([2.0, -1.0], backend), H=array(np.eye(2), backend))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: families.Normal(0.0), "Normal: scale must be positive and finite, number or array; got 0.0"),
        (lambda: families.Normal([1.0, 2.0]), "Normal: scale must be positive and finite, number or array"),
        (lambda: families.StudentT(-1.0, 1.0), "StudentT: df must be positive"),
        (lambda: families.StudentT(1.0, np.array([1.0, np.nan])), "StudentT: scale must be positive"),
        (lambda: families.Laplace(math.inf), "Laplace: scale must be positive"),
        (lambda: families.Binomial(0), "Binomial: total_count must be positive"),
        (
            lambda: families.NegativeBinomial(np.array([1.0, 0.0])),
            "NegativeBinomial: total_count must be pos",
        ),
        (lambda: families.Censored(1.0, 2.0, 2.0), "Censored: low must be less than high; got low=2.0"),
        (
            lambda: families.Interval(np.zeros(2), np.array([1.0, 0.0]), 1.0),
            "Interval: low must be less than",
        ),
        (lambda: families.Ordinal((1.0, 0.5)), "Ordinal: cutpoints must be finite and rise"),
        (lambda: families.Ordinal(()), "Ordinal: cutpoints must be finite and rise"),
        (
            lambda: families.NormalMixture((1.0,), (0.0, 1.0), (1.0,)),
            "one number for each component; got 1, 2",
        ),
        (lambda: families.NormalMixture((0.0,), (0.0,), (1.0,)), "weights and scales must be positive"),
    ],
)
def test_bad_parameters_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_parameters_of_another_shape_dtype_or_library_are_refused():
    numpy, torch = sp.resolve("numpy"), sp.resolve("torch")
    y, H = np.zeros(3), np.eye(3)
    with pytest.raises(
        ValueError, match=r"Normal: scale must be a number or of shape \(3,\), as y is; got \(2,\)"
    ):
        sp.IndependentObservation(families.Normal(np.ones(2)), y, H=H)
    with pytest.raises(TypeError, match="Normal: y is float64, scale float32; give them one dtype"):
        sp.IndependentObservation(families.Normal(np.ones(3, dtype=np.float32)), y, H=H)
    with pytest.raises(sp.BackendMismatch, match="Normal: scale is of torch on cpu, expected numpy"):
        sp.IndependentObservation(families.Normal(array(np.ones(3), torch)), array(y, numpy), H=H)


@pytest.mark.parametrize("name", ["student t", "laplace", "mixture", "normal"])
def test_densities_are_normalised(name):
    """∫ p(y given η) dy = 1 at parameters that SciPy has not been asked about."""
    family = {
        "student t": families.StudentT(3.3, 0.8),
        "laplace": families.Laplace(0.31),
        "mixture": families.NormalMixture((2.0, 1.0), (-1.0, 4.0), (0.3, 2.0)),
        "normal": families.Normal(2.3),
    }[name]
    eta = np.array(0.7)
    total = integrate.quad(
        lambda y: float(np.exp(family(eta, np.array(y)))), -np.inf, np.inf, points=None, limit=400
    )[0]
    assert total == pytest.approx(1.0, rel=1e-6)


def test_gradients_flow_through_densities_at_their_edges():
    """Censored at a bound and an interval without one: no NaN from the branch that was not taken."""
    torch = pytest.importorskip("torch")
    eta = torch.tensor([[0.3, 0.3, 0.3, 0.3]], dtype=torch.float64, requires_grad=True)
    bounds = [
        torch.tensor(a, dtype=torch.float64)
        for a in ([-1.0, -math.inf, 0.2, -2.0], [2.0, 1.0, 0.5, math.inf])
    ]
    y = torch.tensor([2.0, 0.5, 0.2, -2.0], dtype=torch.float64)
    for family in (families.Censored(0.6, *bounds), families.Interval(*bounds, 0.6)):
        (slope,) = torch.autograd.grad(family(eta, y).sum(), eta)
        h = 1e-5
        with torch.no_grad():
            expected = (family(eta + h, y) - family(eta - h, y)) / (2 * h)
        np.testing.assert_allclose(slope.numpy(), expected.numpy(), rtol=1e-7, atol=1e-9)


def test_student_t_with_many_degrees_of_freedom_is_normal():
    eta, y = np.linspace(-3, 3, 7), np.array(0.4)
    found = families.StudentT(1e7, 1.3)(eta, y)
    np.testing.assert_allclose(found, stats.norm.logpdf(0.4, eta, 1.3), atol=1e-6)
