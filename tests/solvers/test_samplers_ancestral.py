"""The ancestral sampler: DDPM's and NCSN's formulas, its orders, and how c and DDIM's η relate to it."""

import numpy as np
import pytest
from linear_probes import (
    COVARIANCE,
    EACH_SDE,
    MEAN,
    SDES,
    errors,
    grids_of,
    marginal,
    moments_after,
    reverse_of,
    slope,
    strong_errors,
)
from mixture_start import assert_mixture_returns, mixture_reverse

import sdeppl as sp

EACH_VARIANCE = pytest.mark.parametrize("variance", ["posterior", "transition"])
S, T = 0.7, 0.3


def step_of(sde, solver, c=1.0, s=S, t=T):
    """x, z, E[x_0 given x_s] and the state after a step from s to t."""
    x, z = np.random.default_rng(5).standard_normal((2, 6, 2))
    reverse = mixture_reverse(sde, c)
    return x, z, reverse.nonlinear(x, s), solver.step(reverse, x, s, t, z)[0]


@EACH_SDE
def test_a_step_is_the_conditional_of_the_forward_sde(sde):
    """By conditioning the joint Gaussian of x_t and x_s given x_0, which has x̂_0 in its place."""
    x, z, x_0, found = step_of(sde, sp.AncestralSampler())
    phi = sde.transition(T, S).map
    joint = sde.sigma(T) ** 2 * np.array([[1, phi], [phi, 0]]) + np.diag([0, sde.sigma(S) ** 2])
    gain = joint[0, 1] / joint[1, 1]
    mean = sde.alpha(T) * x_0 + gain * (x - sde.alpha(S) * x_0)
    np.testing.assert_allclose(found, mean + np.sqrt(joint[0, 0] - gain * joint[0, 1]) * z, atol=1e-13)


@EACH_VARIANCE
def test_ddpm(variance):
    """Equation 7 of Ho et al. 2020, with their α_t, β_t and ᾱ_t."""
    sde = SDES["vp"]
    x, z, x_0, found = step_of(sde, sp.AncestralSampler(variance))
    alpha, bar, bar_before = sde.transition(T, S).map ** 2, sde.alpha(S) ** 2, sde.alpha(T) ** 2
    beta = 1 - alpha
    mean = np.sqrt(bar_before) * beta / (1 - bar) * x_0 + np.sqrt(alpha) * (1 - bar_before) / (1 - bar) * x
    tilde = (1 - bar_before) / (1 - bar) * beta
    spread = np.sqrt(tilde if variance == "posterior" else beta)
    np.testing.assert_allclose(found, mean + spread * z, atol=1e-13)


def test_ncsn():
    """Song et al. 2021, eq. 47: x + (σ_s² - σ_t²) score + √(σ_t² (σ_s² - σ_t²)/σ_s²) z."""
    sde = SDES["ve"]
    x, z, _, found = step_of(sde, sp.AncestralSampler())
    larger, smaller = sde.sigma(S) ** 2, sde.sigma(T) ** 2
    score = mixture_reverse(sde, 1.0).score(x, S)
    expected = x + (larger - smaller) * score + np.sqrt(smaller * (larger - smaller) / larger) * z
    np.testing.assert_allclose(found, expected, atol=1e-13)


@pytest.mark.parametrize("sde", [*SDES.values(), sp.ShiftedVPSDE(0.8)], ids=[*SDES, "pushed"])
@pytest.mark.parametrize("t", [T, 0.0])
def test_posterior_variance_is_exponential_euler_at_c_1(sde, t):
    found, expected = (
        step_of(sde, solver, 1.0, S, t)[3] for solver in (sp.AncestralSampler(), sp.ExponentialEuler())
    )
    np.testing.assert_allclose(found, expected, atol=1e-12)


@EACH_SDE
def test_no_variance_enters_the_step_to_zero(sde):
    """Of DDPM's last step: E[x_0 given x_s] alone, with both variances."""
    for variance in ("posterior", "transition"):
        _, _, x_0, found = step_of(sde, sp.AncestralSampler(variance), 1.0, 0.01, 0.0)
        np.testing.assert_allclose(found, x_0, atol=1e-12)


@EACH_SDE
@pytest.mark.parametrize("c", [0.0, 0.5, 1.0, 2.0])
def test_exponential_euler_is_ddim(sde, c):
    """Equations 12 and 16 of Song et al. 2021 (DDIM) with η² = (1 - r^{2c²})/(1 - r²), r = (σ/α)_t/(σ/α)_s.

    Their ᾱ is α²/(α² + σ²), which is α² for VP; for other SDEs x is scaled by √(α² + σ²).
    """
    x, z, x_0, found = step_of(sde, sp.ExponentialEuler(), c)
    scale_s, scale_t = (np.hypot(sde.alpha(u), sde.sigma(u)) for u in (S, T))
    bar_s, bar_t = (sde.alpha(S) / scale_s) ** 2, (sde.alpha(T) / scale_t) ** 2
    r = np.exp(sde.half_log_snr(S) - sde.half_log_snr(T))
    eta = np.sqrt((1 - r ** (2 * c**2)) / (1 - r**2))
    spread = eta * np.sqrt((1 - bar_t) / (1 - bar_s)) * np.sqrt(1 - bar_s / bar_t)
    eps = (x / scale_s - np.sqrt(bar_s) * x_0) / np.sqrt(1 - bar_s)
    expected = np.sqrt(bar_t) * x_0 + np.sqrt(1 - bar_t - spread**2) * eps + spread * z
    np.testing.assert_allclose(found, scale_t * expected, atol=1e-13)
    assert eta == pytest.approx(c) if c in (0.0, 1.0) else abs(eta - c) > 0.03


@EACH_SDE
@EACH_VARIANCE
@pytest.mark.parametrize("grid", ["t", "λ"])
def test_weak_order(sde, variance, grid):
    grids, solver = grids_of(sde, grid, (64, 128, 256)), sp.AncestralSampler(variance)
    _, of_covariance = errors(sde, solver, grids, 1.0)
    assert slope(grids, of_covariance) == pytest.approx(solver.weak_order, abs=0.1)
    assert of_covariance[-1] < 0.025


@EACH_VARIANCE
def test_strong_order(variance):
    sizes = (16, 32, 64)
    found = strong_errors(SDES["vp"], sp.AncestralSampler(variance), 1.0, sizes)
    measured = -np.polyfit(np.log(sizes), np.log(found), 1)[0]
    assert measured == pytest.approx(sp.AncestralSampler.strong_order["additive"], abs=0.1)


@EACH_VARIANCE
def test_a_gaussian_comes_back(variance):
    """Moments at t = 0 of a start at p_T, for each SDE and for one whose mean is pushed away."""
    pushed = sp.ShiftedVPSDE(0.8, sp.LinearSchedule(0.5, 3.0))
    for sde in (*SDES.values(), pushed):
        times = sp.log_snr_grid(sde, 400, 1e-3)
        solver = sp.AncestralSampler(variance)
        mean, covariance = moments_after(reverse_of(sde, 1.0), solver, times, *marginal(sde, 1.0))
        np.testing.assert_allclose(mean, MEAN, atol=1e-6)
        np.testing.assert_allclose(covariance, COVARIANCE, atol=0.04)


@EACH_SDE
def test_a_mixture_comes_back(sde):
    """Seed 14; the variance of the transition, whose error of order 1 is the smaller one."""
    times = sp.log_snr_grid(sde, 400, 1e-2)
    assert_mixture_returns(sde, sp.AncestralSampler("transition"), 1.0, times, seed=14, draws=5_000)


def test_what_it_does_not_take_is_refused():
    with pytest.raises(ValueError, match="variance must be 'posterior' or 'transition'; got 'learned'"):
        sp.AncestralSampler("learned")
    x, times = np.ones((2, 2)), [1.0, 0.1]
    for c in (0.0, 0.5, lambda t: 1.0):
        with pytest.raises(
            TypeError, match=r"AncestralSampler solves .* c = 1; got c=.*; use ExponentialEuler"
        ):
            sp.solve(mixture_reverse(SDES["vp"], c), x, times, solver=sp.AncestralSampler())
    with pytest.raises(TypeError, match=r"AncestralSampler solves the ReverseSDE of .* got VPSDE"):
        sp.solve(SDES["vp"], x, times[::-1], solver=sp.AncestralSampler())
