"""Noised pairs: the targets' scale, and what the best linear denoiser leaves unexplained."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import sdeppl as sp
from sdeppl.backend import TorchFunction
from sdeppl.query import GaussianPart
from sdeppl.sde.grids import time_of_half_log_snr
from sdeppl.training.noising import Noising


def skewed(n):
    """Far from Gaussian, correlated, on unlike scales, with one number a copy of another."""
    generator = np.random.default_rng(0)
    a = generator.exponential(size=n)
    b = a + generator.choice([-2.0, 2.0], size=n)
    return torch.tensor(np.column_stack([100 * a - 7, b, 3 * b + 1]))


@pytest.mark.parametrize("sde", [sp.VPSDE(), sp.VESDE(0.01, 30.0), sp.LinearSDE(2.0, 1.5, T=2.0)], ids=str)
def test_targets_have_unit_variance_at_every_level(sde):
    # 80 000 pairs in 8 slices of the level: each slice's mean square over 10 000 × 2 numbers, whose
    # kurtosis is at most 9, stays within 5 × √(8/20 000) = 10% of 1; seed 1; false alarm below 5e-6
    z = skewed(80_000)
    part = GaussianPart.estimate([z])
    noising = Noising(part, sde)
    generator = torch.Generator().manual_seed(1)
    inputs, level, reach, target = noising.sample(part.standardise(z), generator)
    assert (inputs.shape, level.shape, target.shape) == ((80_000, 2), (80_000, 1), (80_000, 2))
    assert {inputs.dtype, level.dtype, reach.dtype, target.dtype} == {torch.float32}
    low, high = float(sde.half_log_snr(sde.T)), math.log(1e3)
    # levels are uniform from T to σ/α = 1e-3
    counts = np.histogram(level.numpy(), bins=8, range=(low - 1e-6, high + 1e-4))[0]
    assert counts.sum() == 80_000
    np.testing.assert_allclose(counts / 10_000, 1, atol=0.07)
    for slot in range(8):
        inside = ((level - low) / (high - low) * 8).floor().clamp(0, 7)[:, 0] == slot
        assert float(target[inside].square().mean()) == pytest.approx(1, abs=0.1)
        assert float(inputs[inside].square().mean()) == pytest.approx(1, abs=0.1)
        # what is left is uncorrelated with what the linear part sees
        cross = target[inside].T @ inputs[inside] / inside.sum()
        assert float(cross.abs().max()) < 0.1


def test_the_target_completes_the_gaussian_part():
    """A network that returned the target would give x_0 back: sign and scale, end to end."""
    z = skewed(2000)
    part = GaussianPart.estimate([z])
    sde = sp.VPSDE()
    x0 = part.standardise(z)
    noising = Noising(part, sde)
    inputs, level, reach, target = noising.sample(x0, torch.Generator().manual_seed(2))
    for row in (0, 7, 100):
        t = time_of_half_log_snr(sde, float(level[row]))
        whitened = inputs[row].double()
        alpha, sigma = sde.alpha(t), sde.sigma(t)
        spread = torch.sqrt(alpha**2 * part.eigenvalues + sigma**2)
        x_t = part.basis @ (whitened * spread)

        class Perfect(torch.nn.Module):
            def __init__(self, value):
                super().__init__()
                self.value = torch.nn.Parameter(value)

            def forward(self, x, log_snr):
                assert math.isclose(float(log_snr), float(level[row]), abs_tol=1e-4)  # noqa: B023
                return self.value.expand(x.shape)

        gaussian = part.denoiser(sde, sp.resolve("torch"))
        denoiser = sp.NetworkDenoiser(gaussian, TorchFunction(Perfect(target[row] / reach[row])))
        torch.testing.assert_close(denoiser.mean(x_t[None], t)[0], x0[row], rtol=1e-3, atol=1e-3)


def test_a_network_of_zero_output_has_loss_one():
    def model():
        x = pyro.sample("x", dist.Exponential(torch.ones(2)).to_event(1))
        pyro.sample("y", dist.Normal(x, 1.0).to_event(1))

    guide = sp.ScoreGuide(model)
    training = sp.ScoreMatching(guide, batch=8192, draws=20_000)
    # 16 384 numbers of kurtosis below 9: within 5 × √(8/16 384) = 11% of 1
    assert training.step() == pytest.approx(1, abs=0.11)
