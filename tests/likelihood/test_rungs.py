"""The ladder of mean likelihoods: each is the gradient of its own ln l, and keeps the same contracts."""

import math

import numpy as np
import pytest
import scipy.stats
from checks import array, assert_array, host
from guided_mixture import DIM, R_FULL, SDE, TIMES, H, R, X, Y, bent, linear, mixture_on

import sdeppl as sp
from sdeppl.likelihood import joint_observation

RUNGS = {
    "naive": sp.NaiveDenoiser,
    "dps": sp.DPSDenoiser,
    "dps, normalised": lambda p, o: sp.DPSDenoiser(p, o, zeta=0.8, step=0.1),
    "sda": lambda p, o: sp.SDADenoiser(p, o, gamma=0.7),
    "pigdm": lambda p, o: sp.PiGDMDenoiser(p, o, variance=1.7),
    "tweedie": sp.TweedieDenoiser,
    "monte-carlo": sp.MonteCarloDenoiser,
    "nested": lambda p, o: sp.NestedDenoiser(p, o, samples=16, steps=10),
}
DIFFERENTIATED = [name for name in RUNGS if name not in ("monte-carlo", "nested")]
EACH = pytest.mark.parametrize("rung", RUNGS)
BESIDE = [name for name in RUNGS if name != "tweedie"]  # whose own file asserts the same of more priors


def central_gradient(function, x, h=1e-4):
    columns = []
    for i in range(x.shape[1]):
        e = np.zeros(x.shape[1])
        e[i] = h
        near, far = function(x + e) - function(x - e), function(x + 2 * e) - function(x - 2 * e)
        columns.append((8 * near - far) / (12 * h))
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("t", TIMES)
@pytest.mark.parametrize("rung", DIFFERENTIATED)
@pytest.mark.parametrize("seen", ["linear", "full noise", "nonlinear", "noise that depends on x"])
def test_the_mean_is_the_gradient_of_the_likelihood(rung, seen, t):
    """m + σ²/α ∂ ln l/∂x_t, the log-determinant and every Jacobian in it, to 2e-6 of the shift."""
    numpy = sp.resolve("numpy")
    observed = {
        "linear": lambda: linear(numpy),
        "full noise": lambda: linear(numpy, noise=R_FULL),
        "nonlinear": lambda: bent(numpy),
        "noise that depends on x": lambda: bent(numpy, noisy=True),
    }[seen]()
    if seen not in ("linear", "full noise") and rung in ("sda", "pigdm", "dps, normalised"):
        pytest.skip("its gradient leaves out how H and R bend, as published")
    prior = mixture_on(numpy)
    guided = RUNGS[rung](prior, observed)
    slope = central_gradient(lambda x: guided.log_likelihood(x, t), X)
    shift = SDE.sigma(t) ** 2 / SDE.alpha(t) * slope
    np.testing.assert_allclose(guided.mean(X, t) - prior.mean(X, t), shift, atol=2e-6 * np.abs(shift).max())


@pytest.mark.parametrize("t", TIMES)
def test_each_likelihood_is_what_it_says(t, precise):
    """ln N(y; ., .) with the variance that each puts in the place of the true one."""
    prior, seen = mixture_on(precise), linear(precise, noise=R_FULL)
    x, alpha, sigma = array(X, precise), SDE.alpha(t), SDE.sigma(t)
    moments = prior(x, t)
    m, C = host(moments.mean), host(moments.covariance.dense())

    def normal(points, covariances):
        rows = zip(points, np.broadcast_to(covariances, (len(X), 2, 2)), strict=True)
        return np.array([scipy.stats.multivariate_normal(H @ p, S).logpdf(Y) for p, S in rows])

    r2 = sigma**2 * 1.7 / (alpha**2 * 1.7 + sigma**2)
    expected = {
        "naive": normal(X, R_FULL),
        "dps": normal(m, R_FULL),
        "sda": normal(m, R_FULL + 0.7 * sigma**2 / alpha**2 * np.eye(2)),
        "pigdm": normal(m, R_FULL + r2 * H @ H.T),
        "tweedie": normal(m, R_FULL + H @ C @ H.T),
    }
    for name, wanted in expected.items():
        assert_array(RUNGS[name](prior, seen).log_likelihood(x, t), wanted, precise, 1e-10)


def test_normalised_dps_moves_each_step_by_zeta(precise):
    """One ancestral step of length h in ln(α/σ) lands ζ ∂|y - H m|/∂x_t away from the unguided one."""
    sde, zeta, h = sp.VPSDE(), 0.8, 0.1
    prior, seen, t = mixture_on(precise, sde), linear(precise), 0.4
    grid = sp.log_snr_grid(sde, 50)
    level = sde.half_log_snr(t) + h
    later = min(grid, key=lambda s: abs(sde.half_log_snr(s) - level) if s > 0 else math.inf)
    step = sde.half_log_snr(later) - sde.half_log_snr(t)
    guided = sp.DPSDenoiser(prior, seen, zeta=zeta, step=step)
    x, solver = array(X, precise), sp.AncestralSampler()
    z = array(np.zeros_like(X), precise)
    moved, _ = solver.step(sp.ReverseSDE(sde, guided), x, t, later, z)
    plain, _ = solver.step(sp.ReverseSDE(sde, prior), x, t, later, z)
    numpy_prior = mixture_on(sp.resolve("numpy"), sde)
    slope = central_gradient(lambda v: np.linalg.norm(Y - numpy_prior.mean(v, t) @ H.T, axis=1), X)
    np.testing.assert_allclose(host(moved) - host(plain), -zeta * slope, atol=1e-7)


@pytest.mark.parametrize("rung", BESIDE)
def test_no_observation_gives_the_prior(rung, precise):
    guided = RUNGS[rung](mixture_on(precise), linear(precise, y=np.full(2, np.nan)))
    x = array(X, precise)
    assert_array(guided.mean(x, 0.4), host(guided.prior.mean(x, 0.4)), precise, 1e-15)
    assert_array(guided.log_likelihood(x, 0.4), np.zeros(len(X)), precise, 0.0)


@pytest.mark.parametrize("rung", [n for n in BESIDE if n not in ("monte-carlo", "nested", "dps, normalised")])
def test_noise_without_bound_gives_the_prior(rung, precise):
    guided = RUNGS[rung](mixture_on(precise), linear(precise, noise=np.full(2, 1e14)))
    x = array(X, precise)
    assert_array(guided.score(x, 0.4), host(guided.prior.score(x, 0.4)), precise, 1e-9)


@pytest.mark.parametrize("rung", ["naive", "dps", "monte-carlo", "nested"])
def test_a_row_seen_twice_has_half_its_variance(rung, precise):
    """At score level to 1e-9. (SDA and ΠGDM add a variance for each row, and do not keep to it.)"""
    prior, x = mixture_on(precise), array(X, precise)
    twice = RUNGS[rung](prior, linear(precise, H[[0, 1, 1]], Y[[0, 1, 1]], R[[0, 1, 1]]))
    half = RUNGS[rung](prior, linear(precise, noise=R * np.array([1.0, 0.5])))
    assert_array(twice.score(x, 0.4), host(half.score(x, 0.4)), precise, 1e-9)


@EACH
def test_two_observed_sites_are_their_joint(rung, precise):
    """Each kind of joint: by one matrix, and by parts that stay apart."""
    prior, x = mixture_on(precise), array(X, precise)
    parts = [linear(precise, H[:1], Y[:1], R[:1]), linear(precise, H[1:], Y[1:], R[1:])]
    whole = RUNGS[rung](prior, linear(precise)).score(x, 0.4)
    assert_array(RUNGS[rung](prior, sp.JointObservation(parts)).score(x, 0.4), host(whole), precise, 1e-9)
    assert_array(RUNGS[rung](prior, joint_observation(parts)).score(x, 0.4), host(whole), precise, 1e-12)


@pytest.mark.parametrize("rung", BESIDE)
def test_guidance_of_a_draw_does_not_depend_on_its_batch(rung, precise):
    guided = RUNGS[rung](mixture_on(precise), linear(precise, noise=R_FULL))
    together = host(guided.mean(array(X, precise), 0.4))
    far = np.concatenate([X[:2], 1e3 * X])
    for batch in (X[:2], far):
        alone = host(guided.mean(array(batch, precise), 0.4))[:2]
        np.testing.assert_allclose(alone, together[:2], rtol=1e-10)


def test_low_rank_is_exact_where_the_rank_is(precise):
    rows = np.random.default_rng(3).standard_normal((6, DIM))
    y, noise = np.arange(6.0), np.linspace(0.2, 1.0, 6)
    prior, seen, x = mixture_on(precise), linear(precise, rows, y, noise), array(X, precise)
    exact = sp.TweedieDenoiser(prior, seen, gradient="mean").mean(x, 0.4)
    found = sp.TweedieDenoiser(prior, seen, "low-rank", rank=DIM).mean(x, 0.4)
    assert_array(found, host(exact), precise, 1e-7)


def test_what_a_rung_cannot_take_is_refused():
    numpy = sp.resolve("numpy")
    prior = mixture_on(numpy)
    hard = sp.LinearConstraint(H, Y)
    for rung in ("naive", "monte-carlo", "nested"):
        with pytest.raises(TypeError, match=f"likelihood='{rung}' needs the density of y given x_0"):
            RUNGS[rung](prior, hard)
    box = sp.DensityObservation(lambda x: -np.sum(x**2, axis=1), DIM, X)
    for rung in ("sda", "pigdm", "tweedie"):
        with pytest.raises(TypeError, match="use likelihood='monte-carlo', which is gradient-free"):
            RUNGS[rung](prior, box)
    with pytest.raises(ValueError, match="zeta and step must be positive"):
        sp.DPSDenoiser(prior, linear(numpy), zeta=1.0)
    with pytest.raises(ValueError, match="samples must be an even number from 2; got 3"):
        sp.MonteCarloDenoiser(prior, linear(numpy), samples=3)
    with pytest.raises(ValueError, match="gamma must be positive"):
        sp.SDADenoiser(prior, linear(numpy), gamma=0.0)


def test_a_hard_constraint_is_the_limit_of_little_noise(precise):
    prior, x = mixture_on(precise), array(X, precise)
    hard = sp.TweedieDenoiser(prior, sp.LinearConstraint(array(H, precise), array(Y, precise)))
    soft = sp.TweedieDenoiser(prior, linear(precise, noise=np.full(2, 1e-9)))
    assert_array(hard.mean(x, 0.4), host(soft.mean(x, 0.4)), precise, 1e-6)
    kalman = sp.TweedieDenoiser(
        prior, sp.LinearConstraint(array(H, precise), array(Y, precise)), gradient="mean"
    )
    np.testing.assert_allclose(host(kalman.mean(x, 0.4)) @ H.T, np.broadcast_to(Y, (4, 2)), rtol=1e-9)


def test_the_gradient_of_a_joint_with_a_black_box_is_the_sum_of_its_parts():
    """DPS through a matrix, and through a density that says its gradient."""
    numpy = sp.resolve("numpy")
    prior = mixture_on(numpy)
    box = sp.DensityObservation(
        lambda x: -0.5 * np.sum((x - 1) ** 2, axis=1), DIM, X, gradient=lambda x: 1 - x
    )
    both = sp.DPSDenoiser(prior, sp.JointObservation([linear(numpy), box]))
    one, other = sp.DPSDenoiser(prior, linear(numpy)), sp.DPSDenoiser(prior, box)
    shift = one.mean(X, 0.4) + other.mean(X, 0.4) - 2 * prior.mean(X, 0.4)
    np.testing.assert_allclose(both.mean(X, 0.4) - prior.mean(X, 0.4), shift, rtol=1e-12)
