"""A trained network against the exact denoiser of a two-dimensional Gaussian mixture."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import sdeppl as sp

WEIGHTS = np.array([0.3, 0.7])
MEANS = np.array([[-2.0, 1.0], [3.0, -1.0]])
ROOTS = np.array([[[0.6, 0.0], [0.3, 0.4]], [[0.5, 0.0], [-0.2, 0.7]]])
COVARIANCES = ROOTS @ ROOTS.transpose(0, 2, 1)
NOISE = 0.8


def model(y=None):
    x = pyro.sample("x", Mixture())
    pyro.sample("y", dist.Normal(x.sum(-1), NOISE), obs=y)


class Mixture(dist.TorchDistribution):
    arg_constraints = {}
    support = dist.constraints.real_vector

    def __init__(self):
        super().__init__(event_shape=(2,), validate_args=False)

    def sample(self, sample_shape=()):
        second = (torch.rand((*sample_shape, 1), dtype=torch.float64) < WEIGHTS[1]).double()
        z = torch.randn((*sample_shape, 2), dtype=torch.float64)
        draws = [torch.tensor(m) + z @ torch.tensor(r).T for m, r in zip(MEANS, ROOTS, strict=True)]
        return (1 - second) * draws[0] + second * draws[1]


@pytest.fixture(scope="module")
def training():
    guide = sp.ScoreGuide(model)
    return sp.ScoreMatching(guide, lr=2e-3, ema=0.99, draws=50_000).fit(800, progress=False)


def exact_denoiser(guide):
    location, scale = guide.gaussian.location, guide.gaussian.scale
    return sp.GaussianMixtureDenoiser(
        guide.sde,
        torch.tensor(WEIGHTS),
        (torch.tensor(MEANS) - location) / scale,
        torch.tensor(COVARIANCES) / torch.outer(scale, scale),
    )


def losses(guide):
    """E |F - F*|² and E |F*|² per number, F* the exact mixture's network, levels as in training.

    In units of the loss: the Gaussian part has loss 1, the exact denoiser 1 - E |F*|².
    """
    part, sde = guide.gaussian, guide.sde
    linear, denoiser = part.denoiser(sde, sp.resolve("torch")), guide.denoiser("torch")
    exact = exact_denoiser(guide)
    x0 = part.standardise(guide.prior_batch(2000, 77))
    generator = torch.Generator().manual_seed(0)
    excess = explained = 0.0
    times = sp.log_snr_grid(sde, 40)[:-1]
    for t in times:
        eps = torch.randn(x0.shape, generator=generator, dtype=torch.float64)
        x = sde.alpha(t) * x0 + sde.sigma(t) * eps
        best, spread = exact.mean(x, t), linear.posterior_scale(t)
        excess += float(((denoiser.mean(x, t) - best) @ part.basis / spread).square().mean()) / len(times)
        explained += float(((linear.mean(x, t) - best) @ part.basis / spread).square().mean()) / len(times)
    return excess, explained


def exact_posterior(y):
    """Mean and standard deviations of p(x given y)."""
    h = np.ones(2)
    variance = np.array([h @ C @ h for C in COVARIANCES]) + NOISE**2
    evidence = WEIGHTS * np.exp(-0.5 * (y - MEANS @ h) ** 2 / variance) / np.sqrt(variance)
    weights = evidence / evidence.sum()
    gains = np.array([C @ h / v for C, v in zip(COVARIANCES, variance, strict=True)])
    means = MEANS + gains * (y - MEANS @ h)[:, None]
    within = np.array(
        [np.diag(C - np.outer(C @ h, C @ h) / v) for C, v in zip(COVARIANCES, variance, strict=True)]
    )
    mean = weights @ means
    return mean, np.sqrt(weights @ (within + means**2) - mean**2)


@pytest.mark.slow
def test_it_approaches_the_exact_denoiser(training):
    excess, explained = losses(training.guide)
    # measured: 0.0009 of 0.0524, so 1.7% of what a network can explain is left; three times that is allowed
    assert training.gain.useful
    assert training.gain.mean == pytest.approx(explained - excess, rel=0.2)
    assert excess < 0.06 * explained


def sites(guide, x):
    return (guide.gaussian.location + guide.gaussian.scale * x).numpy()


@pytest.mark.slow
def test_prior_draws_find_both_modes(training):
    guide = training.guide
    prior = sites(guide, sp.Posterior(guide.denoiser("torch"), None).sample(4000))
    linear = guide.gaussian.denoiser(guide.sde, sp.resolve("torch"))
    untrained = sites(guide, sp.Posterior(linear, None).sample(4000))
    valley, without = (((d[:, 0] > -0.5) & (d[:, 0] < 1.5)).mean() for d in (prior, untrained))
    # 0.28% of the mixture lies in the valley; measured 0.65%, and 31% without the network
    assert without > 0.25 and valley < 0.02
    assert (prior[:, 0] < 0.5).mean() == pytest.approx(WEIGHTS[0], abs=0.05)


@pytest.mark.slow
def test_posterior_is_that_of_the_exact_denoiser(training):
    guide = training.guide
    posterior = guide.condition(y=4.0)
    draws = posterior.sample(4000)["x"].numpy()
    observation = posterior.arrays.denoiser.observation
    reference = sites(guide, sp.Posterior(exact_denoiser(guide), observation).sample(4000))
    linear = guide.gaussian.denoiser(guide.sde, sp.resolve("torch"))
    untrained = sites(guide, sp.Posterior(linear, observation).sample(4000))
    mean, sd = exact_posterior(4.0)
    assert np.abs((draws - mean) / sd).max() < 2 * np.abs((reference - mean) / sd).max()
    # the mean likelihood alone is 0.19 sd off; corrected, the network's error and the draws' are left
    assert np.all(np.abs(draws.mean(0) - mean) < 0.1 * sd)
    np.testing.assert_allclose(draws.std(0), sd, rtol=0.1)
    assert np.all(np.abs(reference.mean(0) - mean) < 5 * sd / np.sqrt(4000) + 0.02 * sd)  # estimated moments
    assert np.abs((untrained.mean(0) - mean) / sd).max() > 1.3


@pytest.mark.slow
def test_an_approximate_posterior_says_so(training):
    """The network was kept, so the prior is not Gaussian, and the mean likelihood not exact."""
    with pytest.warns(sp.ApproximateWarning, match="compare it with reference.nuts"):
        training.guide.condition(y=4.0, correction=None)


@pytest.mark.slow
def test_learned_covariance_stays_nearly_positive(training):
    """Cov[x_0 given x_t] = σ²/α ∂mean/∂x, so at T, where α = 0.007, errors of a slope count 150 times."""
    denoiser = training.guide.denoiser("torch")
    generator = torch.Generator().manual_seed(0)
    for t in (1.0, 0.8, 0.5, 0.2):
        x = 3 * torch.randn((500, 2), generator=generator, dtype=torch.float64)
        # the standardised prior has variance 1; measured over seeds: never below -0.4 (without ρ: -100)
        assert float(torch.linalg.eigvalsh(denoiser(x, t).covariance.dense()).min()) > -1.0
