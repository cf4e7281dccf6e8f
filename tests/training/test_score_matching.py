"""Training: loops, resumption, bookkeeping and what comes out."""

import math
import warnings

import numpy as np
import pyro
import pytest
import torch
from small_trainings import gaussian_model, laplace_model, make, same

import sdeppl as sp
from sdeppl.training import score_matching


def test_a_loop_by_hand_is_fit_at_a_constant_rate():
    by_hand = make()
    losses = [by_hand.step() for _ in range(6)]
    assert losses == by_hand.losses
    rates = []
    training = make()
    training._set_rate = lambda index, steps: rates.append((index, steps))
    training.fit(6, progress=False)
    same(by_hand, training)
    assert rates[:6] == [(i, 6) for i in range(6)]


def test_the_rate_falls_on_a_cosine_and_comes_back():
    training = make(lr=0.01)
    seen = []
    step = training.step
    training.step = lambda: seen.append(training.optimiser.param_groups[0]["lr"]) or step()
    training.fit(8, progress=False)
    expected = [0.005 * (1 + math.cos(math.pi * i / 8)) for i in range(8)]
    np.testing.assert_allclose(seen, expected, rtol=1e-12)
    # so that a step by hand after it is a step
    assert training.optimiser.param_groups[0]["lr"] == pytest.approx(0.01)


def test_averaged_weights():
    training = make(ema=0.6)
    training.prepare(progress=False)
    expected = [p.clone() for p in training.network.parameters()]
    for index in range(25):
        training.step()
        decay = min(0.6, (1 + index) / (10 + index))
        raw = training.network.parameters()
        expected = [decay * e + (1 - decay) * p.detach() for e, p in zip(expected, raw, strict=True)]
    for found, value in zip(training.guide.net.parameters(), expected, strict=True):
        torch.testing.assert_close(found, value, rtol=1e-5, atol=1e-7)
    latest = torch.cat([p.detach().flatten() for p in training.network.parameters()])
    mean = torch.cat([p.flatten() for p in training.guide.net.parameters()])
    assert float((latest - mean).abs().max()) > 1e-5
    assert not any(p.requires_grad for p in training.guide.net.parameters())


def test_seeds_reproduce_and_differ():
    one, again, other = make(seed=3), make(seed=3), make(seed=4)
    for training in (one, again, other):
        torch.rand(1)  # the global state has no say
        training.fit(4, progress=False)
    same(one, again)
    assert not set(one.losses) & set(other.losses)


def test_training_leaves_the_global_random_state_alone():
    torch.manual_seed(2)
    expected = torch.rand(3)
    torch.manual_seed(2)
    make().fit(3, progress=False)
    assert torch.equal(torch.rand(3), expected)


def test_no_batch_sees_a_row_twice(monkeypatch):
    monkeypatch.setattr(score_matching, "POOL", 100)
    training = make(batch=30)
    training.prepare(progress=False)
    rows = torch.cat([training._fresh(index) for index in range(10)])
    assert rows.shape == (300, 2)
    assert len(torch.unique(rows, dim=0)) == 300
    # nor validation, nor the moments
    held_out = training.guide.fitted().standardise(
        training.guide.prior_batch(100, score_matching.HELD_OUT, 0, 0)
    )
    moments = training.guide.fitted().standardise(training.guide.prior_batch(100, 0, 0))
    assert not torch.isin(rows[:, 0], held_out[:, 0]).any()
    assert not torch.isin(rows[:, 0], moments[:, 0]).any()
    # and the same again after a resumption
    assert torch.equal(training._fresh(4), rows[120:150])


def test_fit_of_no_steps_is_the_gaussian_part():
    training = make().fit(0, progress=False)
    reference = sp.ScoreGuide(laplace_model, net=None).fit_gaussian(2000, progress=False)
    assert training.losses == [] and not training.guide.use_net
    mine, theirs = (g.condition(y=[0.0, 1.0]).sample(20)["x"] for g in (training.guide, reference))
    assert torch.equal(mine, theirs)


def test_without_a_network():
    guide = sp.ScoreGuide(laplace_model, net=None)
    training = sp.ScoreMatching(guide, draws=500).fit(10, progress=False)
    assert guide.gaussian.draws == 500 and training.losses == []
    with pytest.raises(ValueError, match="net=None"):
        training.step()
    with pytest.raises(ValueError, match="no network to validate"):
        training.validate()


def test_a_network_that_adds_nothing_is_dropped():
    # seed 0; over seeds a network without use is kept once in 740
    training = make(gaussian_model, draws=100_000).fit(30, progress=False)
    assert not training.gain.useful and not training.guide.use_net
    assert training.gain.mean < 3 * training.gain.standard_error
    draws = training.guide.condition(y=[3.0, 0.0]).sample(20_000)["x"].numpy()
    precision = 1 / 9 + 4
    mean = (np.array([1.0, -2.0]) / 9 + 4 * np.array([3.0, 0.0])) / precision
    # 5 standard errors of 20 000 draws, and as much again for moments from 100 000
    np.testing.assert_allclose(draws.mean(0), mean, atol=0.035)
    np.testing.assert_allclose(draws.std(0), precision**-0.5, rtol=0.03)


def test_gain_is_measured_against_loss_one():
    training = make()
    training.prepare(progress=False)
    gain = training.validate(draws=8192)
    # the untrained network returns 0
    assert (gain.mean, gain.useful) == (0.0, False)
    with torch.no_grad():
        training.guide.net.leave.bias.fill_(0.5)
    # E r² - E (0.5 ρ - r)² = -0.25 E ρ² + E ρ r, and E ρ r = 0; ρ² = α²/(α² + σ²) of a whitened x_0,
    # averaged over ln(α/σ) from T to ln 1000
    sde = training.guide.sde
    ratio = np.exp(2 * np.linspace(sde.half_log_snr(sde.T), math.log(1e3), 10_001))
    gain = training.validate(draws=8192)
    assert gain.mean == pytest.approx(
        -0.25 * float(np.mean(ratio / (1 + ratio))), abs=5 * gain.standard_error + 0.01
    )
    assert 0.003 < gain.standard_error < 0.012
    assert not sp.Gain(0.029, 0.01).useful and sp.Gain(0.031, 0.01).useful


def test_training_on_throws_kept_draws_away():
    training = make()
    guide = training.guide
    training.prepare(progress=False)
    y = torch.tensor([0.0, 1.0])
    guide(y=y)
    assert "draws" in guide._cache
    training.step()
    assert not guide._cache
    pyro.set_rng_seed(0)
    after = torch.stack([guide(y=y)["x"] for _ in range(5)])
    assert type(guide.condition(y=y, likelihood="tweedie").arrays.denoiser.prior) is sp.NetworkDenoiser
    guide.forget()
    pyro.set_rng_seed(0)
    assert torch.equal(after, torch.stack([guide(y=y)["x"] for _ in range(5)]))


@pytest.mark.parametrize(
    "arguments", [{"lr": 0.0}, {"lr": -1.0}, {"batch": 0}, {"batch": 10_000}, {"ema": 1.0}, {"ema": -0.1}]
)
def test_arguments_out_of_range(arguments):
    with pytest.raises(ValueError, match=r"need lr > 0.*got"):
        make(**arguments)


def test_fit_arguments_out_of_range():
    with pytest.raises(ValueError, match="steps must be a whole number, at least 0; got -1"):
        make().fit(-1)
    with pytest.raises(ValueError, match="every must be a whole number, at least 1; got 0"):
        make().fit(3, every=0)
    for steps in (1.5, "3", None):
        with pytest.raises(TypeError, match="steps must be a whole number, at least 0; got "):
            make().fit(steps)


def test_only_a_guide_is_trained():
    with pytest.raises(TypeError, match="expected a ScoreGuide, got a function"):
        sp.ScoreMatching(laplace_model)


def test_steps_that_were_made_already():
    training = make().fit(3, progress=False)
    losses = list(training.losses)
    with pytest.warns(UserWarning, match="nothing to do: 3 steps were already made; steps counts in all"):
        training.fit(3, progress=False)
    assert training.losses == losses
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", sp.UntrustedWarning)  # of four steps
        training.fit(4, progress=False)
    assert len(training.losses) == 4
