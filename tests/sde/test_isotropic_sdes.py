"""Sub-VP, EDM, user-given VE, shifted and anchored SDEs: the sources' formulas.

What every isotropic SDE must satisfy (moment equations, Chapman–Kolmogorov, short steps, arrays) is in
test_sde_marginals.py; here is what each alone has, and the shifted one, whose mean is pushed.
"""

import math

import numpy as np
import pytest
from checks import array, assert_array, covariance_matrix, host
from scipy.integrate import quad, solve_ivp

import sdeppl as sp

B_MIN, B_MAX = 0.3, 7.0


def integral(t):
    return B_MIN * t + (B_MAX - B_MIN) * t * t / 2


def wave(t):
    return 0.4 + math.sin(5 * t)


SCHEDULE = sp.LinearSchedule(B_MIN, B_MAX)
MEANS = {
    "number": -1.7,
    "function": wave,
    "fast function": lambda t: math.cos(40 * t),
    "constant function": lambda t: 2.5,
}
SCHEDULES = {
    "linear": SCHEDULE,
    "steep": sp.LinearSchedule(1.0, 800.0),
    "cosine": sp.CosineSchedule(),
    "callable": sp.CallableSchedule(lambda t: 0.2 + 3.0 * t * t),
}


@pytest.mark.parametrize("t", [0.05, 0.4, 1.0])
def test_sub_vp_is_song_et_als(t):
    """σ = 1 - e^{-B}, whose variance is (1 - e^{-B})², and g² = β (1 - e^{-2B}); less noise than VP."""
    sde, B = sp.SubVPSDE(SCHEDULE), integral(t)
    assert sde.alpha(t) == pytest.approx(math.exp(-B / 2), rel=1e-13)
    assert sde.sigma(t) == pytest.approx(1 - math.exp(-B), rel=1e-13)
    beta = B_MIN + (B_MAX - B_MIN) * t
    assert sde.amplitude(t) ** 2 == pytest.approx(beta * (1 - math.exp(-2 * B)), rel=1e-13)
    assert sde.rate(t) == pytest.approx(-beta / 2, rel=1e-13)
    assert sde.sigma(t) < sp.VPSDE(SCHEDULE).sigma(t)
    assert sde.snr(t) == pytest.approx(math.exp(-B) / (1 - math.exp(-B)) ** 2, rel=1e-12)


@pytest.mark.parametrize("t", [0.05, 1.0, 80.0])
def test_edm_has_its_noise_level_as_time(t):
    sde = sp.EDMSDE()
    assert (sde.alpha(t), sde.T) == (1.0, 80.0)
    assert sde.sigma(t) == pytest.approx(t, rel=1e-15)
    assert sde.amplitude(t) == pytest.approx(math.sqrt(2 * t), rel=1e-15)
    assert sde.log_snr(t) == pytest.approx(-2 * math.log(t), rel=1e-14, abs=1e-14)
    assert sde.transition(0.3, 0.3 + t).covariance == pytest.approx((0.3 + t) ** 2 - 0.09, rel=1e-12)


def test_a_user_given_ve_is_the_geometric_one_where_its_sigma_is():
    low, high, T = 0.02, 30.0, 2.0
    known = sp.VESDE(low, high, T)
    for rate in (None, lambda t: known.amplitude(t) ** 2):
        sde = sp.CallableVESDE(lambda t: low * (high / low) ** (t / T), rate, T)
        for t in (0.0, 1e-4, 0.3, 1.0, 1.9999, 2.0):
            assert sde.amplitude(t) == pytest.approx(known.amplitude(t), rel=1e-11)
            assert sde.sigma(t) == pytest.approx(known.sigma(t), rel=1e-9)
        for s, t in ((0.1, 0.2), (0.5, 0.5 + 1e-8), (0.0, 1e-12)):
            found, expected = sde.transition(s, t), known.transition(s, t)
            assert found.covariance == pytest.approx(expected.covariance, rel=1e-8, abs=0)


def test_the_noise_of_a_user_given_ve_counts_from_time_0():
    sde = sp.CallableVESDE(lambda t: 0.5 + t, T=3.0)
    assert sde.sigma(2.0) ** 2 == pytest.approx(2.5**2 - 0.5**2, rel=1e-14)
    assert sde.amplitude(2.0) ** 2 == pytest.approx(2 * 2.5, rel=1e-10)
    assert sde.amplitude(0.0) ** 2 == pytest.approx(1.0, rel=1e-10)


def moment_of_push(sde, s, t):
    """dm/dt = f m + u from m(s) = 0."""
    solution = solve_ivp(
        lambda r, m: sde.rate(r) * m + sde.push(r), (s, t), [0.0], rtol=1e-11, atol=1e-13, method="DOP853"
    )
    return solution.y[0, -1]


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("mu", MEANS.values(), ids=MEANS)
@pytest.mark.parametrize("interval", [(0.0, 1.0), (0.3, 0.31), (0.2, 0.9), (0.0, 1e-3)])
def test_the_shift_solves_its_moment_equation(schedule, mu, interval):
    sde, plain = sp.ShiftedVPSDE(mu, schedule), sp.VPSDE(schedule)
    phi, shift, q = sde.transition(*interval)
    assert (phi, q) == plain.transition(*interval)[::2]
    assert shift == pytest.approx(moment_of_push(sde, *interval), rel=1e-9, abs=1e-11)
    if interval[0] == 0.0:
        assert sde.shift(interval[1]) == shift


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("mu", MEANS.values(), ids=MEANS)
def test_chapman_kolmogorov_of_the_shift(schedule, mu):
    """Two pushes in a row are one: m = φ₂ m₁ + m₂."""
    sde = sp.ShiftedVPSDE(mu, schedule)
    for s, r, t in ((0.0, 0.4, 1.0), (0.1, 0.10001, 0.9), (0.5, 0.9985, 0.9999)):
        first, second = sde.transition(s, r), sde.transition(r, t)
        expected = second.map * first.shift + second.shift
        assert sde.transition(s, t).shift == pytest.approx(expected, rel=1e-9, abs=1e-11)


@pytest.mark.parametrize("t", [0.1, 0.6, 1.0])
def test_a_constant_push_has_its_closed_form(t):
    """m = -μ (1 - α); a function that is constant has the same, and so has a long wait."""
    alpha = math.exp(-integral(t) / 2)
    assert sp.ShiftedVPSDE(3.0, SCHEDULE).shift(t) == pytest.approx(-3 * (1 - alpha), rel=1e-13)
    assert sp.ShiftedVPSDE(lambda t: 3.0, SCHEDULE).shift(t) == pytest.approx(-3 * (1 - alpha), rel=1e-12)
    assert sp.ShiftedVPSDE(3.0, sp.ConstantSchedule(4000.0)).shift(t) == pytest.approx(-3.0, rel=1e-13)
    found = sp.ShiftedVPSDE(lambda t: 3.0, sp.ConstantSchedule(4000.0)).shift(t)
    assert found == pytest.approx(-3.0, rel=1e-11)


def test_a_short_push_keeps_its_digits():
    """m ≈ -β μ h/2, which 1 - α could not tell from 0 at h = 1e-13."""
    for mu in (2.0, wave):
        sde = sp.ShiftedVPSDE(mu, SCHEDULE)
        for h in (1e-9, 1e-13):
            step = (0.5 + h) - 0.5
            assert sde.transition(0.5, 0.5 + h).shift == pytest.approx(sde.push(0.5) * step, rel=1e-7, abs=0)


@pytest.mark.parametrize("kind", ["array", "function of an array"])
def test_a_push_of_each_component(kind, backend):
    """μ (dim,): every component has the shift of its own number, at floats and at arrays of times."""
    numbers = np.array([1.0, -2.5, 0.3])
    mu = array(numbers, backend)
    if kind == "array":
        sde, alone = sp.ShiftedVPSDE(mu, SCHEDULE), [sp.ShiftedVPSDE(v, SCHEDULE) for v in numbers]
    else:
        sde = sp.ShiftedVPSDE(lambda t: (1 + t) * mu, SCHEDULE)
        alone = [sp.ShiftedVPSDE(lambda t, v=v: (1 + t) * v, SCHEDULE) for v in numbers]
    assert_array(sde.shift(0.7), [one.shift(0.7) for one in alone], backend)
    times = array([[0.2], [0.7], [1.0]], backend)
    exact = [[one.shift(float(t)) for one in alone] for t in host(times)[:, 0]]
    assert_array(sde.shift(times), exact, backend)
    x = np.array([[0.5, -1.0, 2.0], [1.0, 1.0, 1.0], [0.0, -3.0, 0.2]])
    assert_array(sde.centre(array(x, backend), times), x - np.array(exact), backend)
    push = np.array([one.push(0.7) for one in alone])
    assert_array(sde.drift(array(x, backend), 0.7), sde.rate(0.7) * x + push, backend)
    mean, covariance = sde.moments(array(x[0], backend), array(covariance_matrix(3, 5), backend), 0.7)
    alpha = sp.VPSDE(SCHEDULE).alpha(0.7)
    assert_array(mean, alpha * x[0] + np.array([one.shift(0.7) for one in alone]), backend)
    assert_array(covariance, alpha**2 * covariance_matrix(3, 5) + (1 - alpha**2) * np.eye(3), backend)


def test_a_push_that_is_a_number_takes_arrays_of_times(backend):
    times = array([[0.2], [0.7], [1.0]], backend)
    sde = sp.ShiftedVPSDE(-1.2, SCHEDULE)
    assert_array(sde.shift(times), [[sde.shift(float(t))] for t in host(times)[:, 0]], backend)


@pytest.mark.parametrize("t", [0.05, 0.4, 1.0])
def test_the_anchored_process_stays_around_its_start(t):
    """dx = -β/2 (x - x_0) dt + √β dW from x_0: mean x_0, variance 1 - e^{-B}, here and given x_0."""
    sde, x0 = sp.DataAnchoredSDE(SCHEDULE), 1.8
    assert sde.alpha(t) == 1.0
    assert sde.sigma(t) ** 2 == pytest.approx(1 - math.exp(-integral(t)), rel=1e-13)
    beta = B_MIN + (B_MAX - B_MIN) * t
    assert sde.amplitude(t) ** 2 == pytest.approx(beta * math.exp(-integral(t)), rel=1e-13)
    known = sde.given(x0)
    phi, shift, q = known.transition(0.0, t)
    assert phi * x0 + shift == pytest.approx(x0, rel=1e-13)
    assert q == pytest.approx(sde.sigma(t) ** 2, rel=1e-13)
    for x in (-0.7, 2.4):
        assert known.drift(x, t) == pytest.approx(-beta / 2 * (x - x0), rel=1e-13)
    assert known.diffusion(x0, t) ** 2 == pytest.approx(beta, rel=1e-13)


def test_the_anchored_process_between_two_times():
    sde, s, t = sp.DataAnchoredSDE(SCHEDULE, T=2.0), 0.3, 0.8
    x0 = np.array([1.0, -4.0])
    phi, shift, q = sde.given(x0).transition(s, t)
    kept = math.exp(-(integral(t) - integral(s)))
    assert (phi, q) == pytest.approx((math.sqrt(kept), 1 - kept), rel=1e-13)
    np.testing.assert_allclose(shift, (1 - math.sqrt(kept)) * x0, rtol=1e-13)
    assert sde.given(x0).T == 2.0
    # the Markov process with the same marginals forgets nothing, and adds the difference
    phi, shift, q = sde.transition(s, t)
    assert (phi, shift) == (1.0, 0.0)
    assert q == pytest.approx(math.exp(-integral(s)) - math.exp(-integral(t)), rel=1e-13)
    assert q == pytest.approx(quad(lambda r: sde.amplitude(r) ** 2, s, t)[0], rel=1e-10)


def test_the_two_that_others_call_sub_vp_say_so():
    for kind in (sp.ShiftedVPSDE, sp.DataAnchoredSDE):
        text = " ".join(kind.__doc__.split())
        assert "'sub-VP'. It is not the sub-VP SDE of Song et al., which is SubVPSDE" in text


def test_a_numpy_scalar_from_mu_keeps_float32():
    sde, x = sp.ShiftedVPSDE(lambda t: np.sin(t)), np.ones((3, 2), np.float32)
    for solver in (sp.EulerMaruyama(), sp.ExactAffine()):
        assert sp.solve(sde, x, [0.0, 0.5, 1.0], solver=solver).states.dtype == np.float32


def test_there_is_all_signal_while_there_is_no_noise():
    """β = 0 up to t = 0.3: σ = 0 there, and the ratio infinite, as at t = 0."""
    late = sp.VPSDE(sp.CallableSchedule(lambda t: 0.0 if t < 0.3 else 2.0, lambda t: 2.0 * max(t - 0.3, 0.0)))
    for ratio in (late.snr, late.log_snr, late.half_log_snr):
        assert ratio(0.0) == ratio(0.2) == math.inf
    assert late.snr(0.8) == pytest.approx(math.exp(-1.0) / (1 - math.exp(-1.0)), rel=1e-12)
