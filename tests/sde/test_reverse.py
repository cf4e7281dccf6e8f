"""The reverse SDE: its drift, its noise, and the coefficients of an exponential step."""

import math

import numpy as np
import pytest
import torch
from checks import array, assert_array
from scipy.integrate import quad

import sdeppl as sp

SDES = [sp.VPSDE(), sp.VESDE(0.1, 5.0), sp.LinearSDE(a=1.0, b=1.4), sp.LinearSDE(a=-0.5, b=0.8)]
X = np.array([[0.5, -1.2], [2.0, 0.3], [-0.7, 0.0]])


class Affine:
    """A denoiser with mean M x + k, whatever the time."""

    def __init__(self, backend=None):
        self.matrix, self.offset = np.array([[0.6, 0.1], [0.3, 0.4]]), np.array([1.0, -2.0])
        self.backend = backend

    def mean(self, x, t):
        return x @ array(self.matrix, self.backend).T + array(self.offset, self.backend)


@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize("c", [0, 0.5, 1.0, 2.0, lambda t: 1 + t])
def test_drift_and_noise_are_andersons_with_free_amplitude(sde, c, backend):
    """f x - (1 + c²)/2 g² s, with the score s = (α m - x)/σ²; noise c g."""
    t, denoiser = 0.35, Affine(backend)
    ratio = c(t) if callable(c) else c
    reverse = sp.ReverseSDE(sde, denoiser, c)
    mean = X @ denoiser.matrix.T + denoiser.offset
    score = (sde.alpha(t) * mean - X) / sde.sigma(t) ** 2
    expected = sde.rate(t) * X - (1 + ratio**2) / 2 * sde.amplitude(t) ** 2 * score
    assert_array(reverse.drift(array(X, backend), t), expected, backend)
    assert reverse.diffusion(X, t) == pytest.approx(ratio * sde.amplitude(t))


def test_the_linear_sde_has_the_papers_form():
    """Forward dx = -a x dt + b dW gives [a x + (b² + c²)/2 s] dt_R + c dW in reversed time."""
    a, b, c, t = 0.9, 1.3, 0.8, 0.4
    sde, backend = sp.LinearSDE(a, b), sp.resolve("numpy")
    denoiser = Affine(backend)
    score = (sde.alpha(t) * denoiser.mean(X, t) - X) / sde.sigma(t) ** 2
    backward = -sp.ReverseSDE(sde, denoiser, c / b).drift(X, t)
    np.testing.assert_allclose(backward, a * X + (b**2 + c**2) / 2 * score, rtol=1e-12)


@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize("c", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("interval", [(0.9, 0.2), (0.5, 0.4999), (1.0, 1e-4)])
def test_step_coefficients_are_the_integrals(sde, c, interval):
    """Variation of constants for dx = (f + (1+c²)/2 g²/σ²) x - (1+c²)/2 g² α/σ² N, by quadrature.

    first and second integrate N and its slope in h = ln(α/σ); noise² integrates c² g².
    """
    s, t = interval

    def growth(r):  # the propagator of the linear part from r down to t
        log_r = sde.half_log_snr(r) - sde.half_log_snr(t)
        return sde.sigma(t) / sde.sigma(r) * math.exp(c**2 * log_r)

    def weight(r):
        return 0.5 * (1 + c**2) * sde.amplitude(r) ** 2 * sde.alpha(r) / sde.sigma(r) ** 2

    def share(r):
        return (sde.half_log_snr(r) - sde.half_log_snr(s)) / (sde.half_log_snr(t) - sde.half_log_snr(s))

    def integral(function):  # over u = ln r, since all happens near t
        value, _ = quad(lambda u: function(math.exp(u)) * math.exp(u), math.log(t), math.log(s), epsrel=1e-11)
        return value

    found = sp.ReverseSDE(sde, Affine(), c).coefficients(s, t)
    assert found.decay == pytest.approx(growth(s), rel=1e-9)
    assert found.first == pytest.approx(integral(lambda r: growth(r) * weight(r)), rel=1e-7)
    assert found.second == pytest.approx(integral(lambda r: growth(r) * weight(r) * share(r)), rel=1e-5)
    noise = integral(lambda r: (growth(r) * c * sde.amplitude(r)) ** 2)
    assert found.noise == pytest.approx(math.sqrt(noise), rel=1e-7)


@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize("c", [0.0, 1.0])
def test_the_last_step_returns_the_denoiser(sde, c):
    found = sp.ReverseSDE(sde, Affine(), c).coefficients(0.01, 0.0)
    assert (found.decay, found.first, found.second, found.noise) == (0.0, 1.0, 0.0, 0.0)


def test_a_step_over_which_the_signal_does_not_change_does_nothing_else():
    """With a < 0 the ratio α/σ settles: r rounds to 1, and ln r to 0."""
    sde = sp.LinearSDE(a=-5.0, b=1.0, T=20.0)
    found = sp.ReverseSDE(sde, Affine(), 1.0).coefficients(15.0, 14.0)
    assert found.decay == pytest.approx(math.exp(-5.0))
    assert (found.first, found.second, found.noise) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("c", [0.0, 1.0])
def test_a_step_from_where_no_signal_is_left_keeps_its_noise(c):
    """α underflows to 0 for a very large β; that is not the step to t = 0."""
    sde = sp.VPSDE(sp.ConstantSchedule(4000.0))
    assert sde.alpha(1.0) == 0.0
    found = sp.ReverseSDE(sde, Affine(), c).coefficients(1.0, 1e-3)
    assert found.first == pytest.approx(sde.alpha(1e-3))
    assert found.noise == pytest.approx(c * sde.sigma(1e-3))
    assert found.decay == pytest.approx((1 - c) * sde.sigma(1e-3), abs=1e-300)


def test_a_step_is_deterministic_where_no_noise_enters_at_its_start_or_middle():
    late = sp.ReverseSDE(sp.VPSDE(), Affine(), lambda t: 1.0 if t > 0.5 else 0.0)
    assert late.deterministic(0.4, 0.2) and not late.deterministic(0.9, 0.7)
    assert not late.deterministic(0.6, 0.2)  # Euler–Maruyama takes drift and noise at the start
    assert not late.deterministic(1.0, 0.1)
    assert sp.ReverseSDE(sp.VPSDE(), Affine(), 0.0).deterministic(1.0, 0.0)


@pytest.mark.parametrize("c", [np.float64(0.5), lambda t: np.float64(0.5)])
def test_a_numpy_scalar_as_c_keeps_float32(c):
    reverse = sp.ReverseSDE(sp.VPSDE(), Affine(sp.resolve("numpy", "float32")), c)
    x = X.astype(np.float32)
    for solver in (sp.EulerMaruyama(), sp.ExponentialEuler(), sp.ExponentialHeun()):
        assert sp.solve(reverse, x, [1.0, 0.5, 0.1], solver=solver).states.dtype == np.float32


@pytest.mark.parametrize(
    "c", [-0.1, math.nan, math.inf, np.float32(-0.1), np.int64(-1), np.float32(math.nan)]
)
def test_a_negative_noise_amplitude_is_refused(c):
    with pytest.raises(ValueError, match="c must be a number >= 0, a matrix or a function of t; got"):
        sp.ReverseSDE(sp.VPSDE(), Affine(), c)


def test_a_step_to_a_later_time_is_refused():
    with pytest.raises(ValueError, match=r"runs from T down to 0: got a step from t=0.2 to t=0.5"):
        sp.ReverseSDE(sp.VPSDE(), Affine()).coefficients(0.2, 0.5)


@pytest.mark.parametrize(
    "c", [torch.tensor(0.5, requires_grad=True), lambda t: t * torch.ones((), requires_grad=True)]
)
def test_a_gradient_that_would_be_lost_is_refused(c):
    backend = sp.resolve("torch")
    with pytest.raises(TypeError, match="no gradient flows through a number c"):
        sp.solve(sp.ReverseSDE(sp.VPSDE(), Affine(backend), c), array(X, backend), [1.0, 0.5])


@pytest.mark.parametrize(
    ("mu", "same", "other"),
    [(1.0, 1.0, -1.0), (np.ones(2), 1.0, np.array([1.0, 0.5])), (lambda t: t, lambda t: 1.0 * t, 0.5)],
    ids=["number", "array", "function"],
)
def test_a_denoiser_of_another_shift_is_refused(mu, same, other):
    """α and σ agree, but its score is that of other marginals."""

    def reverse(theirs):
        denoiser = sp.GaussianDenoiser(sp.ShiftedVPSDE(theirs), np.zeros(2), np.eye(2))
        return sp.ReverseSDE(sp.ShiftedVPSDE(mu), denoiser)

    assert reverse(same).falling
    with pytest.raises(ValueError, match="shifts the mean otherwise than the forward SDE"):
        reverse(other)
    with pytest.raises(ValueError, match="shifts the mean otherwise than the forward SDE"):
        sp.ReverseSDE(sp.VPSDE(), reverse(same).denoiser)
