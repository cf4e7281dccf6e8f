"""A twist on a grid of many numbers: the network's mean with the Gaussian part's covariance."""

import numpy as np
import pytest
import torch

import sdeppl as sp
from sdeppl.backend import TorchFunction
from sdeppl.denoisers import OnGrid
from sdeppl.denoisers.network import LinearSpread
from sdeppl.likelihood import LinearGaussian
from sdeppl.linalg import Selection, Stationary
from sdeppl.posterior import Posterior

D = torch.float64
SIDE = 12
FIELD = sp.FieldShape(1, (SIDE, SIDE), (True, True))
PLACES = torch.arange(0, SIDE**2, 11)


def prior(net, side=SIDE):
    k = torch.fft.fftfreq(side, dtype=D) * side
    power = 1 / (1 + k[:, None] ** 2 + k**2)
    field = sp.FieldShape(1, (side, side), (True, True))
    covariance = Stationary(field, (power / power.mean()).flatten())
    gaussian = sp.GaussianDenoiser(sp.VPSDE(), torch.full((side**2,), 0.7, dtype=D), covariance)
    return sp.NetworkDenoiser(gaussian, TorchFunction(net), OnGrid)


def test_where_the_network_adds_nothing_the_weights_are_even_and_the_draws_exact():
    """Against the exact Gaussian posterior: 512 draws; the mean's error in units of its standard error has
    an rms over 144 correlated numbers below 1.5 (seed 2)."""
    denoiser = prior(sp.FieldNetwork([FIELD], sp.UNet(width=4, depth=1)))
    assert isinstance(denoiser.coarse, LinearSpread)
    y = torch.linspace(-1.0, 2.0, len(PLACES), dtype=D)
    like = torch.zeros(1, dtype=D)
    noise = torch.full((len(PLACES),), 0.1, dtype=D)
    observation = LinearGaussian(Selection(PLACES, SIDE**2, like), y, noise)
    posterior = Posterior(denoiser, observation, steps=50, correction=sp.TwistedSMC(16, kept=8))
    run = posterior.run(512, seed=2)
    assert run.diagnosis.ess > 0.95
    C = denoiser.gaussian.prior_covariance.dense()
    cross = C[:, PLACES]
    S = cross[PLACES] + noise.diag()
    mean = 0.7 + cross @ torch.linalg.solve(S, y - 0.7)
    sd = (C - cross @ torch.linalg.solve(S, cross.T)).diagonal().sqrt()
    draws = torch.as_tensor(np.asarray(run.draws))
    off = (draws.mean(dim=0) - mean) / sd * 512**0.5
    assert float(off.square().mean().sqrt()) < 1.5
    assert float((draws.std(dim=0) / sd - 1).abs().mean()) < 0.05


def test_one_evaluation_of_the_network_and_the_gaussian_parts_covariance():
    net = sp.FieldNetwork([FIELD], sp.UNet(width=4, depth=1))
    torch.manual_seed(0)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    denoiser, x = prior(net), torch.randn(3, SIDE**2, dtype=D)
    moments = denoiser.coarse(x, 0.4)
    torch.testing.assert_close(moments.mean, denoiser.mean(x, 0.4))
    torch.testing.assert_close(moments.mean, denoiser.coarse.mean(x, 0.4))
    torch.testing.assert_close(moments.covariance @ x, denoiser.gaussian(x, 0.4).covariance @ x)
    assert moments.covariance.shared


@pytest.mark.parametrize("correction", ["auto", None])
def test_of_more_numbers_draws_are_not_weighed_unless_it_is_asked_for(correction):
    """And the diagnosis says how it is."""
    side = 24
    denoiser = prior(sp.FieldNetwork([sp.FieldShape(1, (side, side), (True, True))], sp.UNet(width=4)), side)
    y, like = torch.zeros(2, dtype=D), torch.zeros(1, dtype=D)
    seen = LinearGaussian(Selection(torch.tensor([0, 9]), side**2, like), y, 0 * y + 0.1)
    choice = Posterior(denoiser, seen, correction=correction).choice
    assert choice.correction is None and "correction=TwistedSMC() tries it" in choice.unweighed
    asked = Posterior(denoiser, seen, correction=sp.TwistedSMC()).choice
    assert isinstance(asked.twist.prior, LinearSpread)
