"""Diffusion against its closed form, and what the distributions refuse."""

import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

import sdeppl as sp
from sdeppl.sde import SDE


class Nonlinear(SDE):
    def drift(self, x, t):
        return -(x**3)

    def diffusion(self, x, t):
        return 1.0


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: sp.SDEPath(sp.VPSDE(), dist.Normal(0.0, 1.0), [0.2, 0.2]), ValueError, "strictly rise"),
        (lambda: sp.SDEPath(sp.VPSDE(), dist.Normal(0.0, 1.0), [0.3, 0.2]), ValueError, "strictly rise"),
        (lambda: sp.SDEPath(sp.VPSDE(), dist.Normal(0.0, 1.0), []), ValueError, "at least one"),
        (lambda: sp.SDEPath(sp.VPSDE(), dist.Normal(0.0, 1.0), [math.nan]), ValueError, "finite"),
        (lambda: sp.SDEPath(sp.VPSDE(), 1.0, [0.5, 1.0], t0=0.5), ValueError, "leave that time out"),
        (lambda: sp.SDEPath(sp.VPSDE(), 1.0, [0.4, 1.0], t0=0.5), ValueError, "at least 0.5"),
        (lambda: sp.SDEPath(Nonlinear(), 1.0, [0.4, 1.0]), TypeError, "such as LinearSDE; got Nonlinear"),
        (
            lambda: sp.SDEPath(sp.VPSDE(), dist.Normal(torch.zeros(2, 3), 1.0).to_event(2), [0.1]),
            ValueError,
            r"shape \(\) or \(dim,\); got \(2, 3\)",
        ),
        (lambda: sp.Diffusion(sp.VPSDE(), 1.0, [0.0, 0.5]), ValueError, "first time must be later"),
        (lambda: sp.Diffusion(sp.VPSDE(), 1.0, [-0.1, 0.5]), ValueError, "at least 0.0; got -0.1"),
        (lambda: sp.Diffusion(sp.VPSDE(), 1.0, [0.5, 1.5]), ValueError, r"\(0, 1.0\]; got 1.5"),
        (lambda: sp.Diffusion(Nonlinear(), 1.0, [0.5]), TypeError, "Nonlinear"),
    ],
)
def test_errors_say_what_was_got(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("dim", [None, 3])
def test_diffusion_density(dim):
    schedule = sp.LinearSchedule(0.3, 9.0)
    sde, times = sp.VPSDE(schedule), [0.2, 0.9]
    x0 = np.array(1.4) if dim is None else np.array([1.4, -0.6, 2.2])
    diffusion = sp.Diffusion(sde, torch.tensor(x0), times)
    assert diffusion.event_shape == ((2,) if dim is None else (2, 3))
    value = np.random.default_rng(6).normal(size=(7, *diffusion.event_shape))
    axis = -1 if dim is None else -2
    first, second = np.take(value, 0, axis), np.take(value, 1, axis)
    b1, b2 = (0.3 * t + 4.35 * t**2 for t in times)
    step = b2 - b1
    expected = stats.norm(math.exp(-b1 / 2) * x0, math.sqrt(1 - math.exp(-b1))).logpdf(first)
    expected = expected + stats.norm(math.exp(-step / 2) * first, math.sqrt(1 - math.exp(-step))).logpdf(
        second
    )
    expected = expected if dim is None else expected.sum(-1)
    np.testing.assert_allclose(diffusion.log_prob(torch.tensor(value)), expected, rtol=1e-10)
    wide = diffusion.expand((4,))
    assert isinstance(wide, sp.Diffusion)
    assert wide.sample().shape == (4, *diffusion.event_shape)
