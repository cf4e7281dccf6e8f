"""The Gaussian part: moments from batches of draws."""

import math

import numpy as np
import pytest
import torch

import sdeppl as sp
from sdeppl.query import GaussianPart


def batches(x, sizes=(7, 300, 1, 192)):
    return list(torch.split(torch.tensor(x), list(sizes)))


def covariance(part):
    inner = (part.basis * part.eigenvalues) @ part.basis.T
    return (inner * torch.outer(part.scale, part.scale)).numpy()


def test_moments_are_those_of_all_draws_together():
    generator = np.random.default_rng(0)
    # far from zero, on scales ten orders of magnitude apart
    x = generator.normal(size=(500, 3)) @ np.array([[1.0, 0.5, 0], [0, 2, 1], [0, 0, 3]])
    x = x * [1e-4, 1.0, 1e6] + [3.0, -1e4, 1e7]
    part = GaussianPart.estimate(batches(x))
    sd = x.std(axis=0, ddof=1)
    assert part.draws == 500
    assert {t.dtype for t in (part.location, part.scale, part.basis, part.eigenvalues)} == {torch.float64}
    np.testing.assert_allclose(part.location, x.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(part.scale, sd, rtol=1e-8)
    np.testing.assert_allclose(covariance(part) / np.outer(sd, sd), np.corrcoef(x.T), atol=1e-8)
    standard = part.standardise(torch.tensor(x))
    np.testing.assert_allclose(standard, (x - x.mean(0)) / sd, atol=1e-6)


@pytest.mark.parametrize("rounding", [False, True])
@pytest.mark.parametrize("constant", [0.0, 0.1, -1234.567])
def test_a_constant_number_keeps_its_value_and_disturbs_nothing(constant, rounding):
    x = np.random.default_rng(1).normal(size=(500, 3)) * 2 + 1
    x[:, 1] = constant
    if rounding and constant:
        x[::2, 1] = np.nextafter(constant, 1e9)
    part = GaussianPart.estimate(batches(x))
    assert (part.basis.shape, float(part.scale[1])) == ((3, 2), 1.0)
    np.testing.assert_allclose(part.location[1], constant, rtol=1e-14)
    expected = np.cov(x.T)
    expected[1] = expected[:, 1] = 0
    np.testing.assert_allclose(covariance(part), expected, atol=1e-12)


def test_rank_deficient():
    z = np.random.default_rng(2).normal(size=(500, 2))
    x = np.column_stack([z[:, 0], 3 * z[:, 0] + 5, z[:, 1], z[:, 0] - 2 * z[:, 1]])
    part = GaussianPart.estimate(batches(x))
    assert part.basis.shape == (4, 2)
    np.testing.assert_allclose(covariance(part), np.cov(x.T), atol=1e-12)
    np.testing.assert_allclose(part.basis.T @ part.basis, np.eye(2), atol=1e-12)


def test_too_few_or_constant_draws():
    with pytest.raises(ValueError, match="at least 2 draws; got 1"):
        GaussianPart.estimate([torch.zeros(1, 3)])
    with pytest.raises(ValueError, match="got 0"):
        GaussianPart.estimate([])
    with pytest.raises(ValueError, match="no latent varies"):
        GaussianPart.estimate([torch.full((10, 2), 0.3, dtype=torch.float64)])


def test_the_denoiser_is_the_regression_of_x0_on_xt():
    generator = np.random.default_rng(3)
    x = generator.normal(size=(500, 2)) @ np.array([[1.0, 0.8], [0, 0.3]]) * [1.0, 50.0] + [2.0, -7.0]
    part = GaussianPart.estimate(batches(x))
    sde, t = sp.VPSDE(), 0.4
    alpha, sigma = sde.alpha(t), sde.sigma(t)
    C = np.corrcoef(x.T)
    x_t = generator.normal(size=(5, 2))
    expected = x_t @ np.linalg.solve(alpha**2 * C + sigma**2 * np.eye(2), alpha * C)
    for name in ("numpy", "torch"):
        backend = sp.resolve(name)
        denoiser = part.denoiser(sde, backend)
        found = denoiser.mean(backend.xp.asarray(x_t), t)
        np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-10)
    assert math.isclose(denoiser.dim, 2)


def test_a_wide_start_keeps_the_small_directions():
    """A random walk from a start of sd 1e6: increments are 1e-9 of the largest eigenvalue, and kept."""
    generator = torch.Generator().manual_seed(1)
    steps = torch.randn((50_000, 30), generator=generator, dtype=torch.float64) * 38.0
    steps[:, 0] *= 1e6 / 38.0
    part = GaussianPart.estimate([steps.cumsum(dim=1)])
    assert part.basis.shape == (30, 30)
    covariance = (part.basis * part.eigenvalues) @ part.basis.T * torch.outer(part.scale, part.scale)
    increments = torch.diff(torch.eye(30, dtype=torch.float64), dim=0)
    found = (increments @ covariance @ increments.T).diagonal().sqrt()
    # 50,000 draws: standard error of an sd 0.3%; what rounding leaves of 1e12 is some percent of 38²
    torch.testing.assert_close(found, torch.full((29,), 38.0, dtype=torch.float64), rtol=0.05, atol=0.0)


def test_degenerate_priors_are_reported():
    x = torch.randn((1_000, 2), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    with pytest.warns(sp.RankWarning, match="along 1 of 3 directions"):
        GaussianPart.estimate([torch.cat([x, x.sum(dim=1, keepdim=True)], dim=1)])
