"""Tweedie's mean and covariance of mixtures against conditioning component by component, to 1e-10."""

import tracemalloc

import mixture_by_hand as by_hand
import numpy as np
import pytest
from checks import array, assert_array, host

import sdeppl as sp
from sdeppl.backend import jvp
from sdeppl.denoisers import MixtureCovariance

SDES = {
    "vp": (sp.VPSDE(), 0.3),
    "early vp": (sp.VPSDE(), 0.02),
    "ve": (sp.VESDE(0.05, 4.0), 0.6),
    "linear": (sp.LinearSDE(a=0.7, b=1.3), 0.8),
}
EACH_SDE = pytest.mark.parametrize(("sde", "t"), SDES.values(), ids=SDES)
EACH_KIND = pytest.mark.parametrize("kind", by_hand.KINDS)
MATRICES = {
    "coupled": ([[1.0, 0.8], [-0.6, 0.4]], [[0.9, 0.0, 0.2], [0.5, 0.7, -0.3]], [0.5, -1.0]),
    "noise in one component": ([[0.0, -1.0], [2.0, 0.5]], [[0.0], [1.3]], None),
}


@EACH_SDE
@EACH_KIND
@pytest.mark.parametrize("dim", [3, 40])
def test_mean_and_covariance_are_those_of_conditioning(kind, dim, sde, t, backend):
    parts = by_hand.mixture(kind, dim)
    x = by_hand.states(parts, sde.alpha(t), sde.sigma(t))
    mean, covariance = by_hand.isotropic(parts, sde, t, host(array(x, backend)))
    moments = by_hand.denoiser(backend, sde, parts, array)(array(x, backend), t)
    tolerance = 1e-10 if "64" in str(backend.dtype) else 2e-4
    assert_array(moments.mean, mean, backend, tolerance)
    assert_array(moments.covariance.dense(), covariance, backend, tolerance)
    assert moments.covariance.materialised == (dim <= 32)
    assert isinstance(moments.covariance, MixtureCovariance) == (dim > 32)


@EACH_KIND
def test_equal_and_diagonal_covariances_are_seen(kind):
    parts = by_hand.mixture(kind, 3)
    prior = sp.GaussianMixtureDenoiser(sp.VPSDE(), *parts)
    kept = prior.mixture.covariances
    assert kept.shared == kind.startswith("equal")
    assert kept.is_diagonal == kind.endswith("diagonal")
    np.testing.assert_allclose(prior.covariances, parts[2], atol=1e-14)
    np.testing.assert_allclose(prior.marginals.covariances, parts[2], atol=1e-14)


def test_many_dimensions_need_no_matrix_for_each_row():
    """25 components with one covariance, 300 rows of 400 numbers: a matrix for each row would take 384 MB."""
    dim, rows, rng = 400, 300, np.random.default_rng(0)
    means = 8.0 * rng.standard_normal((25, dim))
    prior = sp.GaussianMixtureDenoiser(
        sp.VPSDE(), np.ones(25), means, np.broadcast_to(np.eye(dim), (25, dim, dim))
    )
    x, H = rng.standard_normal((rows, dim)), rng.standard_normal((dim, 4))
    tracemalloc.start()
    moments = prior(x, 0.4)
    moments.covariance.matmat(H)
    prior.covariance_slope(x, 0.4, H, np.ones((rows, 4)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60e6  # a dozen arrays (rows, dim, 4)


@pytest.mark.parametrize("far", [0.0, 1e6])
def test_means_far_from_zero_cost_no_digits(far):
    """Moved by 1e6 with x_t, the covariance stays; float64 keeps ten digits of offsets of order one."""
    weights, means, covariances = by_hand.mixture("equal", 3)
    sde, t = sp.VPSDE(), 0.4
    x = by_hand.states((weights, means, covariances), sde.alpha(t), sde.sigma(t))
    _, expected = by_hand.isotropic((weights, means, covariances), sde, t, x)
    prior = sp.GaussianMixtureDenoiser(sde, weights, means + far, covariances)
    found = prior(x + sde.alpha(t) * far, t).covariance.dense()
    np.testing.assert_allclose(found, expected, atol=1e-8)


@pytest.mark.parametrize(("A", "B", "u"), MATRICES.values(), ids=MATRICES)
@pytest.mark.parametrize("t", [0.4, 1.0])
def test_tweedie_under_a_matrix_sde(A, B, u, t, precise):
    """Φ E[x_0 | x_t] + shift = x + Q s and Φ Cov[x_0 | x_t] Φᵀ = Q + Q (∂s/∂x) Q, with s of
    AffineMarginals; ∂s/∂x is exact in torch, of differences of order 4 elsewhere (about 1e-11 of s)."""
    sde = sp.MatrixLinearSDE(*(None if part is None else array(part, precise) for part in (A, B, u)))
    parts = by_hand.mixture("unequal", 2)
    phi, shift, q = (host(part) for part in sde.transition(0.0, t))
    x = by_hand.states(parts, 1.0, 0.0) @ phi.T + shift
    mean, covariance = by_hand.conditioned(parts, x, phi, shift, q)
    marginals = sp.AffineMarginals(sde, *(array(part, precise) for part in parts))
    at = array(x, precise)
    score = host(marginals.score(at, t))
    directions = (array(np.broadcast_to(e, x.shape), precise) for e in np.eye(2))
    slope = np.stack([host(jvp(lambda r: marginals.score(r, t), at, d)) for d in directions], axis=-1)
    back = np.linalg.inv(phi)
    tolerance = 1e-10 if precise.name == "torch" else 1e-8
    assert_array(array((x - shift + score @ q) @ back.T, precise), mean, precise, 1e-10)
    assert_array(array(back @ (q + q @ slope @ q) @ back.T, precise), covariance, precise, tolerance)


@EACH_SDE
@EACH_KIND
def test_draws_and_densities_are_those_of_the_marginals(kind, sde, t, backend):
    """Written out: α m_k + (α² C_k + σ² I)^½ z with the symmetric root, k by the cumulative weights."""
    parts, rng = by_hand.mixture(kind, 3), np.random.default_rng(5)
    prior, uniforms, z = (
        by_hand.denoiser(backend, sde, parts, array),
        rng.uniform(size=400),
        rng.normal(size=(400, 3)),
    )
    alpha, sigma = sde.alpha(t), sde.sigma(t)
    found = prior.sample(t, array(uniforms, backend), array(z, backend))
    weights, means, covariances = parts
    chosen = np.searchsorted(np.cumsum(weights)[:-1] / weights.sum(), uniforms)
    eigenvalues, bases = np.linalg.eigh(alpha**2 * covariances + sigma**2 * np.eye(3))
    roots = (bases * np.sqrt(eigenvalues)[:, None, :]) @ np.swapaxes(bases, 1, 2)
    expected = alpha * means[chosen] + np.einsum("nij,nj->ni", roots[chosen], z)
    assert_array(found, expected, backend, 1e-12 if "64" in str(backend.dtype) else 1e-5)
    assert len(set(chosen)) == 4
    x = array(expected[:20], backend)
    assert_array(prior.log_density(x, t), host(prior.marginals.log_density(x, t)), backend)


def test_draws_of_a_pushed_sde_are_pushed(precise):
    parts, mu = by_hand.mixture("equal", 3), array([2.0, -1.0, 0.4], precise)
    pushed, plain = sp.ShiftedVPSDE(mu, sp.LinearSchedule(0.3, 5.0)), sp.VPSDE(sp.LinearSchedule(0.3, 5.0))
    rng = np.random.default_rng(6)
    uniforms, z = array(rng.uniform(size=5), precise), array(rng.standard_normal((5, 3)), precise)
    priors = [by_hand.denoiser(precise, sde, parts, array) for sde in (pushed, plain)]
    moved, still = (prior.sample(0.6, uniforms, z) for prior in priors)
    assert_array(moved - pushed.shift(0.6), host(still), precise, 1e-14)
    expected = host(priors[1].log_density(still, 0.6))
    assert_array(priors[0].log_density(moved, 0.6), expected, precise, 1e-12)


@pytest.mark.parametrize("smallest", [0.03, 1e-12])
def test_a_covariance_of_few_directions(smallest, backend):
    """I but for two directions, kept as such; with one of far less variance all directions are kept, for
    digits' sake. Moments as by conditioning either way."""
    weights, means, _ = by_hand.mixture("equal", 12)
    U, _ = np.linalg.qr(np.random.default_rng(2).standard_normal((12, 2)))
    one = np.eye(12) + (U * np.array([3.0, smallest - 1])) @ U.T
    parts = weights, means, np.broadcast_to(0.5 * (one + one.T), (4, 12, 12))
    single = "32" in str(backend.dtype)
    if single and smallest < 1e-6:
        pytest.skip("float32 cannot tell such a covariance from a singular one")
    prior = by_hand.denoiser(backend, sp.VPSDE(), parts, array)
    assert tuple(prior.mixture.covariances.U.shape) == (12, 2 if smallest > 1e-6 else 12)
    t, v = 0.3, np.random.default_rng(3).standard_normal((12, 2))
    x = by_hand.states((weights, means, parts[2]), prior.sde.alpha(t), prior.sde.sigma(t))
    mean, covariance = by_hand.isotropic(parts, prior.sde, t, host(array(x, backend)))
    moments = prior(array(x, backend), t)
    tolerance = 2e-4 if single else 1e-10
    assert_array(moments.mean, mean, backend, tolerance)
    assert_array(moments.covariance.dense(), covariance, backend, tolerance)
    _, operator = prior._conditional(array(x, backend), t)
    assert_array(operator.matmat(array(v, backend)), covariance @ v, backend, tolerance)
    assert_array(prior.covariances, parts[2], backend, 1e-5 if single else 1e-12)


@EACH_KIND
def test_where_no_signal_is_left_it_is_the_prior(kind, backend):
    """α = 0, as at the end of some schedules."""
    parts = by_hand.mixture(kind, 3)
    prior = by_hand.denoiser(backend, NoSignal(), parts, array)
    moments = prior(array(np.ones((2, 3)), backend), 1.0)
    weights, means, covariances = parts
    shares = weights / weights.sum()
    mean = shares @ means
    covariance = np.einsum("k,kij->ij", shares, covariances) + (shares[:, None] * (means - mean)).T @ (
        means - mean
    )
    assert_array(moments.mean, np.stack([mean, mean]), backend)
    assert_array(moments.covariance.dense(), np.stack([covariance, covariance]), backend)


class NoSignal(sp.VPSDE):
    """VP with nothing left at T."""

    def alpha(self, t):
        return 0.0

    def sigma(self, t):
        return 1.0
