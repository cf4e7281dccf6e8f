"""The Tweedie likelihood: exact for a Gaussian prior, and what any mean likelihood must keep to."""

import numpy as np
import pytest
import torch
from checks import array, assert_array, covariance_matrix, host, tolerance_of

import sdeppl as sp

DIM = 5
MEAN, COVARIANCE = np.array([2.0, -1.0, 0.5, 0.0, 4.0]), covariance_matrix(DIM, seed=11, largest=3.0)
H = np.random.default_rng(12).standard_normal((3, DIM))
Y = np.array([1.0, -2.0, 3.5])
R_DIAGONAL, R_FULL = np.array([0.3, 1.1, 0.05]), covariance_matrix(3, seed=13, smallest=0.1, largest=1.0)
X = np.random.default_rng(14).standard_normal((6, DIM)) * 1.5 + 0.5
SDES = [sp.VPSDE(), sp.VESDE(0.05, 10.0), sp.LinearSDE(a=0.5, b=1.3)]
MODES = np.stack([MEAN, -MEAN])


def gaussian_on(backend, sde):
    return sp.GaussianDenoiser(sde, array(MEAN, backend), array(COVARIANCE, backend))


def mixture_on(backend, sde):
    covariances = np.stack([COVARIANCE, covariance_matrix(DIM, seed=15)])
    return sp.GaussianMixtureDenoiser(
        sde, array([0.4, 0.6], backend), array(MODES, backend), array(covariances, backend)
    )


def box_on(backend, sde):
    """The mixture as a black box whose covariance is not a matrix that is at hand."""
    mixture = mixture_on(backend, sde)

    def covariance(x, t):
        matrix = mixture(x, t).covariance
        return sp.denoisers.PullbackCovariance(1.0, lambda v: matrix @ v, x)

    return sp.CallableDenoiser(sde, mixture.mean, covariance, DIM, backend)


PRIORS = pytest.mark.parametrize("prior_on", [gaussian_on, mixture_on, box_on])


def linear(backend, rows=H, y=Y, R=R_DIAGONAL):
    return sp.LinearGaussian(array(rows, backend), array(y, backend), array(R, backend))


def posterior_moments(R):
    R = np.diag(R) if R.ndim == 1 else R
    gain = COVARIANCE @ H.T @ np.linalg.inv(H @ COVARIANCE @ H.T + R)
    return MEAN + gain @ (Y - H @ MEAN), COVARIANCE - gain @ H @ COVARIANCE


def assert_same(actual, expected, x, t, backend, tolerance=None):
    """Mean (both ways to it) and covariance of two denoisers."""
    moments, other = actual(x, t), expected(x, t)
    assert_array(actual.mean(x, t), host(other.mean), backend, tolerance)
    assert_array(moments.mean, host(other.mean), backend, tolerance)
    wanted = np.broadcast_to(host(other.covariance.dense()), (len(X), DIM, DIM))
    dense = host(moments.covariance.dense())
    np.testing.assert_allclose(
        np.broadcast_to(dense, wanted.shape), wanted, atol=(tolerance or 1e-9) * np.abs(wanted).max()
    )


@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize("t", [0.01, 0.2, 0.6, 1.0])
@pytest.mark.parametrize("R", [R_DIAGONAL, R_FULL], ids=["diagonal", "full"])
@pytest.mark.parametrize("method", ["dense", "matrix-free"])
def test_a_gaussian_prior_gives_the_exact_posterior(sde, t, R, method, precise):
    """Scores agree with those of the exact posterior's own denoiser to 1e-9 of the largest."""
    guided = sp.TweedieDenoiser(gaussian_on(precise, sde), linear(precise, R=R), method, tolerance=1e-13)
    exact = sp.GaussianDenoiser(sde, *(array(a, precise) for a in posterior_moments(R)))
    x = array(X, precise)
    assert_array(guided.score(x, t), host(exact.score(x, t)), precise, 1e-9)
    assert_array(guided(x, t).mean, host(exact.mean(x, t)), precise, 1e-9)
    assert_array(guided(x, t).covariance.dense(), host(exact(x, t).covariance.dense()), precise, 1e-9)


@pytest.mark.parametrize("sde", SDES)
def test_the_exact_posterior_in_every_dtype(sde, backend):
    guided = sp.TweedieDenoiser(gaussian_on(backend, sde), linear(backend))
    exact = sp.GaussianDenoiser(sde, *(array(a, backend) for a in posterior_moments(R_DIAGONAL)))
    assert_array(guided.mean(array(X, backend), 0.4), host(exact.mean(array(X, backend), 0.4)), backend)


@PRIORS
def test_no_observation_gives_the_prior(prior_on, precise):
    prior, x = prior_on(precise, sp.VPSDE()), array(X, precise)
    guided = sp.TweedieDenoiser(prior, linear(precise, y=np.full(3, np.nan)))
    assert_same(guided, prior, x, 0.4, precise, 1e-15)


@PRIORS
def test_noise_without_bound_gives_the_prior(prior_on, precise):
    prior, x = prior_on(precise, sp.VPSDE()), array(X, precise)
    guided = sp.TweedieDenoiser(prior, linear(precise, R=np.full(3, 1e14)))
    assert_same(guided, prior, x, 0.4, precise, 1e-11)


@PRIORS
def test_a_row_seen_twice_has_half_its_variance(prior_on, precise):
    prior, x = prior_on(precise, sp.VPSDE()), array(X, precise)
    again = [0, 1, 2, 1]
    twice = sp.TweedieDenoiser(prior, linear(precise, H[again], Y[again], R_DIAGONAL[again]))
    half = sp.TweedieDenoiser(prior, linear(precise, R=R_DIAGONAL * np.array([1.0, 0.5, 1.0])))
    assert_same(twice, half, x, 0.4, precise, 1e-9)


@PRIORS
def test_two_observations_one_after_the_other_are_their_joint(prior_on, precise):
    prior, x = prior_on(precise, sp.VPSDE()), array(X, precise)
    first = sp.TweedieDenoiser(prior, linear(precise, H[:1], Y[:1], R_DIAGONAL[:1]), gradient="mean")
    second = sp.TweedieDenoiser(first, linear(precise, H[1:], Y[1:], R_DIAGONAL[1:]), gradient="mean")
    assert_same(second, sp.TweedieDenoiser(prior, linear(precise), gradient="mean"), x, 0.4, precise, 1e-9)


@PRIORS
def test_a_missing_row_is_a_row_left_out(prior_on, precise):
    """In y as NaN, with its row and column of a full R."""
    prior, x = prior_on(precise, sp.VPSDE()), array(X, precise)
    missing = linear(precise, y=np.array([1.0, np.nan, 3.5]), R=R_FULL)
    keep = [0, 2]
    fewer = linear(precise, H[keep], Y[keep], R_FULL[np.ix_(keep, keep)])
    assert missing.count == 2
    assert_same(sp.TweedieDenoiser(prior, missing), sp.TweedieDenoiser(prior, fewer), x, 0.4, precise, 1e-12)


@PRIORS
@pytest.mark.parametrize("method", ["dense", "matrix-free"])
def test_guidance_of_a_draw_does_not_depend_on_its_batch(prior_on, method, precise):
    guided = sp.TweedieDenoiser(prior_on(precise, sp.VPSDE()), linear(precise, R=R_FULL), method)
    together = host(guided.mean(array(X, precise), 0.4))
    far = np.concatenate([X[:2], 1e3 * X])
    for batch in (X[:2], far):
        alone = host(guided.mean(array(batch, precise), 0.4))[:2]
        np.testing.assert_allclose(alone, together[:2], rtol=1e-11)


@PRIORS
@pytest.mark.parametrize("R", [R_DIAGONAL, R_FULL], ids=["diagonal", "full"])
def test_matrix_free_is_dense(prior_on, R, backend):
    prior, x = prior_on(backend, sp.VPSDE()), array(X, backend)
    tight = 1e-6 if "32" in str(backend.dtype) else 1e-13
    dense, free = (
        sp.TweedieDenoiser(
            prior, linear(backend, R=R), method, tolerance=tight, iterations=30, gradient="mean"
        )
        for method in ("dense", "matrix-free")
    )
    assert_array(free.mean(x, 0.3), host(dense.mean(x, 0.3)), backend)


def test_auto_is_matrix_free_where_a_dense_covariance_would_be_large(monkeypatch):
    """By the dimension, and only where the covariance is not at hand."""
    numpy = sp.resolve("numpy")
    monkeypatch.setattr("sdeppl.likelihood.tweedie.DENSE_LIMIT", DIM - 1)
    box = box_on(numpy, sp.VPSDE())
    monkeypatch.setattr(sp.denoisers.PullbackCovariance, "dense", lambda self: pytest.fail("made dense"))
    guided = sp.TweedieDenoiser(box, linear(numpy), tolerance=1e-13)
    expected = sp.TweedieDenoiser(mixture_on(numpy, sp.VPSDE()), linear(numpy), gradient="mean").mean(X, 0.4)
    np.testing.assert_allclose(guided.mean(X, 0.4), expected, rtol=1e-9)


def test_what_has_not_converged_is_nan(backend):
    """One iteration of conjugate gradients does not solve three equations; a solve then says so."""
    guided = sp.TweedieDenoiser(
        gaussian_on(backend, sp.VPSDE()), linear(backend), "matrix-free", iterations=1
    )
    found = host(guided.mean(array(X, backend), 0.4))
    assert np.isnan(found).all()
    with pytest.raises(sp.NonFiniteState):
        reverse = sp.ReverseSDE(guided.sde, guided)
        sp.solve(reverse, array(X, backend), [0.5, 0.2], solver=sp.ExponentialEuler())


def sine(backend):
    """A(x) = (sin x₀ + x₁², x₂ x₃, x₄), with its Jacobian."""

    def numbers(x):
        zero, one = 0 * x[:, 0], 0 * x[:, 0] + 1
        value = np.stack([np.sin(x[:, 0]) + x[:, 1] ** 2, x[:, 2] * x[:, 3], x[:, 4]], axis=1)
        rows = [
            [np.cos(x[:, 0]), 2 * x[:, 1], zero, zero, zero],
            [zero, zero, x[:, 3], x[:, 2], zero],
            [zero, zero, zero, zero, one],
        ]
        return value, np.stack([np.stack(row, axis=1) for row in rows], axis=1)

    return numbers, lambda x: tuple(array(a, backend) for a in numbers(host(x)))


@PRIORS
@pytest.mark.parametrize("method", ["dense", "matrix-free"])
@pytest.mark.parametrize("R", [R_DIAGONAL, R_FULL], ids=["diagonal", "full"])
def test_a_nonlinear_operator_is_linearised_at_the_mean(prior_on, method, R, precise):
    """m + C Jᵀ (J C Jᵀ + R)⁻¹ (y - A(m)) and C - C Jᵀ (…)⁻¹ J C, row by row."""
    numbers, function = sine(precise)
    prior, t = prior_on(precise, sp.VPSDE()), 0.4
    seen = sp.NonlinearGaussian(function, DIM, array(Y, precise), array(R, precise))
    guided = sp.TweedieDenoiser(prior, seen, method, tolerance=1e-13, iterations=20, gradient="mean")
    moments = prior(array(X, precise), t)
    m, C = host(moments.mean), np.broadcast_to(host(moments.covariance.dense()), (len(X), DIM, DIM))
    value, J = numbers(m)
    noise = np.diag(R) if R.ndim == 1 else R
    means, covariances = [], []
    for i in range(len(X)):
        gain = C[i] @ J[i].T @ np.linalg.inv(J[i] @ C[i] @ J[i].T + noise)
        means.append(m[i] + gain @ (Y - value[i]))
        covariances.append(C[i] - gain @ J[i] @ C[i])
    assert_array(guided.mean(array(X, precise), t), np.stack(means), precise, 1e-9)
    assert_array(guided(array(X, precise), t).mean, np.stack(means), precise, 1e-9)
    assert_array(guided(array(X, precise), t).covariance.dense(), np.stack(covariances), precise, 1e-9)


@PRIORS
@pytest.mark.parametrize("missing", [False, True])
def test_an_affine_function_is_the_linear_operator(prior_on, missing, precise):
    offset = np.array([1.0, 2.0, -3.0])
    y = np.where([False, missing, False], np.nan, Y)
    jacobian = array(H, precise)

    def affine(x):
        everywhere = precise.xp.broadcast_to(jacobian, (x.shape[0], 3, DIM))
        return x @ jacobian.T + array(offset, precise), everywhere

    prior, x = prior_on(precise, sp.VPSDE()), array(X, precise)
    one = sp.TweedieDenoiser(
        prior, sp.NonlinearGaussian(affine, DIM, array(y, precise), array(R_FULL, precise))
    )
    other = sp.TweedieDenoiser(prior, linear(precise, y=y - offset, R=R_FULL))
    assert_same(one, other, x, 0.4, precise, 1e-10)


def test_one_variance_for_all_may_be_a_number(backend):
    """For both kinds of observation."""
    prior, x = gaussian_on(backend, sp.VPSDE()), array(X, backend)
    expected = host(sp.TweedieDenoiser(prior, linear(backend, R=np.full(3, 0.25))).mean(x, 0.4))
    matrix = array(H, backend)
    same = sp.LinearGaussian(matrix, array(Y, backend), 0.25)

    def function(x):
        return x @ matrix.T, backend.xp.broadcast_to(matrix, (x.shape[0], 3, DIM))

    for seen in (same, sp.NonlinearGaussian(function, DIM, array(Y, backend), 0.25)):
        assert_array(sp.TweedieDenoiser(prior, seen).mean(x, 0.4), expected, backend)


@pytest.mark.parametrize("observed", [1, 3])
def test_a_learned_covariance_counts_by_its_positive_part(observed, backend):
    """Negative along one direction it would turn H C Hᵀ + R over, and draws would be thrown far off."""
    sde, t = sp.VPSDE(), 0.5
    variances = np.array([-0.9, 0.4, 1.0, 2.0, 0.3])
    basis = np.linalg.qr(np.random.default_rng(16).standard_normal((DIM, DIM)))[0]

    def denoiser(values, at_hand):
        matrix = array((basis * values) @ basis.T, backend)
        pulled = sp.denoisers.PullbackCovariance
        return sp.CallableDenoiser(
            sde,
            lambda x, t: 0.7 * x,
            lambda x, t: (
                sp.denoisers.MatrixCovariance(matrix) if at_hand else pulled(1.0, lambda v: v @ matrix, x)
            ),
            DIM,
            backend,
        )

    observation = linear(backend, H[:observed], Y[:observed], R_DIAGONAL[:observed])
    x = array(X, backend)
    found = sp.TweedieDenoiser(denoiser(variances, False), observation)
    expected = sp.TweedieDenoiser(denoiser(np.maximum(variances, 0), True), observation)
    assert_same(found, expected, x, t, backend, 10 * tolerance_of(backend))


def test_the_covariance_of_a_network_needs_few_products_from_its_gaussian_part(precise):
    """Of a network of small weights, without forming S as with it: C is nearly symmetric, and the iterations
    with the Gaussian part's S⁻¹ are fewer than the 12 observations, as the products show."""
    torch.manual_seed(3)
    dim, rng = 16, np.random.default_rng(16)
    module = sp.ResidualMLP(dim, width=24).double()
    with torch.no_grad():
        module.leave.weight.normal_(0.0, 0.02)
    counted, gaussian = (
        [],
        sp.GaussianDenoiser(
            sp.VPSDE(),
            array(rng.standard_normal(dim), precise),
            array(covariance_matrix(dim, seed=17), precise),
        ),
    )
    prior = sp.NetworkDenoiser(gaussian, sp.backend.TorchFunction(module))
    seen = linear(precise, rng.standard_normal((12, dim)), rng.standard_normal(12), np.full(12, 0.4))
    pull = prior.net.with_pullback

    def with_pullback(*arguments):
        value, pullback = pull(*arguments)
        return value, lambda v: counted.append(1) or pullback(v)

    x = array(rng.standard_normal((5, dim)), precise)
    dense = host(sp.TweedieDenoiser(prior, seen, "dense", gradient="mean").mean(x, 0.4))
    prior.net.with_pullback = with_pullback
    free = sp.TweedieDenoiser(prior, seen, "matrix-free", 1e-6, gradient="mean").mean(x, 0.4)
    shift = np.linalg.norm(dense - host(prior.mean(x, 0.4)))
    assert np.linalg.norm(host(free) - dense) < 0.02 * shift
    if sp.backend.known_all(x == x):
        assert len(counted) <= 8
