"""Counts, seeds and parameters of Python, NumPy and torch are the same numbers."""

import datetime
import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

import sdeppl as sp
from sdeppl.backend import real_number, real_times, seed_number, whole_number
from sdeppl.posterior import TemperedSMC

D = torch.float64
WHOLE = [10, np.int64(10), np.uint8(10), np.array(10), torch.tensor(10), torch.tensor(10, dtype=torch.int32)]
NOT_WHOLE = [10.0, np.float64(10), "10", None, True, np.True_, np.array(True), torch.tensor(True), 1 + 0j]
NOT_WHOLE += [np.array([10]), torch.tensor([10]), torch.tensor(10.0), Fraction(10), [10], float("nan")]


@pytest.mark.parametrize("value", WHOLE, ids=repr)
def test_whole_numbers(value):
    found = whole_number("draws", value, 1, 10)
    assert found == 10 and type(found) is int and type(seed_number(value)) is int


@pytest.mark.parametrize("value", NOT_WHOLE, ids=repr)
def test_what_is_no_whole_number(value):
    for kind in (ValueError, TypeError):
        with pytest.raises(kind, match=r"^draws must be a whole number, at least 1; got ") as caught:
            whole_number("draws", value, 1)
        assert str(caught.value).endswith(repr(value))


def test_bounds_are_said():
    with pytest.raises(ValueError, match=r"^n must be a whole number from 2 to 5; got 6$"):
        whole_number("n", np.int64(6), 2, 5)
    for seed in (-1, 2**64):
        with pytest.raises(ValueError, match=rf"^seed must be .* from 0 to 2\*\*64 - 1; got {seed}$"):
            seed_number(seed)
    assert seed_number(np.uint64(2**64 - 1)) == 2**64 - 1


def test_real_numbers():
    for value in (0.5, np.float32(0.5), np.array(0.5), torch.tensor(0.5), Fraction(1, 2)):
        found = real_number(value)
        assert found == 0.5 and type(found) is float
    for value in ("0.5", None, np.array([0.5]), 0.5j, torch.tensor(0.5, requires_grad=True), np.array("a")):
        assert real_number(value) is None


def test_times():
    for times in ([0, 0.5], (0.0, Fraction(1, 2)), np.array([0.0, 0.5]), pd.Series([0.0, 0.5]), range(0, 1)):
        assert real_times("", times) == [0.0, 0.5][: len(times)]
    assert real_times("", (0.5 * k for k in range(2))) == [0.0, 0.5]
    for times in (pd.date_range("2020", periods=3), [datetime.date(2020, 1, 1)], np.array(["2020"], "M8[D]")):
        with pytest.raises(TypeError, match=r"^a path: times are dates or times; give numbers"):
            real_times("a path: ", times)
    with pytest.raises(TypeError, match="times must be numbers in a row"):
        real_times("", 1.0)


DENOISER = sp.GaussianDenoiser(sp.VPSDE(), np.zeros(2), np.eye(2))
SEEN = sp.LinearGaussian(np.eye(2), np.ones(2), 0.5)
POSTERIOR = sp.Posterior(DENOISER, None)


def model(y=None):
    x = pyro.sample("x", dist.Normal(torch.tensor([1.0, 2.0], dtype=D), 1.0).to_event(1))
    pyro.sample("y", dist.Normal(x, 0.5).to_event(1), obs=y)


GUIDE = sp.ScoreGuide(model, net=None, seed=10)
TRAINING = sp.ScoreMatching(GUIDE, draws=100)
DATA = {"y": [1.0, 2.0]}
TRUTHS = np.random.default_rng(0).standard_normal((20, 11))
SIMULATIONS = sp.Simulations(TRUTHS[:, 0], TRUTHS[:, 1:])
CALLS = {
    "draws": lambda n: POSTERIOR.sample(n),
    "seed": lambda n: POSTERIOR.sample(3, seed=n),
    "steps": lambda n: sp.Posterior(DENOISER, None, steps=n).times,
    "many": lambda n: sp.Posteriors(DENOISER, SEEN, np.ones((2, 2)), steps=n).sample(n, seed=n),
    "noise": lambda n: sp.Noise(n),
    "path": lambda n: sp.BrownianPath(seed=n, cells=n),
    "uniform": lambda n: sp.uniform_grid(0.0, 1.0, n),
    "snr": lambda n: sp.log_snr_grid(sp.VPSDE(), n),
    "edm": lambda n: sp.edm_grid(sp.EDMSDE(), n),
    "ito": lambda n: sp.ItoSDE(lambda x, t: x, lambda x, t: x, noise="general", wiener_dim=n).wiener_dim,
    "twisted": lambda n: sp.TwistedSMC(particles=n, kept=n),
    "tempered": lambda n: TemperedSMC(particles=n, kept=n, moves=n),
    "langevin": lambda n: sp.LangevinCorrector(steps=n, nodes=n),
    "levy": lambda n: sp.MilsteinLevy(terms=n),
    "heun": lambda n: sp.EDMHeun(steps=n),
    "corrections": lambda n: sp.PredictorCorrector(sp.EulerMaruyama(), corrections=n),
    "control": lambda n: sp.PIController(max_steps=n),
    "solve": lambda n: sp.solve(sp.VPSDE(), np.ones((3, 2)), [0.0, 0.5, 1.0], noise=sp.Noise(n)).states,
    "cells": lambda n: sp.FokkerPlanckGrid(sp.VPSDE(), -3.0, 3.0, n, "numpy").cells,
    "several cells": lambda n: sp.FokkerPlanckGrid(sp.VPSDE(), -3.0, 3.0, (n, 5), "numpy").cells,
    "dim": lambda n: sp.CallableDenoiser(sp.VPSDE(), lambda x, t: x, dim=n).dim,
    "monte carlo": lambda n: sp.MonteCarloDenoiser(DENOISER, SEEN, samples=n, rounds=n, seed=n).xi,
    "nested": lambda n: sp.NestedDenoiser(DENOISER, SEEN, samples=n, steps=n, seed=n).times,
    "tweedie": lambda n: sp.TweedieDenoiser(DENOISER, SEEN, iterations=n, rank=n).iterations,
    "probes": lambda n: sp.log_density(DENOISER, np.ones((1, 2)), t=0.01, probes=n, seed=n).value,
    "guide": lambda n: (
        sp.ScoreGuide(model, net=None, seed=n).fit_gaussian(n, progress=False).gaussian.location
    ),
    "training": lambda n: sp.ScoreMatching(GUIDE, draws=n, seed=n, batch=n).batch,
    "fit": lambda n: TRAINING.fit(n, every=n, progress=False).losses,
    "nuts": lambda n: sp.reference.nuts(
        model, DATA, draws=n, warmup=n, chains=1, seed=n, progress=False
    ).draws["x"],
    "hmc": lambda n: sp.reference.hmc(
        model, DATA, draws=n, warmup=20, chains=n, seed=n, max_steps=n, progress=False
    ).draws["x"],
    "exact": lambda n: sp.reference.exact(model, DATA, draws=n, seed=n).draws["x"],
    "sbc": lambda n: str(sp.sbc(SIMULATIONS, seed=n)),
    "tarp": lambda n: str(sp.tarp(SIMULATIONS, seed=n)),
    "coverage": lambda n: str(sp.coverage(SIMULATIONS, seed=n)),
    "compare": lambda n: str(sp.compare({"x": TRUTHS[0]}, {"x": TRUTHS[1]}, seed=n, classifier=False)),
    "score": lambda n: str(sp.check_score(DENOISER, np.ones((200, 2)) * TRUTHS[0, :2], levels=n, seed=n)),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CALLS)
def test_every_count_and_seed_takes_them(name):
    plain = CALLS[name](10)
    for other in (np.int64(10), torch.tensor(10)):
        found = CALLS[name](other)
        if isinstance(plain, (np.ndarray, torch.Tensor)):
            assert found.shape == plain.shape and bool((found == plain).all())
        else:
            assert repr(found) == repr(plain)
    for wrong in (10.0, True):
        with pytest.raises((TypeError, ValueError), match=r"must be a whole number.*; got (10\.0|True)"):
            CALLS[name](wrong)


def test_parameters_of_numpy():
    plain = sp.VPSDE(sp.LinearSchedule(0.1, 20.0), T=1.0)
    same = sp.VPSDE(sp.LinearSchedule(np.array(0.1), np.float32(20.0)), T=torch.tensor(1.0))
    assert same == plain and math.isclose(same.sigma(0.3), plain.sigma(0.3))
    for R in (np.float32(0.5), np.array(0.5), np.float64(0.5), torch.tensor(0.5)):
        torch.testing.assert_close(
            sp.LinearGaussian(torch.eye(2), torch.ones(2), R).R, torch.full((2,), 0.5), rtol=0, atol=0
        )
    assert sp.ReverseSDE(sp.VPSDE(), DENOISER, np.array(0.5)).c == 0.5
    with pytest.raises(TypeError, match="times are dates or times"):
        sp.solve(sp.VPSDE(), np.ones((3, 2)), pd.date_range("2020", periods=3))
    with pytest.raises(TypeError, match="SDEPath: times are dates or times"):
        sp.SDEPath(sp.VPSDE(), dist.Normal(0.0, 1.0), pd.date_range("2020", periods=3))
