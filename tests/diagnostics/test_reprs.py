"""What is returned prints itself in a few lines, however many draws it holds."""

import re

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import sdeppl as sp

D = torch.float64


def model(y=None):
    x = pyro.sample("x", dist.Normal(torch.zeros(3, dtype=D), 1.0).to_event(1))
    pyro.sample("y", dist.Normal(x, 0.5).to_event(1), obs=y)


Y = {"y": [1.0, 2.0, 3.0]}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    guide = sp.ScoreGuide(model, net=None).fit_gaussian(4_000, progress=False)
    posterior, many = guide.condition(Y), guide.condition_many({"y": np.ones((4, 3))})
    run, exact = posterior.run(300), sp.reference.exact(model, Y, draws=300)
    path = tmp_path_factory.mktemp("reprs") / "posterior"
    posterior.save(path)
    denoiser = guide.denoiser()
    comparison = sp.compare(run, exact, classifier=False)
    simulations = sp.simulate_posteriors(guide, 30, 19, progress=False)
    with pytest.warns(UserWarning):
        hmc = sp.reference.hmc(model, Y, draws=10, chains=16, warmup=20, progress=False)
    return {
        "not fitted": (sp.ScoreGuide(model), r"ScoreGuide\(.*x \(3,\).*observes y.*not fitted"),
        "guide": (guide, "VPSDE; the Gaussian part alone, from 4000 draws"),
        "training": (sp.ScoreMatching(guide), "lr=0.001, batch=512; 0 steps made"),
        "posterior": (posterior, r"x \(3,\).*likelihood 'exact', not corrected; on torch"),
        "posteriors": (many, "4 data sets"),
        "arrays": (posterior.arrays, "GaussianDenoiser.*LinearGaussian.3 observed, dim=3"),
        "many arrays": (many.arrays, "4 data sets, closed form"),
        "portable": (sp.load_posterior(path, "numpy"), r"PortablePosterior\(x \(3,\);.*on numpy"),
        "run": (run, r"PosteriorRun\(300 draws of x \(3,\); exact: "),
        "runs": (many.run(200), r"PosteriorRuns\(4 data sets with 200 draws of x \(3,\); 4 data sets in one"),
        "diagnosis": (run.diagnosis, r"Diagnosis\(.*ln p\(y\) = "),
        "exact": (exact, r"Reference\(300 draws of x \(3,\); exact: "),
        "hmc": (hmc, r"Reference\(160 draws by 16 chains of x \(3,\); do not trust: "),
        "comparison": (comparison, r"Comparison\(\['x'\]; "),
        "site": (comparison["x"], "SiteComparison.'x': mean .* sd off .noise"),
        "errors": (comparison["x"].numbers, "3 numbers"),
        "simulations": (simulations, r"Simulations\(30 data sets with 19 draws of x \(3,\); 30 data sets in"),
        "calibration": (
            sp.sbc(simulations),
            r"SBC\(nothing in 30 data sets with 19 draws each",
        ),
        "test": (sp.sbc(simulations).tests[0], r"RankTest\('x\[0\]', 30 ranks, p="),
        "score": (sp.check_score(guide, 200), r"ScoreCheck\(nothing in 200 draws"),
        "loss": (sp.check_loss(guide, 200), r"LossCheck\("),
        "fit": (guide.fit_check, r"FitCheck\("),
        "moments": (denoiser(torch.zeros(50, 3, dtype=D), 0.5), r"mean of shape \(50, 3\)"),
        "density": (sp.log_density(denoiser, torch.zeros(50, 3, dtype=D)), "50 values from"),
        "prior": (guide.gaussian, "dim=3, rank=3, from 4000 draws"),
        "given": (exact.given, r"GivenModel\(model, data of y \(3,\)\)"),
    }


NAMES = [
    *("not fitted", "guide", "training", "posterior", "posteriors", "arrays", "many arrays", "portable"),
    *("run", "runs", "diagnosis", "exact", "hmc", "comparison", "site", "errors", "simulations"),
    *("calibration", "test", "score", "loss", "fit", "moments", "density", "prior", "given"),
]


def test_every_one_is_named(made):
    assert list(made) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_line_says_what_it_is(name, made):
    value, words = made[name]
    text = repr(value)
    assert "\n" not in text and len(text) < 400, text
    assert re.search(words, text), text
    assert len(str(value).splitlines()) < 40


def test_many_sites_are_counted():
    draws = {f"x{k}": torch.zeros(7, k) for k in range(30)}
    run = sp.PosteriorRun(draws, None)
    assert repr(run).startswith(
        "PosteriorRun(7 draws of x0 (0,), x1 (1,), x2 (2,), x3 (3,), x4 (4,), x5 (5,) and 24"
    )
    assert repr(sp.PosteriorRun(np.zeros((7, 2)), None)) == "PosteriorRun(7 draws of (2,); None)"
