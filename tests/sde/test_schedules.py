"""β(t) and its integral: the papers' formulas, the cap of the cosine, and functions that users give."""

import math

import numpy as np
import pytest
from checks import array, assert_array, host
from scipy.integrate import quad

import sdeppl as sp
from sdeppl.sde.schedules import integrate, panel_nodes


def quadratic(t):
    return 0.2 + 3.0 * t * t


def quadratic_integral(t):
    return 0.2 * t + t * t * t


SCHEDULES = {
    "constant": sp.ConstantSchedule(3.0),
    "linear": sp.LinearSchedule(0.1, 20.0),
    "linear other T": sp.LinearSchedule(0.2, 4.0, T=2.0),
    "cosine": sp.CosineSchedule(),
    "cosine low cap": sp.CosineSchedule(0.02, beta_max=12.0, T=2.0),
    "callable": sp.CallableSchedule(quadratic),
    "callable with integral": sp.CallableSchedule(quadratic, quadratic_integral),
}
EACH = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


@EACH
@pytest.mark.parametrize("interval", [(0.0, 1e-3), (0.0, 1.0), (0.3, 0.31), (0.2, 0.9), (0.99, 1.4)])
def test_between_is_the_integral_of_beta(schedule, interval):
    s, t = interval
    kinks = [k for k in schedule.kinks if s < k < t]
    exact = quad(schedule.beta, s, t, points=kinks or None, epsrel=1e-12, limit=500)[0]
    assert schedule.between(s, t) == pytest.approx(exact, rel=1e-11)
    assert schedule.integral(t) - schedule.integral(s) == pytest.approx(exact, rel=1e-9)
    assert schedule.integral(0.0) == schedule.between(t, t) == 0.0


@EACH
@pytest.mark.parametrize("t", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("h", [1e-7, 1e-11, 1e-14])
def test_a_short_step_keeps_all_digits(schedule, t, h):
    """Where a difference of two integrals would lose them: at h = 1e-14 it has one left."""
    step = (t + h) - t
    expected = schedule.beta(t + 0.5 * step) * step
    assert schedule.between(t, t + h) == pytest.approx(expected, rel=1e-9, abs=0)


@EACH
def test_times_may_be_arrays(schedule, backend):
    """Quadrature on arrays and adaptive quadrature agree to 1e-9, elementwise and in shape."""
    times = array([[0.01, 0.4], [0.997, 1.0]], backend)
    starts = array([[0.0, 0.1], [0.3, 0.9999]], backend)
    t, s = host(times), host(starts)
    tolerance = 1e-9 if "64" in str(backend.dtype) else 2e-4  # float32 times have 1e-7, β a slope of 1e6
    expected = np.vectorize(schedule.integral)(t)
    assert_array(schedule.integral(times), expected, backend, tolerance)
    assert_array(schedule.between(0.0, times), expected, backend, tolerance)
    assert_array(schedule.between(starts, times), np.vectorize(schedule.between)(s, t), backend, tolerance)
    assert_array(schedule.beta(times), np.vectorize(schedule.beta)(t), backend, max(tolerance, 1e-12))


@pytest.mark.parametrize("T", [1.0, 4.0])
def test_the_cosine_is_that_of_the_paper_up_to_its_cap(T):
    """α²(t) = f(t)/f(0) with f = cos²(π/2 (t/T + s)/(1 + s)), as in eq. 17; then e^{-β_max (t - t_c)}."""
    schedule, s = sp.CosineSchedule(0.008, 999.0 / T, T), 0.008
    cap = schedule.capped_from

    def f(t):
        return math.cos((t / T + s) / (1 + s) * math.pi / 2) ** 2

    for share in (0.001, 0.2, 0.7, 0.99, 0.997):
        t = share * T
        assert t < cap
        assert math.exp(-schedule.integral(t)) == pytest.approx(f(t) / f(0.0), rel=1e-11)
        assert schedule.beta(t) < 999.0 / T
    assert T - cap == pytest.approx(2 * T / 999, rel=1e-3)
    at_cap = f(cap) / f(0.0)
    for t in (cap, 0.5 * (cap + T), T, 1.1 * T):
        assert schedule.beta(t) == pytest.approx(999.0 / T, rel=1e-9)
        expected = at_cap * math.exp(-999.0 / T * (t - cap))
        assert math.exp(-schedule.integral(t)) == pytest.approx(expected, rel=1e-9)


def test_a_chain_of_the_cosine_has_the_papers_betas():
    """Steps of 1/1000 give 1 - ᾱ_i/ᾱ_{i-1}, and on the capped last step 1 - e^{-0.999}."""
    schedule = sp.CosineSchedule()
    betas = [-math.expm1(-schedule.between(i / 1000, (i + 1) / 1000)) for i in range(1000)]

    def alpha_bar(t):
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    for i in (0, 1, 500, 900, 996):
        assert betas[i] == pytest.approx(1 - alpha_bar((i + 1) / 1000) / alpha_bar(i / 1000), rel=1e-9)
    assert betas[0] == pytest.approx(4.13e-5, rel=1e-3)
    assert betas[-1] == pytest.approx(1 - math.exp(-0.999), rel=1e-9)


def test_the_quadrature_is_exact_for_polynomials_of_degree_31():
    for graded in (False, True):
        nodes, weights = panel_nodes(3, graded)
        assert sum(weights) == pytest.approx(1.0, rel=1e-14)
        assert sum(w * x**31 for x, w in zip(nodes, weights, strict=True)) == pytest.approx(1 / 32, rel=1e-13)
    nodes, _ = panel_nodes(8, graded=True)
    assert sum(node < 2.0**-7 for node in nodes) == 16  # the first panel
    assert integrate(math.exp, 0.3, 1.7, panels=2) == pytest.approx(math.exp(1.7) - math.exp(0.3), rel=1e-14)


def test_an_adaptive_integral_follows_a_kink():
    schedule = sp.CallableSchedule(lambda t: 1.0 if t < 1 / 3 else 5.0)
    assert schedule.integral(1.0) == pytest.approx(1 / 3 + 10 / 3, rel=1e-9)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: sp.CosineSchedule(0.0),
            ValueError,
            "CosineSchedule: offset must be positive and finite; got 0",
        ),
        (
            lambda: sp.CosineSchedule(T=-1.0),
            ValueError,
            "CosineSchedule: T must be positive and finite; got -1",
        ),
        (lambda: sp.CosineSchedule(T=math.inf), ValueError, "CosineSchedule: T must be positive and finite"),
        (
            lambda: sp.CosineSchedule(beta_max=0.03),
            ValueError,
            "CosineSchedule: beta_max must be finite and more than β(0) = 0.0389; got 0.03",
        ),
        (lambda: sp.CosineSchedule(beta_max=math.inf), ValueError, "CosineSchedule: beta_max must be finite"),
        (
            lambda: sp.CallableSchedule(2.0),
            TypeError,
            "β must be a function of t; got 2.0; use ConstantSchedule",
        ),
        (lambda: sp.CallableSchedule(abs, 2.0), TypeError, "the integral must be a function of t; got 2.0"),
        (
            lambda: sp.CallableSchedule(abs, lambda t: t + 1),
            ValueError,
            "CallableSchedule: the integral from 0 must be 0 at t = 0; got 1",
        ),
        (
            lambda: sp.CallableSchedule(lambda t: 0.5 - t).beta(0.75),
            ValueError,
            "CallableSchedule: β must be at least 0 and finite; got β(0.75) = -0.25",
        ),
        (lambda: sp.CallableSchedule(lambda t: 0.5 - t).integral(1.0), ValueError, "got β("),
        (
            lambda: sp.CallableSchedule(lambda t: 1 / t if t else 0.0).integral(1.0),
            ValueError,
            "did not converge",
        ),
    ],
)
def test_bad_schedules_are_refused(make, error, message):
    with pytest.raises(error) as caught:
        make()
    assert message in str(caught.value)
