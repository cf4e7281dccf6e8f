"""EDM's Heun: the published algorithm, order 2, and churn that leaves the marginals where they are."""

import math

import numpy as np
import pytest
from checks import host
from linear_probes import (
    COVARIANCE,
    EACH_GRID,
    EACH_SDE,
    MEAN,
    SDES,
    Given,
    errors,
    grids_of,
    marginal,
    moments_after,
    reverse_of,
    slope,
)
from mixture_start import assert_mixture_returns, flow_slope, mixture_reverse

import sdeppl as sp


@EACH_SDE
@EACH_GRID
def test_order_without_churn(sde, grid):
    grids = grids_of(sde, grid, (32, 64, 128))
    of_map, of_covariance = errors(sde, sp.EDMHeun(), grids, 0.0)
    assert slope(grids, of_map) == pytest.approx(2.0, abs=0.1)
    assert slope(grids, of_covariance) == pytest.approx(2.0, abs=0.1)
    assert of_map[-1] < 1e-4


def test_order_for_a_mixture():
    assert flow_slope(SDES["vp"], sp.EDMHeun(), (128, 256, 512)) == pytest.approx(2.0, abs=0.1)


@EACH_SDE
@EACH_GRID
def test_weak_order_with_churn(sde, grid):
    """As many steps share the churn as there are, the covariance converges to that of p_t, with order 2."""
    grids = grids_of(sde, grid, (16, 32, 64))
    found = [errors(sde, sp.EDMHeun(2.0, len(g) - 1), [g], 0.0)[1, 0] for g in grids]
    assert slope(grids, found) == pytest.approx(sp.EDMHeun.weak_order, abs=0.1)


def test_noise_scaled_by_S_noise_adds_variance():
    """S_noise = 1.1 adds variance that more steps do not take away."""
    sde = SDES["ve"]
    for steps in (64, 128):
        times = grids_of(sde, "λ", (steps,))[0]
        solver = sp.EDMHeun(4.0, steps, S_noise=1.1)
        _, covariance = moments_after(reverse_of(sde, 0.0), solver, times, *marginal(sde, 1.0))
        assert np.trace(covariance) > 1.15 * np.trace(marginal(sde, 0.1)[1])


@pytest.mark.parametrize(("steps", "added"), [(10, True), (1000, False)])
def test_churn_of_one_step(steps, added):
    """γ = min(S_churn/steps, √2 - 1) within [S_tmin, S_tmax], and ρ̂ is at most ρ at T."""
    sde, x, z = SDES["ve"], np.zeros((1, 2)), np.array([[1.0, -2.0]])
    zero = sp.CallableDenoiser(sde, lambda x, t: 0 * x, None, 2, sp.resolve("numpy"))
    rho = sde.sigma(0.5)

    def noise_level(solver, s):
        """ρ̂, seen through a denoiser that is 0: the step is then u ↦ û ρ_t/ρ̂."""
        found, _ = solver.step(sp.ReverseSDE(sde, zero, 0.0), x, s, 1e-3, z)
        ratio = host(found)[0, 0] / sde.sigma(1e-3)  # √(ρ̂² - ρ²)/ρ̂
        return sde.sigma(s) / math.sqrt(1 - ratio**2)

    gamma = min(40 / steps, math.sqrt(2) - 1)
    assert noise_level(sp.EDMHeun(40.0, steps), 0.5) == pytest.approx((1 + gamma) * rho, rel=1e-9)
    assert noise_level(sp.EDMHeun(40.0, steps, S_tmin=1.01 * rho), 0.5) == pytest.approx(rho)
    assert noise_level(sp.EDMHeun(40.0, steps, S_tmax=0.99 * rho), 0.5) == pytest.approx(rho)
    late = noise_level(sp.EDMHeun(40.0, steps), 0.98)
    assert late == pytest.approx(sde.sigma(1.0) if added else 1.04 * sde.sigma(0.98), rel=1e-9)


def published(denoise, x, sigmas, S_churn, S_tmin, S_tmax, S_noise, z):
    """Algorithm 2 of Karras et al. 2022, line by line; the SDE has α = 1 and t = σ."""
    steps = len(sigmas) - 1
    for i in range(steps):
        gamma = min(S_churn / steps, math.sqrt(2) - 1) if S_tmin <= sigmas[i] <= S_tmax else 0.0
        t_hat = sigmas[i] + gamma * sigmas[i]
        x_hat = x + math.sqrt(t_hat**2 - sigmas[i] ** 2) * S_noise * z[i]
        d = (x_hat - denoise(x_hat, t_hat)) / t_hat
        x = x_hat + (sigmas[i + 1] - t_hat) * d
        if sigmas[i + 1] != 0:
            d_prime = (x - denoise(x, sigmas[i + 1])) / sigmas[i + 1]
            x = x_hat + (sigmas[i + 1] - t_hat) * (0.5 * d + 0.5 * d_prime)
    return x


@pytest.mark.parametrize(
    "parameters", [(0.0, 0.0, math.inf, 1.0), (1.5, 0.0, math.inf, 1.0), (1.5, 0.3, 1.8, 1.01)]
)
@pytest.mark.parametrize("name", ["vp", "edm"])
def test_against_algorithm_2(name, parameters):
    """EDM's own SDE has t = σ; under VP the same algorithm runs in x/α at the same levels σ/α."""
    levels, rng = [2.0, 1.6, 1.2, 0.5, 0.1, 0.0], np.random.default_rng(3)
    edm = sp.EDMSDE(T=2.9)
    sde = sp.VPSDE(sp.LinearSchedule(0.5, 5.0)) if name == "vp" else edm
    times = [sp.sde.grids.time_of_half_log_snr(sde, -math.log(level)) if level else 0.0 for level in levels]
    x, z = rng.standard_normal((4, 2)), rng.standard_normal((5, 4, 2))
    S_churn, S_tmin, S_tmax, S_noise = parameters
    solver = sp.EDMHeun(S_churn, 5, S_tmin, S_tmax, S_noise)
    start = sde.alpha(times[0]) * x
    found = sp.solve(
        mixture_reverse(sde, 0.0), start, times, solver=solver, noise=Given(z), keep="last"
    ).states
    expected = published(mixture_reverse(edm, 0.0).nonlinear, x, levels, *parameters, z)
    np.testing.assert_allclose(found[0], expected, atol=1e-9)


@pytest.mark.parametrize("S_churn", [0.0, 10.0])
def test_a_gaussian_comes_back(S_churn):
    """Moments at t = 0 of a start at p_T, for each SDE and for one whose mean is pushed away."""
    pushed = sp.ShiftedVPSDE(0.8, sp.LinearSchedule(0.5, 3.0))
    for sde in (*SDES.values(), pushed):
        times = sp.log_snr_grid(sde, 200, 1e-4)
        solver = sp.EDMHeun(S_churn, 200)
        mean, covariance = moments_after(reverse_of(sde, 0.0), solver, times, *marginal(sde, 1.0))
        np.testing.assert_allclose(mean, MEAN, atol=5e-3)
        np.testing.assert_allclose(covariance, COVARIANCE, atol=5e-3)


@EACH_SDE
@pytest.mark.parametrize("S_churn", [0.0, 10.0])
def test_a_mixture_comes_back(sde, S_churn):
    """Seed 13."""
    times = sp.log_snr_grid(sde, 80, 1e-3)
    assert_mixture_returns(sde, sp.EDMHeun(S_churn, 80), 0.0, times, seed=13)


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: sp.PredictorCorrector(s, corrections=1)])
def test_the_grid_says_how_many_steps_share_the_churn(wrap):
    reverse, x = mixture_reverse(SDES["vp"], 0.0), np.ones((4, 2))
    times = sp.log_snr_grid(SDES["vp"], 7)
    counted, given, wrong = (
        sp.solve(reverse, x, times, solver=wrap(solver)).states
        for solver in (sp.EDMHeun(2.0), sp.EDMHeun(2.0, len(times) - 1), sp.EDMHeun(2.0, 40))
    )
    np.testing.assert_array_equal(counted, given)
    assert np.max(np.abs(counted - wrong)) > 1e-3


def test_what_it_does_not_take_is_refused():
    with pytest.raises(ValueError, match=r"S_churn=40\.0 is spread over the steps of a grid"):
        sp.EDMHeun(S_churn=40.0).step(mixture_reverse(SDES["vp"], 0.0), np.ones((2, 2)), 0.5, 0.4, 0.0)
    with pytest.raises(ValueError, match="steps must be a whole number, at least 1; got 0"):
        sp.EDMHeun(S_churn=40.0, steps=0)
    with pytest.raises(ValueError, match=r"0 <= S_tmin <= S_tmax .* S_tmin=2\.0, S_tmax=1\.0"):
        sp.EDMHeun(S_tmin=2.0, S_tmax=1.0)
    x, times = np.ones((2, 2)), [1.0, 0.1]
    with pytest.raises(TypeError, match=r"EDMHeun solves .* c=1\.0; use ExponentialHeun"):
        sp.solve(mixture_reverse(SDES["vp"], 1.0), x, times, solver=sp.EDMHeun())
    with pytest.raises(TypeError, match=r"EDMHeun solves the ReverseSDE of .* got VPSDE"):
        sp.solve(SDES["vp"], x, times[::-1], solver=sp.EDMHeun())
    with pytest.raises(ValueError, match=r"got a step from t=0\.1 to t=1"):
        sp.solve(mixture_reverse(SDES["vp"], 0.0), x, times[::-1], solver=sp.EDMHeun())
