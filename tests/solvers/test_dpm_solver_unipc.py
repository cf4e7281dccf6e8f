"""UniPC: one order more than its predictor, at one evaluation a step."""

import itertools
import math

import numpy as np
import pytest
from linear_probes import (
    COVARIANCE,
    EACH_GRID,
    EACH_SDE,
    MEAN,
    SDES,
    errors,
    grids_of,
    marginal,
    moments_after,
    reverse_of,
    slope,
)
from mixture_start import assert_mixture_returns, flow_slope, mixture_reverse

import sdeppl as sp

EACH_P = pytest.mark.parametrize("p", [1, 2, 3])


@EACH_SDE
@EACH_GRID
@EACH_P
def test_order(sde, grid, p):
    """p + 1, ± 0.1, on grids uniform in t and in ln(α/σ)."""
    grids, solver = grids_of(sde, grid, (64, 128, 256) if p < 3 else (128, 256, 512)), sp.UniPC(p)
    of_map, of_covariance = errors(sde, solver, grids, 0.0)
    assert solver.weak_order == p + 1
    assert slope(grids, of_map) == pytest.approx(p + 1, abs=0.1)
    assert slope(grids, of_covariance) == pytest.approx(p + 1, abs=0.1)
    assert of_map[-1] < (5e-5, 5e-7, 5e-10)[p - 1]


@EACH_P
def test_order_for_a_mixture(p):
    assert flow_slope(SDES["vp"], sp.UniPC(p), (128, 256, 512)) == pytest.approx(p + 1, abs=0.1)


@EACH_SDE
@EACH_P
def test_order_down_to_zero(sde, p):
    """On log_snr_grid the step to t = 0, which is not corrected, costs no order."""
    grids = [sp.log_snr_grid(sde, n, 1e-6) for n in (320, 640, 1280)]
    _, of_covariance = errors(sde, sp.UniPC(p), grids, 0.0)
    assert slope(grids, of_covariance) == pytest.approx(p + 1, abs=0.15)


class Recording:
    """A denoiser that keeps what it says."""

    def __init__(self, denoiser):
        self.denoiser, self.evaluated = denoiser, []

    def mean(self, x, t):
        self.evaluated.append(self.denoiser.mean(x, t))
        return self.evaluated[-1]


@EACH_P
def test_the_step_to_zero_is_the_last_evaluation(p):
    denoiser = Recording(mixture_reverse(SDES["linear"], 0.0).denoiser)
    reverse = sp.ReverseSDE(SDES["linear"], denoiser, 0.0)
    x = np.random.default_rng(8).standard_normal((4, 2))
    path = sp.solve(reverse, x, [1.0, 0.7, 0.5, 0.3, 0.0], solver=sp.UniPC(p))
    np.testing.assert_allclose(path.states[-1], denoiser.evaluated[-1], atol=1e-14)


@pytest.mark.parametrize(("p", "extra"), [(1, 0), (2, 0), (3, 2)])
def test_evaluations(p, extra):
    """One a step and one for the start, which a last step to t = 0 gives back; p = 3 takes two more."""
    for times, expected in (([1.0, 0.7, 0.5, 0.2], 4), ([1.0, 0.7, 0.5, 0.0], 3)):
        denoiser = Recording(mixture_reverse(SDES["vp"], 0.0).denoiser)
        sp.solve(sp.ReverseSDE(SDES["vp"], denoiser, 0.0), np.ones((3, 2)), times, solver=sp.UniPC(p))
        assert len(denoiser.evaluated) == expected + extra


def published(sde, reverse, x, times, p):
    """UniPC-p with B(h) = e^h - 1 ('bh2') from the paper's linear systems R a = φ, in NumPy.

    Data prediction, algorithm 2: R_{nm} = r_m^{n-1}; with h' = -h, φ_n = n! φ_{n+1}(h') / B h'-powers, by
    the recursion of the authors' code.
    """
    memory, m0 = [], reverse.nonlinear(x, times[0])
    for s, t in itertools.pairwise(times):
        lambda_s, h = sde.half_log_snr(s), sde.half_log_snr(t) - sde.half_log_snr(s)
        r = [(place - lambda_s) / h for place, _ in memory[: p - 1]]
        D = [(value - m0) / ratio for (_, value), ratio in zip(memory, r, strict=False)]
        hh, B = -h, math.expm1(-h)
        phi, b, factorial = math.expm1(hh) / hh - 1, [], 1
        for n in range(1, len(r) + 2):
            b.append(phi * factorial / B)
            factorial *= n + 1
            phi = phi / hh - 1 / factorial
        linear = sde.sigma(t) / sde.sigma(s) * x - sde.alpha(t) * math.expm1(hh) * m0

        def solved(ratios, differences, b=b, linear=linear, B=B, t=t):
            R = np.vander(ratios, increasing=True).T
            a = np.linalg.solve(R, b[: len(ratios)]) if ratios else []
            total = sum((weight * d for weight, d in zip(a, differences, strict=True)), np.zeros_like(linear))
            return linear - sde.alpha(t) * B * total

        m_t = reverse.nonlinear(solved(r, D), t)
        x = solved([*r, 1.0], [*D, m_t - m0])
        memory, m0 = [(lambda_s, m0), *memory], m_t
    return x


@EACH_SDE
@pytest.mark.parametrize("p", [1, 2])
def test_against_the_published_formulas(sde, p):
    """The paper's B(h) cancels; p = 3 differs in the first step alone, which the paper takes with p = 1."""
    times, x = [1.0, 0.8, 0.7, 0.35, 0.3, 0.02], np.random.default_rng(6).standard_normal((7, 2))
    reverse = mixture_reverse(sde, 0.0)
    found = sp.solve(reverse, x, times, solver=sp.UniPC(p), keep="last").states[0]
    np.testing.assert_allclose(found, published(sde, reverse, x, times, p), atol=1e-12)


def test_without_its_first_step_p_3_would_have_order_3():
    """The paper's start with p = 1 and 2 costs the fourth order."""
    sde = SDES["vp"]
    grids, found = grids_of(sde, "λ", (64, 128, 256)), []
    for times in grids:
        reverse, x = reverse_of(sde, 0.0), np.concatenate([np.zeros((1, 2)), np.eye(2)])
        exact = sp.solve(reverse, x, grids_of(sde, "λ", (1024,))[0], solver=sp.UniPC(3), keep="last").states[
            0
        ]
        found.append(np.linalg.norm(published(sde, reverse, x, times, 3) - exact))
    assert slope(grids, found) == pytest.approx(3.0, abs=0.1)


@EACH_P
def test_a_gaussian_comes_back(p):
    """Moments at t = 0 of a start at p_T, for each SDE and for one whose mean is pushed away."""
    pushed = sp.ShiftedVPSDE(0.8, sp.LinearSchedule(0.5, 3.0))
    for sde in (*SDES.values(), pushed):
        times = sp.log_snr_grid(sde, 160, 1e-4)
        mean, covariance = moments_after(reverse_of(sde, 0.0), sp.UniPC(p), times, *marginal(sde, 1.0))
        np.testing.assert_allclose(mean, MEAN, atol=5e-3)
        np.testing.assert_allclose(covariance, COVARIANCE, atol=5e-3)


@EACH_SDE
@EACH_P
def test_a_mixture_comes_back(sde, p):
    """Seed 12."""
    assert_mixture_returns(sde, sp.UniPC(p), 0.0, sp.log_snr_grid(sde, 60, 1e-3), seed=12)


def test_what_it_does_not_take_is_refused():
    with pytest.raises(ValueError, match="p must be 1, 2 or 3; got 0"):
        sp.UniPC(0)
    x, times = np.ones((2, 2)), [1.0, 0.1]
    with pytest.raises(
        TypeError, match=r"UniPC solves .* c = 0; got a ReverseSDE with c=0\.5; use DPMSolverPP"
    ):
        sp.solve(mixture_reverse(SDES["vp"], 0.5), x, times, solver=sp.UniPC())
    with pytest.raises(TypeError, match=r"UniPC solves the ReverseSDE of .* got VPSDE"):
        sp.solve(SDES["vp"], x, times[::-1], solver=sp.UniPC())
