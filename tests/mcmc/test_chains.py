"""R-hat and effective sample sizes of autoregressive chains, whose own are known.

Seeds 0 to 3. An AR(1) chain with coefficient φ has the effective sample size n (1 - φ) / (1 + φ).
"""

import math

import pytest
import torch

from sdeppl.mcmc import bulk_ess, r_hat, tail_ess

D = torch.float64


def autoregressive(phi, chains, draws, seed):
    """Stationary, of mean 0 and variance 1, (chains, draws, 2)."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn((draws, chains, 2), generator=generator, dtype=D)
    x = [noise[0]]
    for step in noise[1:]:
        x.append(phi * x[-1] + math.sqrt(1 - phi**2) * step)
    return torch.stack(x, dim=1)


@pytest.mark.parametrize(
    ("phi", "chains", "draws", "error"),
    [(0.0, 200, 60, 0.1), (0.6, 200, 120, 0.05), (0.9, 4, 8_000, 0.1), (-0.4, 200, 60, 0.15)],
)
def test_effective_sample_size_of_an_autoregression(phi, chains, draws, error):
    """Within 3 of the estimate's own errors, as seeds 0 to 9 showed them."""
    x = 20.0 + 3.0 * autoregressive(phi, chains, draws, 0)
    known = chains * draws * (1 - phi) / (1 + phi)
    assert (bulk_ess(x) / known - 1).abs().max() < 3 * error
    # of any increasing function of the draws it is the same, even where there is no mean
    assert torch.allclose(bulk_ess(torch.exp(x)), bulk_ess(x))
    # of the event below a quantile the correlations are closer to zero
    tails = tail_ess(x) / (chains * draws)
    assert bool((tails > 0.7 * min(known / chains / draws, 1.0)).all()) and bool((tails < 1.5).all())


def test_r_hat_of_short_stationary_chains():
    """Means of half-chains of m draws have variance near 1 / ess; r_hat² = 1 + 1/ess - 1/m."""
    for phi in (0.0, 0.6):
        m = 60
        known = math.sqrt(1 + ((1 + phi) / (1 - phi) - 1) / m)
        assert (r_hat(autoregressive(phi, 200, 2 * m, 0)) - known).abs().max() < 0.01


def test_r_hat_finds_another_mean_and_another_scale():
    x = autoregressive(0.3, 16, 400, 1)
    assert r_hat(x).max() < 1.01
    moved, wide = x.clone(), x.clone()
    moved[:4, :, 0] += 1.0
    wide[:4, :, 1] *= 4.0
    assert r_hat(moved)[0] > 1.05 and r_hat(moved)[1] < 1.01
    assert r_hat(wide)[1] > 1.05 and r_hat(wide)[0] < 1.01
    drifting = x + torch.linspace(-1, 1, 400, dtype=D)[:, None]
    assert r_hat(drifting).min() > 1.05


def test_numbers_that_never_vary_have_none_and_stuck_chains_have_infinite_r_hat():
    x = autoregressive(0.0, 8, 40, 2)
    x[:, :, 1] = 3.0
    for measure in (r_hat, bulk_ess, tail_ess):
        found = measure(x)
        assert torch.isnan(found[1]) and torch.isfinite(found[0])
    stuck = torch.arange(8.0, dtype=D)[:, None].expand(8, 40)
    assert r_hat(stuck) > 100 and bulk_ess(stuck) < 20 and r_hat(stuck).shape == ()


def test_shapes():
    x = autoregressive(0.0, 6, 21, 3).reshape(6, 21, 2, 1)
    assert r_hat(x).shape == bulk_ess(x).shape == tail_ess(x).shape == (2, 1)
    assert torch.allclose(bulk_ess(x)[1, 0], bulk_ess(x[:, :, 1, 0]))
