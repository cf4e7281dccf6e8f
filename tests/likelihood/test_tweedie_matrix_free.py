"""The Tweedie likelihood by products with the covariance alone: it is that by matrices, or says so."""

import numpy as np
import pytest
import torch
from checks import array, assert_array, covariance_matrix, host, tolerance_of
from tweedie_priors import (
    DIM,
    PRIORS,
    R_DIAGONAL,
    R_FULL,
    H,
    X,
    Y,
    assert_same,
    box_on,
    gaussian_on,
    linear,
    mixture_on,
)

import sdeppl as sp
from sdeppl.denoisers import tweedie_covariance
from sdeppl.linalg import Dense, MatrixFree


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
    monkeypatch.setattr(MatrixFree, "dense", lambda self: pytest.fail("made dense"))
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


@pytest.mark.parametrize("observed", [1, 3])
def test_a_learned_covariance_counts_by_its_positive_part(observed, backend):
    """Negative along one direction it would turn H C Hᵀ + R over, and draws would be thrown far off."""
    sde, t = sp.VPSDE(), 0.5
    variances = np.array([-0.9, 0.4, 1.0, 2.0, 0.3])
    basis = np.linalg.qr(np.random.default_rng(16).standard_normal((DIM, DIM)))[0]

    def denoiser(values, at_hand):
        matrix = array((basis * values) @ basis.T, backend)
        pulled = tweedie_covariance
        return sp.CallableDenoiser(
            sde,
            lambda x, t: 0.7 * x,
            lambda x, t: Dense(matrix) if at_hand else pulled(1.0, lambda v: v @ matrix, x),
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
    if sp.backend.all_without_sync(x == x):
        assert len(counted) <= 8
