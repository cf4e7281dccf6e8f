"""Divergences and traces by products alone, and the random signs of Hutchinson's estimate."""

import numpy as np
import pytest
from checks import array, assert_array, host

import sdeppl as sp
from sdeppl.solvers import divergence, rademacher, trace

X = np.array([[0.3, -0.7, 1.1], [0.9, 0.2, -0.4], [-1.2, 0.5, 0.1], [0.0, 0.0, 0.0]])
MATRICES = np.random.default_rng(0).standard_normal((4, 3, 3))


def field(backend):
    """F = (x₀² x₁, sin x₁ + x₂, x₀ x₂³), with divergence 2 x₀ x₁ + cos x₁ + 3 x₀ x₂²."""
    xp = backend.xp

    def value(x):
        a, b, c = x[..., 0], x[..., 1], x[..., 2]
        return xp.stack([a * a * b, xp.sin(b) + c, a * c**3], axis=-1)

    return value


DIVERGENCE = 2 * X[:, 0] * X[:, 1] + np.cos(X[:, 1]) + 3 * X[:, 0] * X[:, 2] ** 2


def test_the_divergence_of_a_field(backend):
    tolerance = 1e-9 if "64" in str(backend.dtype) else 1e-3
    found = divergence(field(backend), array(X, backend))
    assert_array(found, DIVERGENCE[:, None], backend, tolerance)


@pytest.mark.parametrize("dim", [1, 64, 65, 130])
def test_the_divergence_in_many_dimensions(dim):
    """F_i = x_i² + x_{i-1}, taken in groups of 64 directions."""
    x = np.linspace(-1.0, 2.0, 2 * dim).reshape(2, dim)
    found = divergence(lambda y: y * y + np.roll(y, 1, axis=-1), x)
    expected = 2 * np.sum(x, axis=-1, keepdims=True) + (1 if dim == 1 else 0)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_each_probe_has_its_column(backend):
    """vᵀ (∂F/∂x) v of unit vectors are the diagonal; of (1, 1, 0) four entries."""
    tolerance = 1e-9 if "64" in str(backend.dtype) else 1e-3
    probes = np.stack([np.broadcast_to(v, X.shape) for v in ([1.0, 0, 0], [0, 1.0, 0], [1.0, 1.0, 0])])
    a, b = X[:, 0], X[:, 1]
    expected = np.stack([2 * a * b, np.cos(b), 2 * a * b + np.cos(b) + a**2], axis=-1)
    found = divergence(field(backend), array(X, backend), array(probes, backend))
    assert_array(found, expected, backend, tolerance)


def test_the_trace_of_products(backend):
    matrices, x = array(MATRICES, backend), array(X, backend)

    def product(v):
        return (matrices @ v[..., None])[..., 0]

    tolerance = 1e-12 if "64" in str(backend.dtype) else 1e-5
    assert_array(trace(product, x), np.trace(MATRICES, axis1=1, axis2=2)[:, None], backend, tolerance)
    v = np.random.default_rng(1).standard_normal((5, 4, 3))
    expected = np.einsum("nbi,bij,nbj->bn", v, MATRICES, v)
    assert_array(trace(product, x, array(v, backend)), expected, backend, tolerance)


def test_signs_are_fair_and_independent():
    """Of 3e5 signs, seed 3: mean and products of neighbours within 4.5/√n (false alarm 2e-5 in all)."""
    signs = rademacher(3, 3, np.zeros((10_000, 10)))
    assert signs.shape == (3, 10_000, 10)
    assert set(np.unique(signs)) == {-1.0, 1.0}
    for product in (signs, signs[1:] * signs[:-1], signs[..., 1:] * signs[..., :-1]):
        assert abs(np.mean(product)) < 4.5 / np.sqrt(product.size)


def test_signs_are_the_same_everywhere_and_for_the_first_rows(backend):
    expected = rademacher(3, 2, np.zeros((7, 5)))
    found = rademacher(3, 2, array(np.zeros((4, 5)), backend))
    assert_array(found, expected[:, :4, :], backend)
    assert np.any(host(rademacher(4, 2, array(np.zeros((4, 5)), backend))) != expected[:, :4, :])


def test_the_flow_is_that_of_the_reverse_sde_without_noise(backend):
    """On states (x, ℓ): its own drift, and for a Gaussian the trace of a known matrix."""
    sde, covariance = sp.VPSDE(), np.array([[1.5, 0.4], [0.4, 0.7]])
    marginals = sp.AffineMarginals(
        sde, *(array(a, backend) for a in (np.ones(1), np.zeros((1, 2)), covariance[None]))
    )
    time, x = 0.3, array(X[:, :2], backend)
    flow = sp.solvers.ProbabilityFlow(sp.ReverseSDE(sde, marginals, 1.0), 2)
    marginal = sde.alpha(time) ** 2 * covariance + sde.sigma(time) ** 2 * np.eye(2)
    matrix = sde.rate(time) * np.eye(2) + 0.5 * sde.amplitude(time) ** 2 * np.linalg.inv(marginal)
    expected = np.concatenate([X[:, :2] @ matrix, np.full((4, 1), np.trace(matrix))], axis=-1)
    found = flow.drift(backend.xp.concat([x, 0 * x[:, :1]], axis=-1), time)
    assert_array(found, expected, backend, 1e-9 if "64" in str(backend.dtype) else 1e-3)
    assert flow.deterministic(0.0, 1.0) and flow.diffusion(x, time) == 0.0


def test_probes_are_not_the_signs_of_a_start_of_the_same_seed():
    """Hutchinson's estimate is unbiased for probes that are independent of x; by chance 60 of 120 agree."""
    same = 0
    for seed in range(60):
        start = sp.Noise(seed).stream(sp.resolve("numpy")).normal(0, (1, 2))
        same += int(np.sum(np.sign(start) == rademacher(seed, 2, start)[0, ...]))
    assert 30 < same < 90
