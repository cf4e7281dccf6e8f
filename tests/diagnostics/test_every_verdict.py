"""Every verdict there is, on a right posterior and on one that is wrong on purpose, as the report reads it.

Wrong are: half the variance of the noise, a score or a covariance that is too long, a prior with a narrow
mode that training draws alone have, and chains that sit in two modes. Seeds are stated where they are used.
"""

import functools
import re

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import sdeppl as sp
from sdeppl.linalg import Dense
from sdeppl.reporting import Check

D = torch.float64
MEAN, COVARIANCE = np.array([1.0, -2.0]), np.array([[2.0, 0.6], [0.6, 0.5]])
H, NOISE, Y = np.array([[1.0, 0.5], [0.0, 1.5]]), 0.8, np.array([1.0, -2.0])
QUIET = {"progress": False}


def line(y=None, noise=NOISE):
    x = pyro.sample("x", dist.MultivariateNormal(torch.tensor(MEAN), torch.tensor(COVARIANCE)))
    pyro.sample("y", dist.Normal(torch.tensor(H) @ x, noise).to_event(1), obs=y)


def quieter(y=None):
    line(y, NOISE / 2**0.5)


def two_modes(y=None):
    x = pyro.sample("x", dist.Normal(torch.tensor(0.0, dtype=D), 10.0))
    pyro.sample("y", dist.Normal(x * x, 1.0), obs=y)


MODELS = {True: line, False: quieter}


@functools.cache
def guide():
    return sp.ScoreGuide(line, net=None).fit_gaussian(100_000, progress=False)


@functools.cache
def simulations(right):
    return sp.simulate_posteriors(guide(), 1_000, 39, model=MODELS[right], backend="numpy", **QUIET)


def posterior(right):
    return guide().condition(y=Y, model=MODELS[right], backend="numpy")


def exact():
    return sp.reference.exact(line, {"y": Y})


def denoiser(right, factor=1.05):
    """The prior's, or one whose score is 5% too long, and its covariance as much too large."""
    true = sp.GaussianDenoiser(sp.VPSDE(), MEAN, COVARIANCE)
    if right:
        return true

    def mean(x, t):
        alpha = true.sde.alpha(t)
        return (x - factor * (x - alpha * true.mean(x, t))) / alpha

    def covariance(x, t):
        return Dense(1.3 * true(x, t).covariance.dense())

    return sp.CallableDenoiser(true.sde, mean, covariance, 2, true.backend)


def draws(count=10_000):
    return np.random.default_rng(1).multivariate_normal(MEAN, COVARIANCE, count)


def chains(run, right):
    if right:
        return run(line, {"y": Y})
    with pytest.warns(sp.reference.ChainWarning):
        return run(two_modes, {"y": torch.tensor(64.0, dtype=D)})


def report(right, tmp_path):
    return sp.report(posterior(right), tmp_path / "page.html", reference=exact(), draws=1_000)


hmc = functools.partial(sp.reference.hmc, chains=64, warmup=60, draws=50, seed=4, max_steps=20, **QUIET)
nuts = functools.partial(sp.reference.nuts, chains=4, warmup=80, draws=100, seed=1, **QUIET)
VERDICTS = {  # right ↦ what the check returns; why not
    "compare": (lambda right: sp.compare(posterior(right).run(2_000), exact()), r"x: sd\[.\] off by -"),
    "sbc": (lambda right: sp.sbc(simulations(right)), r"'ln p\(y given ·\)' draws too large"),
    "tarp": (lambda right: sp.tarp(simulations(right)), "has coverage that is off from its level by up to"),
    "coverage": (lambda right: sp.coverage(simulations(right)), "holds the truth too seldom"),
    "posterior_sbc": (
        lambda right: sp.posterior_sbc(
            guide(), y=Y, sets=600, draws=39, settings={"model": MODELS[right]}, **QUIET
        ),
        r"'(ln p\(y given ·\)|x\[.\])' draws too (large|narrow)",
    ),
    "local_c2st": (
        lambda right: sp.local_c2st(
            simulations(right), Y, posterior(right).sample(400), nulls=60, **QUIET
        ),
        r"P\(truth\) is off from ½ by",
    ),
    "check_score": (lambda right: sp.check_score(denoiser(right), draws()), "the score is wrong"),
    "check_covariance": (
        lambda right: sp.check_covariance(denoiser(right), draws()), "the covariance is wrong"
    ),
    "check_loss": (
        lambda right: sp.check_loss(denoiser(right, 1.1), draws(), exact=denoiser(True)), "above the floor"
    ),
    "hmc": (lambda right: chains(hmc, right), "split R-hat up to"),
    "nuts": (lambda right: chains(nuts, right), "split R-hat up to"),
}  # fmt: skip


@pytest.mark.parametrize("name", VERDICTS)
def test_a_right_one_is_trusted_and_a_wrong_one_is_not_with_the_reason(name):
    make, reason = VERDICTS[name]
    right, wrong = (Check.of(name, make(right)) for right in (True, False))
    assert right.state == "trusted", right.text
    assert wrong.state == "do not trust" and wrong.text.startswith("do not trust"), wrong.text
    assert re.search(reason, wrong.text), wrong.text


def test_the_report_says_the_same_of_all_of_them(tmp_path):
    right, wrong = (report(right, tmp_path) for right in (True, False))
    assert right.state == "trusted"
    assert wrong.state == "do not trust" and "x: sd[0] off by -" in wrong.verdict


def test_a_reference_that_does_not_trust_itself_settles_nothing():
    bad = chains(hmc, False)
    found = sp.compare({"x": bad.draws["x"]}, bad, classifier=False)
    assert found.verdict.startswith("cannot tell: the reference is not to be trusted itself: split R-hat")
    assert Check.of("reference", found).state == "cannot tell"
