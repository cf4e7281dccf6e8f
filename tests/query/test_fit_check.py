"""What held-out draws say of a fit: nats that are known, and how often a right prior is doubted."""

import math

import numpy as np
import pytest
import torch
from checks import covariance_matrix
from scipy import integrate, stats

import sdeppl as sp
from sdeppl.query import GaussianPart, check_fit
from sdeppl.query.fit_check import _departure, _moments, _of_denoiser, _of_normal

SDE = sp.VPSDE()
MEANS, SPREADS = np.array([[-2.0, 0.5], [1.0, 2.0]]), np.array([0.3, 0.6])


class Space:
    """Of one site a number."""

    def __init__(self, dim):
        self.dim = dim
        self.sites = [type("Site", (), {"name": f"x{k}", "stop": k + 1}) for k in range(dim)]


def checked(draw, dim, fitted=100_000, held_out=16_384, seed=0):
    rng = np.random.default_rng(seed)
    gaussian = GaussianPart.estimate([torch.as_tensor(draw(rng, fitted))])
    fit = check_fit(Space(dim), gaussian, None, "none", torch.as_tensor(draw(rng, held_out)), seed)
    return fit, gaussian


def divergence(p):
    """KL(p | the normal with its mean and variance)."""
    normal = stats.norm(p.mean(), p.std())
    ends = p.ppf([1e-9, 1 - 1e-9])
    return integrate.quad(lambda x: p.pdf(x) * (p.logpdf(x) - normal.logpdf(x)), *ends, limit=500)[0]


@pytest.mark.parametrize(
    "p",
    [stats.gumbel_l(-1.0, 3.0), stats.logistic(2.0, 0.1), stats.t(5), stats.loggamma(3)],
    ids=lambda p: p.dist.name,
)
def test_nats_of_one_number_are_the_divergence(p):
    """As far as sines and cosines see it, which is most: within 15%, and 5 standard errors."""
    fit, _ = checked(lambda rng, n: p.rvs(size=(n, 1), random_state=rng), 1)
    assert fit.departure == pytest.approx(divergence(p), rel=0.15, abs=5 * fit.departure_noise)
    assert fit.p < 1e-9 and not fit.good and fit.worst == pytest.approx(fit.departure)


def test_the_site_that_is_not_gaussian_is_named_with_others_beside_it():
    """One of 40 correlated numbers is skewed: its nats are those of the skewed direction."""
    root = np.linalg.cholesky(covariance_matrix(40, seed=3, smallest=0.5, largest=2.0))

    def draw(rng, n):
        x = rng.standard_normal((n, 40)) @ root.T
        x[:, 17] = rng.gumbel(size=n)
        return x

    fit, _ = checked(draw, 40)
    assert fit.site == "x17" and fit.state == "do not trust" and "'x17'" in fit.verdict
    assert fit.worst == pytest.approx(divergence(stats.gumbel_l()), rel=0.2)


def test_a_product_of_two_gaussians_is_found_in_small_dimensions():
    """x_3 = x_1 x_2: uncorrelated with either, and functions of single numbers say little of it."""

    def draw(rng, n):
        x = rng.standard_normal((n, 2))
        return np.column_stack([x, x[:, 0] * x[:, 1] + 0.8 * rng.standard_normal(n)])

    assert checked(draw, 3)[0].state == "do not trust"


@pytest.mark.parametrize(("dim", "fitted"), [(2, 200), (8, 2_000), (20, 60), (60, 150)])
def test_nats_of_moments_are_those_of_the_fitted_gaussian(dim, fitted):
    """KL(N(m, C) | N(fitted)) in closed form; small and large. Seeds are stated; 5 standard errors."""
    mean, covariance = np.linspace(-3, 5, dim), covariance_matrix(dim, seed=dim, smallest=0.1, largest=4.0)
    root = np.linalg.cholesky(covariance)
    fit, part = checked(lambda rng, n: mean + rng.standard_normal((n, dim)) @ root.T, dim, fitted, seed=dim)
    spread = (part.basis * part.eigenvalues) @ part.basis.T * torch.outer(part.scale, part.scale)
    wrong, shift = spread.numpy(), mean - part.location.numpy()
    ratio = np.linalg.solve(wrong, covariance)
    wanted = 0.5 * (np.trace(ratio) - dim - np.linalg.slogdet(ratio)[1])
    wanted += 0.5 * shift @ np.linalg.solve(wrong, shift)
    noise = math.hypot(fit.moments_noise, 2 * math.sqrt(wanted / 16_384))
    # half of ln|C| of few draws varies by √(dim/2 draws); else a third order is left out
    loose = 4 * math.sqrt(dim / 2 / fitted) if dim > 8 else 0.0
    assert fit.moments == pytest.approx(wanted, rel=0.15, abs=max(5 * noise, loose))


def test_unbiased_moments():
    """Of 300 sets of 500 draws of N(0, I), seeds 0 to 299: mean 0 and the stated standard error."""
    z = []
    for seed in range(300):
        nats, noise = _moments(np.random.default_rng(seed).standard_normal((500, 4)), 100_000)
        z.append(nats / noise)
    assert abs(np.mean(z)) < 4 / math.sqrt(300) and 0.8 < np.std(z) < 1.25


@pytest.mark.parametrize(("dim", "seeds"), [(1, 400), (3, 150), (36, 25)])
def test_a_gaussian_is_doubted_once_in_a_thousand(dim, seeds):
    """Of N(0, I), p < .05 about 5 times in 100 or fewer; more than 5 standard errors above is a fault."""
    found = []
    for seed in range(seeds):
        w = np.random.default_rng(50_000 + seed).standard_normal((1_000, dim))
        found.append(_departure(_of_normal(w, seed), False)[2])
    count = np.count_nonzero(np.array(found) < 0.05)
    assert count <= 0.05 * seeds + 5 * math.sqrt(0.05 * seeds) and min(found) > 1e-3 / seeds


def test_an_exact_score_of_two_modes_is_doubted_no_more_often():
    """Where the variance of what is left depends on x_t, of which a usual F test would make something."""
    rng = np.random.default_rng(1)
    spread = np.stack([s**2 * np.eye(2) for s in SPREADS])
    exact = sp.GaussianMixtureDenoiser(SDE, np.array([0.3, 0.7]), MEANS, spread)
    found, z = [], []
    for seed in range(80):
        chosen = (rng.random(1_000) > 0.3).astype(int)
        x0 = MEANS[chosen] + SPREADS[chosen][:, None] * rng.standard_normal((1_000, 2))
        seen, noise, p = _departure(_of_denoiser(exact, x0, seed), True)
        found.append(p)
        z.append(seen.sum() / math.sqrt(np.sum(noise**2)))
    assert np.count_nonzero(np.array(found) < 0.05) <= 12 and min(found) > 1e-3 / 80
    assert abs(np.mean(z)) < 4 / math.sqrt(80) and 0.7 < np.std(z) < 1.4


def test_a_density_tells_the_divergence_itself():
    """Of a rotated product of 40 skewed numbers, of each of which little is seen: 5 standard errors."""
    dim, p = 40, stats.gumbel_r()
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((dim, dim)))[0]

    def draw(rng, n):
        return rng.gumbel(size=(n, dim)) @ rotation.T

    rng = np.random.default_rng(1)
    gaussian = GaussianPart.estimate([torch.as_tensor(draw(rng, 100_000))])
    z = draw(rng, 4_000)
    log_p = torch.as_tensor(p.logpdf(z[:2_000] @ rotation).sum(axis=1))
    blind = check_fit(Space(dim), gaussian, None, "none", torch.as_tensor(z), 0)
    fit = check_fit(Space(dim), gaussian, None, "none", torch.as_tensor(z), 0, log_p)
    assert blind.departure < dim * divergence(p) / 2
    assert fit.departure == pytest.approx(dim * divergence(p), abs=5 * fit.departure_noise)
    assert fit.state == "do not trust"
