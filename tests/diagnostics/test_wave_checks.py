"""`check_score` by wavenumber: a spectrum that is wrong in one octave, and a field that is not Gaussian."""

from dataclasses import replace

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import sdeppl as sp
from sdeppl.diagnostics.field_summary import wavenumber_bands
from sdeppl.diagnostics.wave_checks import bands_of
from sdeppl.linalg import FieldShape, Stationary
from sdeppl.query import GaussianPart

GRIDS = {
    "torus": (sp.Grid(periodic=True), (16, 16)),
    "line": (sp.Grid(), (64,)),
    "cylinder of two channels": (sp.Grid(channels=1, periodic=(True, False)), (2, 16, 8)),
}


def made(name, change=None, bent=False):
    """A guide whose Gaussian part has the very spectrum of the model, but for `change`, by band."""
    grid, shape = GRIDS[name]
    field = grid.of(shape)
    band, names = wavenumber_bands(field.shape, field.periodic)
    spectrum = np.tile(6.0 / (1 + band) ** 2, field.channels)
    waves = Stationary(field, spectrum)

    def simulate(n, rng):
        x = waves.outside(np.sqrt(spectrum) * rng.standard_normal((n, field.size)))
        x = (np.exp(0.8 * x) - np.exp(0.32 * 6)) if bent else x
        return x.reshape(n, *shape)

    def model(y=None):
        x = pyro.sample("field", sp.Simulated(simulate, shape))
        pyro.sample("y", dist.Normal(x.sum(), 1.0), obs=y)

    guide = sp.ScoreGuide(model, layout={"field": grid}, net=None)
    wrong = spectrum * (1.0 if change is None else np.tile(change(band), field.channels))
    zeros = torch.zeros(field.size, dtype=torch.float64)
    covariance = Stationary(field, torch.as_tensor(wrong))
    guide.gaussian = GaussianPart(zeros, zeros + 1, covariance, 100_000, "stationary")
    return guide, names


@pytest.mark.parametrize("name", GRIDS)
def test_nothing_speaks_against_the_right_spectrum(name):
    """p is above .001 in all but one of a thousand checks; seeds 0 to 4."""
    guide, names = made(name)
    for seed in range(5):
        check = sp.check_score(guide, 1_000, levels=3, seed=seed)
        assert check.good, check
    assert [band.band for band in check.levels[0].bands] == names
    assert sum(band.share for band in check.levels[0].bands) == pytest.approx(1)
    mean = sum(band.loss * band.share for band in check.levels[1].bands)
    assert mean == pytest.approx(check.levels[1].loss, rel=1e-9)
    assert "length of ε̂ by wavenumber" in str(check)


@pytest.mark.parametrize("name", GRIDS)
def test_an_octave_of_too_much_variance_is_named(name):
    """Where the prior has 1.5 times the variance that the guide has, ε̂ = σ x_t/(α² λ + σ²) is too long by the
    ratio of what is taken for the variance of x_t to what it is; to 5 standard errors."""
    guide, names = made(name, lambda band: np.where(band == 2, 1.5, 1.0))
    check = sp.check_score(guide, 2_000, levels=5)
    assert not check.good and f"'field' at {names[2]}: ε̂ is" in check.verdict and "too short" in check.verdict
    for level in check.levels:
        found = level.bands[2]
        alpha, sigma = guide.sde.alpha_sigma(level.t)
        taken, own = (alpha**2 * 6 / 9 * factor + sigma**2 for factor in (1.5, 1.0))
        # E[ε̂ (ε̂ - ε)]/E ε̂²: of ε̂ = σ x/taken
        assert found.scale_error == pytest.approx(1 - taken / own, abs=5 * found.scale_noise)
        others = [band.largest for k, band in enumerate(level.bands) if k != 2]
        assert max(others) < 5


def test_a_field_that_is_not_gaussian_is_bent_and_not_of_another_slope():
    guide, _ = made("torus", bent=True)
    draws = guide.prior_batch(20_000, 11).numpy()
    field = FieldShape(1, (16, 16), (True, True))
    band, _ = wavenumber_bands(field.shape)
    power = np.mean(Stationary(field, np.ones(256)).inside(draws) ** 2, axis=0)
    smooth = np.bincount(band, power) / np.bincount(band)
    guide.gaussian = replace(guide.gaussian, covariance=Stationary(field, torch.as_tensor(smooth[band])))
    check = sp.check_score(guide, 2_000, levels=4)
    assert not check.good and "give the guide a network (net=sdeppl.UNet())" in check.advice
    assert max(band.bend for level in check.levels for band in level.bands) > 20


def test_plain_sites_beside_a_field_have_no_bands():
    def model():
        pyro.sample("level", dist.Normal(torch.zeros(3, dtype=torch.float64), 1.0).to_event(1))
        pyro.sample("field", sp.Simulated(lambda n, rng: rng.standard_normal((n, 8)), 8))

    guide = sp.ScoreGuide(model, latents=["level", "field"], layout={"field": sp.Grid()}, net=None)
    (bands,) = bands_of(guide)
    assert bands.site == "field" and bands.part == slice(3, 11)
