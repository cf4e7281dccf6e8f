"""The mixture denoiser against numerical quadrature over x_0, and against automatic differentiation."""

import math

import numpy as np
import pytest
import torch
from checks import array, assert_array, covariance_matrix, host

import sdeppl as sp

WEIGHTS = np.array([2.0, 1.0, 3.0])
MEANS = np.array([[1.5, -0.5], [-1.0, 0.8], [0.3, 2.0]])
COVARIANCES = np.stack([covariance_matrix(2, seed, 0.1 + 0.1 * seed, 0.9) for seed in range(3)])
X = np.array([[0.4, 0.3], [-1.5, 1.0], [2.0, -1.0], [0.0, 0.0]])
CASES = [(sp.VPSDE(), 0.3), (sp.VPSDE(), 0.9), (sp.VESDE(0.05, 4.0), 0.6), (sp.LinearSDE(0.5, 1.2), 0.4)]


def mixture_on(backend, sde):
    return sp.GaussianMixtureDenoiser(
        sde, array(WEIGHTS, backend), array(MEANS, backend), array(COVARIANCES, backend)
    )


def density(x0):
    """p(x_0), from its definition."""
    total = 0.0
    for w, m, C in zip(WEIGHTS / WEIGHTS.sum(), MEANS, COVARIANCES, strict=True):
        centred = x0 - m
        exponent = np.einsum("...i,ij,...j->...", centred, np.linalg.inv(C), centred)
        total = total + w * np.exp(-0.5 * exponent) / (2 * math.pi * math.sqrt(np.linalg.det(C)))
    return total


def by_quadrature(sde, t):
    """Moments of x_0 given x_t by the trapezoidal rule on a grid, which converges geometrically here."""
    axis = np.linspace(-10.0, 10.0, 501)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    prior = density(grid)
    means, covariances = [], []
    for x in X:
        exponent = -0.5 * ((x - sde.alpha(t) * grid) ** 2).sum(axis=1) / sde.sigma(t) ** 2
        weight = prior * np.exp(exponent - exponent.max())
        weight = weight / weight.sum()
        means.append(weight @ grid)
        covariances.append((grid - means[-1]).T @ (weight[:, None] * (grid - means[-1])))
    return np.stack(means), np.stack(covariances)


@pytest.mark.parametrize(("sde", "t"), CASES)
def test_moments_are_those_of_quadrature(sde, t, backend):
    denoiser, x = mixture_on(backend, sde), array(X, backend)
    mean, covariance = by_quadrature(sde, t)
    moments = denoiser(x, t)
    assert_array(moments.mean, mean, backend)
    assert_array(denoiser.mean(x, t), mean, backend)
    assert not moments.covariance.shared
    assert_array(moments.covariance.dense(), covariance, backend)
    v = np.random.default_rng(0).standard_normal(X.shape)
    assert_array(moments.covariance @ array(v, backend), np.einsum("bij,bj->bi", covariance, v), backend)


@pytest.mark.parametrize(("sde", "t"), CASES)
def test_score_is_the_gradient_of_the_log_density(sde, t, precise):
    x = torch.tensor(X, requires_grad=True)
    parts = torch.distributions.MultivariateNormal(
        sde.alpha(t) * torch.tensor(MEANS),
        sde.alpha(t) ** 2 * torch.tensor(COVARIANCES) + sde.sigma(t) ** 2 * torch.eye(2, dtype=torch.float64),
    )
    weights = torch.distributions.Categorical(torch.tensor(WEIGHTS))
    torch.distributions.MixtureSameFamily(weights, parts).log_prob(x).sum().backward()
    expected = x.grad.numpy()
    denoiser = mixture_on(precise, sde)
    assert_array(denoiser.score(array(X, precise), t), expected, precise, 1e-9)
    assert_array(denoiser.eps(array(X, precise), t), -sde.sigma(t) * expected, precise, 1e-9)


@pytest.mark.parametrize(("sde", "t"), CASES)
def test_covariance_is_the_slope_of_the_mean(sde, t, precise):
    """Cov = σ²/α ∂mean/∂x_t by central differences: error of order h² = 1e-10."""
    denoiser, h = mixture_on(precise, sde), 1e-5
    columns = []
    for e in np.eye(2):
        ends = [host(denoiser.mean(array(X + d * e, precise), t)) for d in (-h, h)]
        columns.append((ends[1] - ends[0]) / (2 * h))
    expected = sde.sigma(t) ** 2 / sde.alpha(t) * np.stack(columns, axis=-1)
    assert_array(denoiser(array(X, precise), t).covariance.dense(), expected, precise, 1e-7)


def test_one_component_is_the_gaussian_denoiser(backend):
    sde, x = sp.VPSDE(), array(X, backend)
    one = sp.GaussianMixtureDenoiser(
        sde, array([0.7], backend), array(MEANS[:1], backend), array(COVARIANCES[:1], backend)
    )
    gaussian = sp.GaussianDenoiser(sde, array(MEANS[0], backend), array(COVARIANCES[0], backend))
    assert_array(one.mean(x, 0.5), host(gaussian.mean(x, 0.5)), backend)
    expected = np.broadcast_to(host(gaussian(x, 0.5).covariance.dense()), (4, 2, 2))
    assert_array(one(x, 0.5).covariance.dense(), expected, backend)


def test_far_from_all_components_the_nearest_answers(backend):
    """Densities underflow there; their ratios must not."""
    sde, t = sp.VPSDE(), 0.05
    x = np.array([[60.0, -90.0], [-80.0, 70.0]])
    alpha, sigma = sde.alpha(t), sde.sigma(t)
    log_joint, means = [], []
    for w, m, C in zip(WEIGHTS / 6, MEANS, COVARIANCES, strict=True):
        V = alpha**2 * C + sigma**2 * np.eye(2)
        centred = x - alpha * m
        log_joint.append(
            np.log(w)
            - 0.5 * np.einsum("bi,ij,bj->b", centred, np.linalg.inv(V), centred)
            - 0.5 * np.linalg.slogdet(V)[1]
        )
        means.append(m + centred @ np.linalg.solve(V, alpha * C))
    shares = np.exp(np.stack(log_joint) - np.max(log_joint, axis=0))
    expected = np.einsum("kb,kbi->bi", shares / shares.sum(axis=0), np.stack(means))
    assert_array(mixture_on(backend, sde).mean(array(x, backend), t), expected, backend)


@pytest.mark.parametrize(
    ("weights", "covariances", "message"),
    [
        (WEIGHTS[:2], COVARIANCES, r"expected weights \(k,\), means \(k, dim\), covariances \(k, dim, dim\)"),
        (-WEIGHTS, COVARIANCES, "the weights of a mixture must be positive"),
        (WEIGHTS * np.nan, COVARIANCES, "the weights of a mixture must be positive"),
        (WEIGHTS, -COVARIANCES, "the covariances of a mixture must be positive definite"),
        (WEIGHTS, COVARIANCES + np.array([[0.0, 0.1], [0.0, 0.0]]), "must be symmetric and finite"),
    ],
)
def test_a_bad_mixture_is_refused(weights, covariances, message):
    with pytest.raises(ValueError, match=message):
        sp.GaussianMixtureDenoiser(sp.VPSDE(), weights, MEANS, covariances)


@pytest.mark.parametrize(
    ("weights", "means", "covariances", "error", "message"),
    [
        (
            [1.0],
            np.zeros((1, 2)),
            np.eye(2)[None],
            TypeError,
            "GaussianMixtureDenoiser: weights must be an array",
        ),
        (np.ones(1, "f4"), np.zeros((1, 2)), np.eye(2)[None], TypeError, "means is float64, weights float32"),
        (
            np.ones(2),
            np.zeros(2),
            np.ones((2, 1, 1)),
            ValueError,
            r"expected weights \(k,\), means \(k, dim\)",
        ),
    ],
)
def test_arguments_that_are_no_mixture(weights, means, covariances, error, message):
    with pytest.raises(error, match=message):
        sp.GaussianMixtureDenoiser(sp.VPSDE(), weights, means, covariances)


@pytest.mark.parametrize("shape", [(1, 4), (3, 4), (4,), (2, 3, 2), ()])
def test_the_mean_of_any_batch_shape(backend, shape):
    """Three rows, of as many components, would else be taken for these."""
    denoiser = mixture_on(backend, CASES[0][0])
    x = np.random.default_rng(4).standard_normal((*shape, 2))
    rows = denoiser.mean(array(x.reshape(-1, 2), backend), 0.3)
    found = denoiser.mean(array(x, backend), 0.3)
    assert tuple(found.shape) == x.shape
    assert_array(found, host(rows).reshape(x.shape), backend)


@pytest.mark.parametrize("shape", [(2,), (3, 4, 2), (2, 3)])
def test_a_covariance_is_for_rows(shape):
    denoiser = sp.GaussianMixtureDenoiser(CASES[0][0], WEIGHTS, MEANS, COVARIANCES)
    with pytest.raises(ValueError, match=r"x must be \(batch, 2\); got"):
        denoiser(np.zeros(shape), 0.3)
    with pytest.raises(ValueError, match=r"x must be \(\.\.\., 2\); got"):
        denoiser.mean(np.zeros((2, 3)), 0.3)


def test_marginals_have_the_score_and_the_start():
    sde = sp.VPSDE()
    gaussian = sp.GaussianDenoiser(sde, MEANS[0], COVARIANCES[0])
    for prior in (mixture_on(sp.resolve("numpy"), sde), gaussian):
        np.testing.assert_allclose(prior.marginals.score(X, 0.3), prior.score(X, 0.3), rtol=1e-9, atol=1e-12)
        assert prior.marginals.sample(sde.T, 7).shape == (7, 2)
