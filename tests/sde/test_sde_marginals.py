"""Closed-form marginals and transitions of the forward SDEs against their moment equations."""

import math

import numpy as np
import pytest
from checks import array, assert_array, covariance_matrix, host
from scipy.integrate import solve_ivp

import sdeppl as sp

OF_NUMBERS = {
    "linear a>0": sp.LinearSDE(a=1.3, b=0.7),
    "linear a=0": sp.LinearSDE(a=0.0, b=1.7),
    "linear a<0": sp.LinearSDE(a=-0.8, b=0.6),
    "linear a tiny": sp.LinearSDE(a=1e-13, b=0.6),
    "vp constant": sp.VPSDE(sp.ConstantSchedule(3.0)),
    "vp linear": sp.VPSDE(sp.LinearSchedule(0.1, 20.0)),
    "vp other T": sp.VPSDE(sp.LinearSchedule(0.2, 4.0, T=2.0), T=2.0),
    "ve": sp.VESDE(0.02, 30.0),
    "ve other T": sp.VESDE(0.5, 4.0, T=2.5),
    "vp cosine": sp.VPSDE(sp.CosineSchedule(beta_max=60.0)),
    "sub-vp": sp.SubVPSDE(),
    "sub-vp other T": sp.SubVPSDE(sp.LinearSchedule(0.2, 4.0, T=2.0), T=2.0),
    "edm": sp.EDMSDE(),
    "anchored": sp.DataAnchoredSDE(sp.LinearSchedule(0.3, 6.0)),
}
SDES = OF_NUMBERS | {
    "vp callable": sp.VPSDE(sp.CallableSchedule(lambda t: 0.2 + 3.0 * t * t)),
    "ve callable": sp.CallableVESDE(lambda t: (0.3 + 1.5 * t) ** 2, T=1.5),
    "ve callable with rate": sp.CallableVESDE(
        lambda t: (0.3 + 1.5 * t) ** 2, lambda t: 6 * (0.3 + 1.5 * t) ** 3, T=1.5
    ),
}
EACH_SDE = pytest.mark.parametrize("sde", SDES.values(), ids=SDES)
TIMES = (1e-6, 0.013, 0.3, 0.77, 1.0)


def moment_equations(sde, s, t):
    """d ln φ/dt = f and dq/dt = 2 f q + g², from s to t: what the closed forms must equal."""
    solution = solve_ivp(
        lambda r, u: [sde.rate(r), 2 * sde.rate(r) * u[1] + sde.amplitude(r) ** 2],
        (s, t),
        [0.0, 0.0],
        rtol=1e-11,
        atol=1e-14,
    )
    return math.exp(solution.y[0, -1]), solution.y[1, -1]


@EACH_SDE
@pytest.mark.parametrize("interval", [(0.0, 0.05), (0.0, 1.0), (0.3, 0.31), (0.2, 0.9)])
def test_transition_solves_the_moment_equations(sde, interval):
    s, t = (r * sde.T for r in interval)
    phi, shift, q = sde.transition(s, t)
    assert (phi, q) == pytest.approx(moment_equations(sde, s, t), rel=1e-8)
    assert shift == 0.0


@EACH_SDE
def test_alpha_and_sigma_are_the_transition_from_the_data(sde):
    for t in TIMES:
        phi, q = moment_equations(sde, 0.0, t * sde.T)
        assert sde.alpha(t * sde.T) == pytest.approx(phi, rel=1e-8)
        assert sde.sigma(t * sde.T) == pytest.approx(math.sqrt(q), rel=1e-8)
        assert sde.alpha_sigma(t * sde.T) == (sde.alpha(t * sde.T), sde.sigma(t * sde.T))
    assert (sde.alpha(0.0), sde.sigma(0.0)) == (1.0, 0.0)


@EACH_SDE
def test_chapman_kolmogorov(sde):
    """Two transitions in a row are one: φ = φ₂ φ₁ and q = φ₂² q₁ + q₂."""
    for s, r, t in ((0.0, 0.4, 1.0), (0.1, 0.10001, 0.9), (0.0, 1e-7, 2e-7)):
        (first, _, q1), (second, _, q2) = sde.transition(s, r), sde.transition(r, t)
        expected = (second * first, 0.0, second**2 * q1 + q2)
        assert sde.transition(s, t) == pytest.approx(expected, rel=1e-9)


@EACH_SDE
def test_rate_and_amplitude_are_the_derivatives_of_the_marginal(sde):
    """f = d ln α/dt and g² = dσ²/dt - 2 f σ², by central differences."""
    h = 1e-5
    for t in (0.1, 0.5, 0.9):
        log_alpha = [math.log(sde.alpha(t + d)) for d in (-h, h)]
        variance = [sde.sigma(t + d) ** 2 for d in (-h, h)]
        rate = (log_alpha[1] - log_alpha[0]) / (2 * h)
        squared = (variance[1] - variance[0]) / (2 * h) - 2 * rate * sde.sigma(t) ** 2
        assert sde.rate(t) == pytest.approx(rate, rel=1e-6, abs=1e-9)
        assert sde.amplitude(t) ** 2 == pytest.approx(squared, rel=1e-6)


@EACH_SDE
def test_noise_over_a_short_step_has_full_relative_precision(sde):
    """q ≈ g² h for h → 0, where a difference of two variances would lose its digits."""
    for h in (1e-9, 1e-13):
        t = 0.5
        q = sde.transition(t, t + h).covariance
        assert q == pytest.approx(sde.amplitude(t) ** 2 * ((t + h) - t), rel=1e-7, abs=0)
        # g at the middle, for that of sub-VP and EDM is 0 at the start
        assert sde.sigma(h) == pytest.approx(sde.amplitude(0.5 * h) * math.sqrt(h), rel=1e-6, abs=0)


@EACH_SDE
def test_times_may_be_arrays(sde, backend):
    if isinstance(sde, sp.CallableVESDE) and "no_float64" in str(backend.device):
        pytest.skip("it takes the difference of two variances, for which float32 has no digits")
    times = array([t * sde.T for t in TIMES], backend)
    exact = [float(t) for t in host(times)]
    for function in (sde.alpha, sde.sigma, sde.snr, sde.log_snr):
        assert_array(function(times), [function(t) for t in exact], backend)
    phi, _, q = sde.transition(times[:1], times[1:])
    expected = np.array([sde.transition(exact[0], t)[::2] for t in exact[1:]])
    assert_array(phi * q, expected[:, 0] * expected[:, 1], backend)


@EACH_SDE
def test_log_snr_is_that_of_its_definition(sde):
    for t in TIMES:
        half = math.log(sde.alpha(t) / sde.sigma(t))
        assert sde.half_log_snr(t) == pytest.approx(half, rel=1e-12, abs=1e-12)
        assert sde.log_snr(t) == pytest.approx(2 * half, rel=1e-12, abs=1e-12)
        assert sde.snr(t) == pytest.approx(math.exp(2 * half), rel=1e-12)
    assert sde.half_log_snr(0.0) == sde.snr(0.0) == math.inf


@EACH_SDE
def test_moments_are_those_of_an_affine_map_of_noise(sde, backend):
    mean, covariance = np.array([1.5, -2.0, 0.3]), covariance_matrix(3, seed=1)
    alpha, sigma = sde.alpha(0.6), sde.sigma(0.6)
    found_mean, found_covariance = sde.moments(array(mean, backend), array(covariance, backend), 0.6)
    assert_array(found_mean, alpha * mean, backend)
    assert_array(found_covariance, alpha**2 * covariance + sigma**2 * np.eye(3), backend)


@EACH_SDE
def test_drift_and_diffusion_are_the_affine_ones(sde, backend):
    x = np.array([[1.5, -2.0], [0.1, 0.2]])
    assert_array(sde.drift(array(x, backend), 0.4), sde.rate(0.4) * x, backend)
    assert sde.diffusion(array(x, backend), 0.4) == sde.amplitude(0.4)


@pytest.mark.parametrize("sde", OF_NUMBERS.values(), ids=OF_NUMBERS)
def test_numpy_scalars_as_parameters_keep_float32(sde):
    """A float64 scalar times a float32 array would be a float64 array."""

    def with_scalars(value):
        return type(value)(**{name: scalar(item) for name, item in vars(value).items()})

    def scalar(item):
        return np.float64(item) if isinstance(item, float) else with_scalars(item)

    same = with_scalars(sde)
    assert same == sde
    x = np.ones((2, 2), dtype=np.float32)
    for solver in (sp.EulerMaruyama(), sp.ExponentialEuler()):
        assert sp.solve(same, x, [0.1, 0.2], solver=solver).states.dtype == np.float32


def test_a_forward_step_to_an_earlier_time_is_refused():
    with pytest.raises(ValueError, match=r"got a step from t=0.5 to t=0.2; use ReverseSDE"):
        sp.VPSDE().coefficients(0.5, 0.2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sp.LinearSDE(math.nan, 1.0), "LinearSDE: a must be a finite number; got nan"),
        (lambda: sp.LinearSDE(1.0, "2"), "LinearSDE: b must be a finite number; got '2'"),
        (lambda: sp.LinearSDE(1.0, 0.0), "LinearSDE: b and T must be positive; got b=0.0, T=1.0"),
        (lambda: sp.VESDE(1.0, 0.5), "VESDE: need 0 < sigma_min < sigma_max"),
        (lambda: sp.VESDE(0.1, math.inf), "VESDE: need 0 < sigma_min < sigma_max"),
        (lambda: sp.ConstantSchedule(-1.0), "ConstantSchedule: β must be positive and finite; got -1.0"),
        (lambda: sp.LinearSchedule(2.0, 1.0), "LinearSchedule: need 0 < beta_min <= beta_max"),
        (lambda: sp.LinearSchedule(0.1, math.nan), "LinearSchedule: need 0 < beta_min <= beta_max"),
        (lambda: sp.VPSDE(T=0.0), "VPSDE: T must be positive and finite; got 0.0"),
        (lambda: sp.VPSDE(20.0), "VPSDE: schedule must be a Schedule, as LinearSchedule is; got 20.0"),
    ],
)
def test_bad_parameters_are_refused(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert message in str(caught.value)


@pytest.mark.parametrize("t", [0.1, 0.7, 1.9])
def test_the_parameters_are_those_of_the_papers(t):
    """The formulas of the sources, with their symbols: consistent equations alone leave units open."""
    T, low, high = 2.5, 0.3, 4.0
    ve = sp.VESDE(low, high, T)
    assert ve.sigma(t) ** 2 == pytest.approx(low**2 * ((high / low) ** (2 * t / T) - 1))
    assert ve.sigma(T) ** 2 == pytest.approx(high**2 - low**2)
    schedule = sp.LinearSchedule(low, high, T)
    assert (schedule.beta(0.0), schedule.beta(T)) == pytest.approx((low, high))
    vp = sp.VPSDE(schedule, T)
    assert vp.alpha(t) ** 2 == pytest.approx(math.exp(-low * t - (high - low) * t**2 / (2 * T)))
    assert vp.alpha(t) ** 2 + vp.sigma(t) ** 2 == pytest.approx(1.0)
    assert sp.VPSDE(sp.ConstantSchedule(low)).alpha(t) ** 2 == pytest.approx(math.exp(-low * t))
    a, b = 0.8, 1.3
    linear, brownian = sp.LinearSDE(a, b), sp.LinearSDE(0.0, b)
    assert linear.alpha(t) == pytest.approx(math.exp(-a * t))
    assert linear.sigma(t) ** 2 == pytest.approx(b**2 / (2 * a) * (1 - math.exp(-2 * a * t)))
    assert (brownian.alpha(t), brownian.sigma(t) ** 2) == pytest.approx((1.0, b**2 * t))
    assert (linear.amplitude(t), vp.amplitude(t) ** 2) == pytest.approx((b, schedule.beta(t)))
