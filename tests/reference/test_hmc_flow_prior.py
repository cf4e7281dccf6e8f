"""HMC with a trained guide's flow as the prior, and on other parametrisations. Seeds stated."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.reparam import LocScaleReparam

import sdeppl as sp
from sdeppl.reference.hmc import FlowPrior

D = torch.float64
SHORT = {"draws": 25, "warmup": 30, "chains": 64, "seed": 2, "progress": False}


def samples(count, modes):
    """Of a prior that can only be sampled: a correlated Gaussian, or two modes in one number."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn((count, 2), dtype=D, generator=generator)
    if modes:
        side = (torch.rand((count, 1), dtype=D, generator=generator) < 0.3).to(D)
        return 3.0 * side - 1.0 + 0.4 * z[:, :1]
    return torch.tensor([5.0, -30.0], dtype=D) + z @ torch.tensor([[2.0, 10.0], [0.0, 4.0]], dtype=D)


def model_of(values, noise):
    def model(y=None):
        x = pyro.sample("x", dist.Empirical(values, torch.zeros(len(values), dtype=D)))
        pyro.sample("y", dist.Normal(x, noise).to_event(1), obs=y)

    return model


def test_a_gaussian_that_can_only_be_sampled():
    """The guide's Gaussian part is the sample's mean and covariance; the posterior by conditioning."""
    values, y = samples(500, modes=False), torch.tensor([6.5, -21.0], dtype=D)
    model = model_of(values, torch.tensor([1.0, 8.0], dtype=D))
    guide = sp.ScoreGuide(model, net=None, latents=["x"])
    guide.fit_gaussian(8_000, progress=False)
    found = sp.reference.hmc(model, {"y": y}, prior=guide, latents=["x"], **SHORT)
    part = guide.gaussian
    mean, scale = part.location, part.scale
    covariance = scale[:, None] * ((part.basis * part.eigenvalues) @ part.basis.T) * scale
    gain = covariance @ torch.linalg.inv(covariance + torch.diag(torch.tensor([1.0, 64.0], dtype=D)))
    exact, sd = mean + gain @ (y - mean), (covariance - gain @ covariance).diagonal().sqrt()
    assert found.verdict.startswith("trusted") and found.worst_ess > 500
    error = 4 / math.sqrt(found.worst_ess)
    assert ((found.draws["x"].mean(dim=0) - exact).abs() / sd).max() < error
    assert (found.draws["x"].std(dim=0) / sd - 1).abs().max() < error
    normal = torch.distributions.MultivariateNormal(mean, covariance)
    z = values[:20]
    flow = FlowPrior.of(guide)
    assert torch.allclose(flow.log_p(z), normal.log_prob(z), atol=2e-3)
    assert flow.log_p(mean[None] + 1e3 * scale).item() == -math.inf
    slope = -torch.linalg.solve(covariance, (z - mean).T).T
    assert torch.allclose(flow.force(z), slope, rtol=0.05, atol=0.02 * float(slope.abs().max()))


@pytest.mark.slow
def test_two_modes_that_can_only_be_sampled():
    """A trained network; the posterior by quadrature of the prior that the sample comes from."""
    model, y = model_of(samples(20_000, modes=True), 0.9), torch.tensor([0.4], dtype=D)
    guide = sp.ScoreGuide(model, latents=["x"])
    sp.ScoreMatching(guide, batch=1_024, draws=50_000).fit(2_000, progress=False)
    found = sp.reference.hmc(model, {"y": y}, prior=guide, latents=["x"], **SHORT)
    x = np.linspace(-6, 6, 4_001)
    p = 0.7 * np.exp(-0.5 * ((x + 1) / 0.4) ** 2) + 0.3 * np.exp(-0.5 * ((x - 2) / 0.4) ** 2)
    p = p * np.exp(-0.5 * ((x - 0.4) / 0.9) ** 2)
    p /= p.sum()
    mean = (p * x).sum()
    sd = math.sqrt((p * (x - mean) ** 2).sum())
    draws = found.draws["x"][:, 0].numpy()
    # the network's own error is a few hundredths, the chains' 3/√ess
    error = 0.06 + 3 / math.sqrt(found.worst_ess)
    assert abs(draws.mean() - mean) / sd < error and abs(draws.std() / sd - 1) < error
    assert abs((draws > 0.5).mean() - p[x > 0.5].sum()) < 0.5 * error


def test_what_a_flow_cannot_be_a_prior_of():
    values = samples(500, modes=False)
    model, y = model_of(values, 1.0), torch.tensor([6.5, -21.0], dtype=D)
    with pytest.raises(sp.ModelError, match=r"'x': Empirical has no log-density.* prior=guide"):
        sp.reference.hmc(model, {"y": y}, latents=["x"], **SHORT)
    with pytest.raises(sp.ModelError, match="the guide is not fitted"):
        guide = sp.ScoreGuide(model, latents=["x"])
        sp.reference.hmc(model, {"y": y}, prior=guide, latents=["x"], **SHORT)
    with pytest.raises(TypeError, match="prior is a trained ScoreGuide; got str"):
        sp.reference.hmc(model, {"y": y}, prior="guide", latents=["x"], **SHORT)
    other = sp.ScoreGuide(model_of(values[:, :1], 1.0), net=None, latents=["x"]).fit_gaussian(
        2_000, progress=False
    )
    with pytest.raises(sp.ModelError, match=r"not those the guide was trained on: site 'x': shape \(2,\)"):
        sp.reference.hmc(model, {"y": y}, prior=other, latents=["x"], **SHORT)
    with pytest.raises(ValueError, match="prior and reparam"):
        sp.reference.hmc(model, {"y": y}, prior=other, reparam={"x": None}, latents=["x"], **SHORT)
    flat = torch.cat([values, values[:, :1]], dim=1)
    with pytest.warns(Warning, match="directions the prior's variance is zero"):
        singular = sp.ScoreGuide(model_of(flat, 1.0), net=None, latents=["x"]).fit_gaussian(
            2_000, progress=False
        )
    with pytest.raises(sp.ModelError, match="varies along 2 of 3 directions only, so it has no density"):
        FlowPrior.of(singular)


def centred(y=None):
    """Three groups whose spread is known to be small: a funnel that is none, centred and not."""
    mu = pyro.sample("mu", dist.Normal(torch.tensor(1.0, dtype=D), 2.0))
    with pyro.plate("groups", 3):
        theta = pyro.sample("theta", dist.Normal(mu, torch.tensor(0.3, dtype=D)))
        pyro.sample("y", dist.Normal(theta, 1.5), obs=y)


def test_another_parametrisation_has_the_same_posterior():
    y = torch.tensor([2.0, 0.5, 3.5], dtype=D)
    exact = sp.reference.exact(centred, {"y": y}, draws=100)
    options = {**SHORT, "chains": 128, "draws": 80, "warmup": 100}
    found = sp.reference.hmc(centred, {"y": y}, reparam={"theta": LocScaleReparam(0.0)}, **options)
    assert set(found.draws) == {"mu", "theta"} and found.draws["theta"].shape == (80 * 128, 3)
    assert list(found.supports) == ["mu", "theta"]
    for name, draws in found.draws.items():
        moments = exact.moments[name]
        assert ((draws.mean(dim=0) - moments.mean) / moments.sd).abs().max() < 0.05
        assert (draws.std(dim=0) / moments.sd - 1).abs().max() < 0.05
    with pytest.raises(ValueError, match=r"reparam: 'eta' is no latent site; they are \['mu', 'theta'\]"):
        sp.reference.hmc(centred, {"y": y}, reparam={"eta": LocScaleReparam(0.0)}, **SHORT)
