"""ScoreGuide under every isotropic SDE: posteriors, training, saving."""

import itertools
import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import sdeppl as sp
from sdeppl.query import GaussianPart
from sdeppl.training.noising import Noising

PRIOR_DRAWS, DRAWS = 100_000, 4_000
MEAN, SD, NOISE, Y = 3.0, 2.0, 0.7, torch.tensor([5.0, 1.5], dtype=torch.float64)
OF_NUMBERS = {
    "vp cosine": sp.VPSDE(sp.CosineSchedule()),
    "sub-vp": sp.SubVPSDE(),
    "edm": sp.EDMSDE(),
    "shifted": sp.ShiftedVPSDE(-2.0),
    "anchored": sp.DataAnchoredSDE(),
}
SDES = OF_NUMBERS | {
    "shifted in time": sp.ShiftedVPSDE(lambda t: 2.0 - 3.0 * t),
    "ve callable": sp.CallableVESDE(lambda t: (0.3 + 4.0 * t) ** 2),
    "vp callable": sp.VPSDE(sp.CallableSchedule(lambda t: 0.2 + 30.0 * t * t)),
}
EACH_SDE = pytest.mark.parametrize("sde", SDES.values(), ids=SDES)


def model(y=None):
    x = pyro.sample("x", dist.Normal(torch.full((2,), MEAN, dtype=torch.float64), SD).to_event(1))
    pyro.sample("y", dist.Normal(x, NOISE).to_event(1), obs=y)


@EACH_SDE
@pytest.mark.filterwarnings("ignore::sdeppl.SignalLeftWarning")  # the anchored one ends at σ = 1
def test_the_posterior_of_a_gaussian_model(sde):
    """4,000 draws, seed 9, and a prior known from 100,000: means within 4 standard errors, of which the
    prior's share is below a tenth; variances to 4 standard errors and the prior's. Wrong by chance in 3e-4
    of the cases for another seed."""
    guide = sp.ScoreGuide(model, sde=sde, net=None, seed=1).fit_gaussian(PRIOR_DRAWS, progress=False)
    draws = np.asarray(guide.condition(y=Y).sample(DRAWS, seed=9)["x"])
    variance = 1 / (1 / SD**2 + 1 / NOISE**2)
    mean = variance * (MEAN / SD**2 + Y.numpy() / NOISE**2)
    errors = (draws.mean(axis=0) - mean) / math.sqrt(variance / DRAWS)
    assert np.abs(errors).max() < 4.4
    ratios = draws.var(axis=0) / variance
    assert np.abs(ratios - 1).max() < 4 * math.sqrt(2 / DRAWS) + 0.01


@EACH_SDE
def test_training_pairs_have_unit_variance_at_every_level(sde):
    """40,000 pairs, seed 2, in 4 slices: 20,000 numbers each, of kurtosis below 9, so a mean square stays
    within 5 √(8/20,000) = 10% of 1; false alarm below 5e-6."""
    generator = torch.Generator().manual_seed(2)
    z = torch.empty((40_000, 2), dtype=torch.float64).exponential_(generator=generator)
    part = GaussianPart.estimate([z])
    noising = Noising(part, sde)
    inputs, level, _, target = noising.sample(part.standardise(z), generator)
    edges = torch.quantile(level[:, 0], torch.linspace(0, 1, 5))
    for low, high in itertools.pairwise(edges):
        inside = (level[:, 0] >= low) & (level[:, 0] <= high)
        assert float(inputs[inside].square().mean()) == pytest.approx(1, abs=0.1)
        assert float(target[inside].square().mean()) == pytest.approx(1, abs=0.1)
        assert float(inputs[inside].mean(dim=0).abs().max()) < 0.06
        cross = target[inside].T @ inputs[inside] / inside.sum()
        assert float(cross.abs().max()) < 0.1


@pytest.mark.parametrize("sde", OF_NUMBERS.values(), ids=OF_NUMBERS)
@pytest.mark.filterwarnings("ignore::sdeppl.SignalLeftWarning", "ignore::sdeppl.ApproximateWarning")
def test_a_trained_guide_is_saved_with_its_sde(sde, tmp_path):
    guide = sp.ScoreGuide(model, sde=sde)
    training = sp.ScoreMatching(guide, batch=64, draws=2_000)
    for _ in range(3):
        training.step()
    guide.save(tmp_path / "guide")
    loaded = sp.ScoreGuide.load(tmp_path / "guide", model)
    assert loaded.sde == sde
    mine, theirs = (g.condition(y=Y, steps=20).sample(10)["x"] for g in (guide, loaded))
    assert (mine == theirs).all()


def test_a_guide_whose_sde_holds_a_function_cannot_be_saved(tmp_path):
    guide = sp.ScoreGuide(model, sde=SDES["ve callable"], net=None).fit_gaussian(1_000, progress=False)
    with pytest.raises(TypeError, match="cannot save CallableVESDE: it holds a function"):
        guide.save(tmp_path / "guide")
