"""The ladder of mean likelihoods: each is the gradient of its own ln l, and keeps the same contracts."""

import math

import numpy as np
import pytest
import scipy.stats
from checks import array, assert_array, covariance_matrix, host

import sdeppl as sp
from sdeppl.likelihood import joint_observation

DIM = 3
SDE = sp.LinearSDE(a=0.7, b=1.3)
WEIGHTS = np.array([0.4, 0.6])
MEANS = np.array([[2.0, -1.0, 0.5], [-1.0, 1.5, 3.0]])
COVARIANCES = np.stack([covariance_matrix(DIM, 1, 0.3, 2.0), covariance_matrix(DIM, 2, 0.2, 1.0)])
H, Y = np.random.default_rng(12).standard_normal((2, DIM)), np.array([1.0, -2.0])
R_FULL = covariance_matrix(2, seed=13, smallest=0.1, largest=1.0)
R = np.array([0.3, 1.1])
X = np.random.default_rng(14).standard_normal((4, DIM)) * 1.5 + 0.5
TIMES = [0.05, 0.4, 1.0]


def mixture_on(backend, sde=SDE):
    return sp.GaussianMixtureDenoiser(
        sde, array(WEIGHTS, backend), array(MEANS, backend), array(COVARIANCES, backend)
    )


def linear(backend, rows=H, y=Y, noise=R):
    return sp.LinearGaussian(array(rows, backend), array(y, backend), array(noise, backend))


def bent(backend, noisy=False):
    """A(x) = (x₀ + 0.3 x₁², x₂ x₀), with noise that depends on x where `noisy`."""

    def function(x):
        a = host(x)
        zero = 0 * a[:, 0]
        value = np.stack([a[:, 0] + 0.3 * a[:, 1] ** 2, a[:, 2] * a[:, 0]], axis=1)
        jacobian = np.stack(
            [np.stack([zero + 1, 0.6 * a[:, 1], zero], 1), np.stack([a[:, 2], zero, a[:, 0]], 1)], axis=1
        )
        found = [array(value, backend), array(jacobian, backend)]
        if noisy:
            found.append(array(np.stack([0.3 + 0.1 * a[:, 1] ** 2, 0.5 + 0 * zero], 1), backend))
        return tuple(found)

    return sp.NonlinearGaussian(function, DIM, array(Y, backend), None if noisy else array(R_FULL, backend))


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


@EACH
def test_no_observation_gives_the_prior(rung, precise):
    guided = RUNGS[rung](mixture_on(precise), linear(precise, y=np.full(2, np.nan)))
    x = array(X, precise)
    assert_array(guided.mean(x, 0.4), host(guided.prior.mean(x, 0.4)), precise, 1e-15)
    assert_array(guided.log_likelihood(x, 0.4), np.zeros(len(X)), precise, 0.0)


@pytest.mark.parametrize("rung", [n for n in RUNGS if n not in ("monte-carlo", "nested", "dps, normalised")])
def test_noise_without_bound_gives_the_prior(rung, precise):
    guided = RUNGS[rung](mixture_on(precise), linear(precise, noise=np.full(2, 1e14)))
    x = array(X, precise)
    assert_array(guided.score(x, 0.4), host(guided.prior.score(x, 0.4)), precise, 1e-9)


@pytest.mark.parametrize("rung", ["naive", "dps", "tweedie", "monte-carlo", "nested"])
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


@EACH
def test_guidance_of_a_draw_does_not_depend_on_its_batch(rung, precise):
    guided = RUNGS[rung](mixture_on(precise), linear(precise, noise=R_FULL))
    together = host(guided.mean(array(X, precise), 0.4))
    far = np.concatenate([X[:2], 1e3 * X])
    for batch in (X[:2], far):
        alone = host(guided.mean(array(batch, precise), 0.4))[:2]
        np.testing.assert_allclose(alone, together[:2], rtol=1e-10)


@pytest.mark.parametrize("t", [0.2, 0.7])
def test_nested_draws_converge_to_the_exact_mean_likelihood(t):
    """4,000 draws of p(x_0 | x_t) with 40 steps against the closed form; 5 standard errors at an effective
    size of a tenth, and 0.02 for the steps."""
    numpy, sde = sp.resolve("numpy"), sp.VPSDE()
    prior, seen = mixture_on(numpy, sde), linear(numpy, noise=5 * R)
    exact = sp.exact_posterior(prior, seen)
    guided = sp.NestedDenoiser(prior, seen, samples=4_000, steps=40).guide(X, t)
    moments = exact.denoiser(X, t)
    sd = np.sqrt(np.diagonal(moments.covariance.dense(), axis1=1, axis2=2))
    assert np.all(np.abs(guided.mean - moments.mean) < sd * (5 / math.sqrt(400) + 0.02))
    log_l = exact.denoiser.log_density(X, t) - prior.log_density(X, t) + float(exact.log_evidence)
    np.testing.assert_allclose(guided.log_likelihood, log_l, atol=0.25)


def test_an_exact_conditional_sampler_is_asked_where_the_prior_has_one():
    numpy, t = sp.resolve("numpy"), 0.5
    prior = sp.GaussianDenoiser(SDE, MEANS[0], COVARIANCES[0])
    moments = prior(X, t)
    root = np.linalg.cholesky(moments.covariance.dense())
    prior.conditional = lambda x, t, z: prior(x, t).mean[:, None, :] + z @ root.T
    seen = linear(numpy, noise=5 * R)
    guided = sp.NestedDenoiser(prior, seen, samples=20_000).guide(X, t)
    exact = sp.TweedieDenoiser(prior, seen).guide(X, t)
    np.testing.assert_allclose(guided.mean, exact.mean, atol=0.06)
    np.testing.assert_allclose(guided.log_likelihood, exact.log_likelihood, atol=0.3)


@pytest.mark.parametrize("t", [0.05, 0.4, 1.0])
def test_monte_carlo_is_the_gaussian_integral(t):
    """Over N(m, C), of a linear Gaussian likelihood: the Tweedie likelihood, known exactly. 512 draws."""
    numpy = sp.resolve("numpy")
    prior, seen = mixture_on(numpy), linear(numpy, noise=0.1 * R)
    x = sp.exact_posterior(prior, seen).denoiser.marginals.sample(t, 20, seed=1)
    found = sp.MonteCarloDenoiser(prior, seen, samples=512).guide(x, t)
    exact = sp.TweedieDenoiser(prior, seen, gradient="mean").guide(x, t)
    C = exact.prior.covariance.dense()
    sd = np.sqrt(np.diagonal(C, axis1=1, axis2=2))
    assert (
        np.abs((found.mean - exact.mean) / sd).max() < 0.3
    )  # of 60 numbers, each with an error of about 0.06
    np.testing.assert_allclose(found.log_likelihood, exact.log_likelihood, atol=0.25)


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


def test_cubature_of_a_linear_predictor_is_tweedie(precise):
    """Any N(m, C): mean, ln l and the covariance given y."""

    def function(x):
        value = host(x) @ H.T
        return array(value, precise), array(np.broadcast_to(H, (len(value), 2, DIM)), precise)

    prior, x = mixture_on(precise), array(X, precise)
    seen = sp.NonlinearGaussian(function, DIM, array(Y, precise), array(R_FULL, precise))
    found = sp.CubatureDenoiser(prior, seen)
    exact = sp.TweedieDenoiser(prior, linear(precise, noise=R_FULL), gradient="mean")
    for t in TIMES:
        assert_array(found.mean(x, t), host(exact.mean(x, t)), precise, 1e-7)
        assert_array(found.log_likelihood(x, t), host(exact.log_likelihood(x, t)), precise, 1e-7)
        dense = host(exact(x, t).covariance.dense())
        assert_array(found(x, t).covariance.dense(), dense, precise, 1e-6)


def test_cubature_has_the_moments_of_a_quadratic_predictor_and_of_its_noise(precise):
    """E[A], Cov[x_0, A] and E[R] of A = (x₀ + 0.3 x₁², x₂ x₀), R = (0.3 + 0.1 x₁², 0.5) in closed form."""
    prior, x, t = mixture_on(precise), array(X, precise), 0.4
    seen = bent(precise, noisy=True)
    rung = sp.CubatureDenoiser(prior, seen)
    moments = prior(x, t)
    m, C = host(moments.mean), host(moments.covariance.dense())
    root = np.linalg.cholesky(C)
    mean, slope, noise = (host(a) for a in rung._moments(moments.mean, array(root, precise)))
    expected = np.stack([m[:, 0] + 0.3 * (m[:, 1] ** 2 + C[:, 1, 1]), m[:, 2] * m[:, 0] + C[:, 0, 2]], axis=1)
    np.testing.assert_allclose(mean, expected, rtol=1e-10)
    cross = np.stack(
        [C[:, :, 0] + 0.6 * m[:, 1:2] * C[:, :, 1], m[:, 2:] * C[:, :, 0] + m[:, :1] * C[:, :, 2]], axis=2
    )
    np.testing.assert_allclose(root @ slope, cross, atol=1e-10)
    # Cov[A] beyond the linear part is positive, and E[R] comes on top
    average = np.stack([0.3 + 0.1 * (m[:, 1] ** 2 + C[:, 1, 1]), 0.5 + 0 * m[:, 0]], axis=1)
    bend = noise - average[:, :, None] * np.eye(2)
    assert np.linalg.eigvalsh(bend).min() > -1e-12
    assert np.abs(bend).max() > 1e-3


def test_cubature_is_for_nonlinear_gaussian_observations():
    numpy = sp.resolve("numpy")
    with pytest.raises(TypeError, match="likelihood='cubature' is for a NonlinearGaussian"):
        sp.CubatureDenoiser(mixture_on(numpy), linear(numpy))


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
