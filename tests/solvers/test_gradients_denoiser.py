"""Gradients of a reverse solve, to the numbers of a denoiser and through a net, against differences."""

import numpy as np
import pytest
import torch
from checks import array, covariance_matrix
from gradient_cases import START, WEIGHTS, differences

import sdeppl as sp
from sdeppl.backend import TorchFunction

MATRIX = covariance_matrix(2, seed=5)
SDE = sp.VPSDE(sp.LinearSchedule(0.5, 3.0))


def mixture(p, xp):
    """A mixture whose means are the parameters; the reverse SDE carries them to its draws."""
    means = xp.stack([p, 1 - 0.5 * p])
    covariances = xp.stack([xp.asarray(MATRIX), 0.4 * xp.asarray(MATRIX)])
    return sp.GaussianMixtureDenoiser(SDE, xp.asarray([0.3, 0.7], dtype=xp.float64), means, covariances)


def denoised(p, xp, solver, c, **options):
    reverse = sp.ReverseSDE(SDE, mixture(p, xp), c)
    path = sp.solve(reverse, xp.asarray(START), sp.uniform_grid(1.0, 0.05, 12), solver=solver, **options)
    return (path.states[-1] * xp.asarray(WEIGHTS)).sum()


@pytest.mark.parametrize("checkpoint", [None, 5])
@pytest.mark.parametrize(
    ("solver", "c"),
    [
        (sp.EulerMaruyama(), 1.0),
        (sp.ExponentialHeun(), 0.5),
        (sp.DPMSolverPP(3), 0.0),
        (sp.DPMSolverPP(2), 1.0),
        (sp.UniPC(), 0.0),
        (sp.AncestralSampler(), 1.0),
        (sp.PredictorCorrector(sp.EulerMaruyama()), 1.0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, sp.solvers.Solver) else str(value),
)
def test_parameters_of_a_denoiser(solver, c, checkpoint):
    """Multistep solvers carry what they remember over the segments' ends."""
    p = torch.tensor([0.7, -0.2], dtype=torch.float64, requires_grad=True)
    value = denoised(p, torch, solver, c, checkpoint=checkpoint)
    (found,) = torch.autograd.grad(value, p)
    expected = differences(lambda q: denoised(q, np, solver, c), p.detach().numpy())
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-7)


@pytest.mark.parametrize("guided", [False, True])
def test_gradients_pass_through_an_eps_net(guided):
    """To x_init and, where that needs one, to the net; against differences of the same solve."""
    torch.manual_seed(2)
    net = torch.nn.Sequential(torch.nn.Linear(2, 6), torch.nn.Tanh(), torch.nn.Linear(6, 2)).double()

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x, half_log_snr):
            return self.net(x)

    backend = sp.resolve("torch")
    gaussian = sp.GaussianDenoiser(
        sp.VPSDE(), array([1.0, -0.5], backend), array([[1.5, 0.4], [0.4, 0.7]], backend)
    )
    prior = sp.NetworkDenoiser(gaussian, TorchFunction(Net()))
    if guided:
        seen = sp.LinearGaussian(array([[1.0, 1.0]], backend), array([0.8], backend), 0.3)
        prior = sp.TweedieDenoiser(prior, seen)

    def ends(x):
        reverse = sp.ReverseSDE(sp.VPSDE(), prior, 0.7)
        path = sp.solve(reverse, x, [1.0, 0.5, 0.2], solver=sp.ExponentialHeun(), noise=sp.Noise(3))
        return torch.sum(torch.sin(path.states[-1, ...]))

    x = torch.tensor([[0.4, -1.0], [1.2, 0.3]], dtype=torch.float64, requires_grad=True)
    ends(x).backward()
    weight, h = net[0].weight, 1e-6
    found = float(weight.grad[1, 0])
    with torch.no_grad():
        weight[1, 0] += h
        up = ends(x)
        weight[1, 0] -= 2 * h
        down = ends(x)
        weight[1, 0] += h
        moved = torch.zeros_like(x)
        moved[1, 0] = h
        slope = (ends(x + moved) - ends(x - moved)) / (2 * h)
    assert float(x.grad[1, 0]) == pytest.approx(float(slope), rel=1e-6)
    assert found == pytest.approx(float((up - down) / (2 * h)), rel=1e-6)
    assert not prior.mean(x.detach(), 0.5).requires_grad
