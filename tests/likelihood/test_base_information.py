"""Many numbers seen of few: the few numbers that say the same."""

import math

import numpy as np
import pytest
from checks import array, assert_array, covariance_matrix, host

import sdeppl as sp
from sdeppl.likelihood.base import compressed
from sdeppl.likelihood.observation import Linearisation, SiteApproximation

rng = np.random.default_rng(11)
ROWS, N, DIM = 3, 7, 2
H = {"shared": rng.standard_normal((N, DIM)), "own": rng.standard_normal((ROWS, N, DIM))}
R = {"shared": rng.uniform(0.1, 4.0, N), "own": rng.uniform(0.1, 4.0, (ROWS, N))}
SCALES = np.array([0.5, -1.0, 2.0])
ETA, Y = 2.0 + rng.standard_normal((ROWS, N)), 3.0 * rng.standard_normal(N)


def log_normal(residual, variance):
    return -0.5 * np.sum(residual**2 / variance + np.log(2 * math.pi * variance), axis=-1)


@pytest.mark.parametrize(
    "kinds", [("shared", "shared"), ("shared", "own"), ("own", "shared"), ("own", "own")]
)
def test_it_is_the_same_function_of_x(kinds, precise):
    h, r = H[kinds[0]], R[kinds[1]]
    linear = Linearisation(array(ETA, precise), array(h, precise))
    noise = SiteApproximation(array(Y, precise), array(r, precise), array(SCALES, precise), True)
    few, said = compressed(linear, noise)
    assert few.H.shape[-2:] == (DIM, DIM) and said.y.shape == (ROWS, DIM)
    for seed in range(4):
        delta = 3.0 * np.random.default_rng(seed).standard_normal((ROWS, DIM))
        wanted = SCALES + log_normal(Y - ETA - np.einsum("...ij,...j->...i", h, delta), r)
        predicted = host(few.predicted) + np.einsum("...ij,...j->...i", host(few.H), delta)
        found = log_normal(host(said.y) - predicted, host(said.R)) + host(said.log_scale)
        np.testing.assert_allclose(found, wanted, rtol=1e-12)
    assert_array(said.y, host(said.y), precise, 0.0)
    assert_array(few.H, host(few.H), precise, 0.0)


def test_a_direction_of_which_nothing_was_seen(precise):
    """One column of H is zero: no information, and no NaN."""
    h = H["shared"] * [1.0, 0.0]
    few, said = compressed(
        Linearisation(array(ETA, precise), array(h, precise)),
        SiteApproximation(array(Y, precise), array(R["shared"], precise), 0.0, True),
    )
    for delta in (0.0, 50.0):
        found = log_normal(host(said.y) - host(few.H) @ [0.3, delta], host(said.R)) + host(said.log_scale)
        np.testing.assert_allclose(found, log_normal(Y - ETA - h @ [0.3, 0.0], R["shared"]), rtol=1e-9)


@pytest.mark.parametrize("gradient", ["full", "mean"])
def test_tweedie_of_many_numbers_is_exact_for_a_gaussian(gradient, precise):
    """Mean, covariance and ln l at 1e-9, against conditioning in the n × n form."""
    sde, t = sp.VPSDE(), 0.4
    mean, C = np.array([2.0, -1.0]), covariance_matrix(2, seed=3, smallest=0.2, largest=2.0)
    prior = sp.GaussianDenoiser(sde, array(mean, precise), array(C, precise))
    h, r = H["shared"], R["shared"]
    seen = sp.LinearGaussian(array(h, precise), array(Y, precise), array(r, precise))
    rung = sp.TweedieDenoiser(prior, seen, gradient=gradient)
    x = array(rng.standard_normal((4, 2)), precise)
    guided, moments = rung.guided(x, t), prior(x, t)
    m, Ct = host(moments.mean), host(moments.covariance.dense())
    S = h @ Ct @ h.T + np.diag(r)
    gain = Ct @ h.T @ np.linalg.inv(S)
    np.testing.assert_allclose(host(guided.mean), m + (Y - m @ h.T) @ gain.T, rtol=1e-9, atol=1e-12)
    white = np.linalg.solve(np.linalg.cholesky(S), (Y - m @ h.T).T).T
    exact = -0.5 * np.sum(white**2, axis=-1) - 0.5 * np.linalg.slogdet(2 * math.pi * S)[1]
    np.testing.assert_allclose(host(guided.log_likelihood), exact, rtol=1e-9)
    covariance = host(rung(x, t).covariance.dense())
    np.testing.assert_allclose(covariance, np.broadcast_to(Ct - gain @ h @ Ct, covariance.shape), atol=1e-10)


def test_the_full_gradient_is_that_of_all_numbers(monkeypatch):
    """Seven counts of two numbers, whose curvature differs from row to row; compressed to two, or not."""
    backend = sp.resolve("numpy")
    prior = sp.GaussianMixtureDenoiser(
        sp.VPSDE(),
        np.array([0.4, 0.6]),
        np.array([[1.0, -0.5], [-0.5, 0.7]]),
        np.stack([covariance_matrix(DIM, 1), covariance_matrix(DIM, 2)]),
    )
    y = array(np.array([0.0, 1.0, 4.0, 2.0, 0.0, 7.0, 1.0]), backend)
    seen = sp.IndependentObservation(sp.likelihood.families.Poisson(), y, H=array(0.3 * H["shared"], backend))
    x, twist = rng.standard_normal((ROWS, DIM)), sp.TweedieDenoiser(prior, seen)
    few = twist.guided(x, 0.3)
    monkeypatch.setattr(twist, "_is_compressible", lambda *arguments: False)
    every = twist.guided(x, 0.3)
    np.testing.assert_allclose(few.mean, every.mean, rtol=1e-9)
    np.testing.assert_allclose(few.log_likelihood, every.log_likelihood, rtol=1e-9)
