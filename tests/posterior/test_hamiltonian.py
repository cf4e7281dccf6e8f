"""Moves on a known density, on arrays alone: right where chains mix, not trusted where they do not."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import scipy.stats
from checks import array, assert_array, host

import sdeppl as sp
from sdeppl.backend import Noise
from sdeppl.mcmc import State
from sdeppl.posterior.twisted import Pilot

SDE = sp.VPSDE()
WIDTH, Y = 0.4, 1.3


@dataclass
class Joint:
    """x_0 ~ N(0, I₂), and log_likelihood (rows, its gradient) of the first number."""

    backend: Any
    log_likelihood: Any
    why_not: str = ""
    why_no_values: str = "none"
    count: int = 1
    coordinates: str = ""
    sendable: bool = True
    others: tuple = ()

    def __call__(self, x):
        xp = self.backend.xp
        value, slope = self.log_likelihood(x[:, 0], xp)
        zero = xp.zeros_like(slope)
        return State(x, value - 0.5 * xp.sum(x**2, axis=-1), xp.stack([slope, zero], axis=-1) - x)

    def gradient(self, x):
        return self(x).gradient

    def recorded(self, x):
        return self

    def points(self, x):
        return x

    def start(self, chains, seed):
        return self(Noise(seed).stream(self.backend).normal(10_000, (chains, 2)))


def cubic(x, xp):
    """y = x + x³/3 + N(0, WIDTH²)."""
    rest = (Y - x - x**3 / 3) / WIDTH
    return -0.5 * rest**2, rest * (1 + x**2) / WIDTH


def two_modes(x, xp):
    """|x| near 2: two modes that no trajectory joins."""
    rest = (x**2 - 4) / 0.3
    return -0.5 * rest**2, -2 * x * rest / 0.3


def posterior_of(backend, likelihood, correction="auto", of=Joint, **joint):
    """A prior that tells nothing of itself, so that 'auto' has only what it sees of the density."""
    xp = backend.xp
    seen = sp.NonlinearGaussian(
        lambda x: ((x + x**3 / 3)[:, :1], xp.stack([1 + x[:, 0] ** 2, 0 * x[:, 0]], axis=-1)[:, None, :]),
        2,
        array([Y], backend),
        WIDTH**2,
    )
    prior = sp.GaussianDenoiser(SDE, array(np.zeros(2), backend), array(np.eye(2), backend))
    density = of(backend, likelihood, **joint)
    return sp.Posterior(prior, seen, correction=correction, density=density)


def truth():
    """Mean and variance of the first number, by a fine grid."""
    x = np.linspace(-8, 8, 200_001)
    weights = np.exp(cubic(x, np)[0] - 0.5 * x**2)
    weights /= weights.sum()
    mean = weights @ x
    return mean, weights @ (x - mean) ** 2, x, np.cumsum(weights)


@pytest.mark.parametrize("draws", [100, 1_000])
@pytest.mark.once
def test_the_draws_are_the_posterior(draws, precise):
    """Seed 1; limits of five standard errors of as many independent draws as they are worth."""
    run = posterior_of(precise, cubic, sp.HamiltonianMC()).run(draws, seed=1)
    found = run.diagnosis
    assert found.trusted and found.prior == "known" and found.correction == "Hamiltonian Monte Carlo"
    assert found.r_hat < 1.05 and found.divergences == 0 and math.isnan(found.log_evidence)
    assert "reference.nuts" in found.text and "ln p(y) is not known" in found.text
    assert_array(run.draws, host(run.draws), precise)
    x, size = host(run.draws)[:, 0], draws * found.ess
    mean, variance, grid, distribution = truth()
    assert abs(x.mean() - mean) < 5 * math.sqrt(variance / size)
    assert abs(x.var() / variance - 1) < 5 * math.sqrt(2 / size)
    assert scipy.stats.kstest(x, lambda v: np.interp(v, grid, distribution)).pvalue > 1e-4
    assert abs(host(run.draws)[:, 1].mean()) < 5 / math.sqrt(size)


def test_a_seed_gives_the_same_draws_and_few_draws_take_few_chains(precise):
    posterior = posterior_of(precise, cubic, sp.HamiltonianMC())
    one, other = posterior.run(40, seed=3), posterior.run(40, seed=3)
    assert np.array_equal(host(one.draws), host(other.draws))
    assert not np.array_equal(host(one.draws), host(posterior.sample(40, seed=4)))
    assert one.diagnosis.runs == 64 and posterior.run(1_000).diagnosis.runs == 125


@pytest.mark.once
def test_modes_that_no_trajectory_joins_are_not_trusted(precise):
    settings = sp.HamiltonianMC(warmup=60, max_steps=20)
    with pytest.warns(sp.UntrustedWarning, match="do not agree"):
        run = posterior_of(precise, two_modes, settings).run(100)
    assert not run.diagnosis.trusted and run.diagnosis.r_hat > 1.5


class Broken(Joint):
    def start(self, chains, seed):
        raise FloatingPointError("no number")


def test_an_error_of_one_correction_is_its_failure_and_not_the_query_s(precise, monkeypatch):
    """Of guidance: the known density is followed. Of all, or of one asked for: it is raised."""

    def fails(*_, **__):
        raise sp.NonFiniteState("NaN in the pilot")

    monkeypatch.setattr(Pilot, "_trial", fails)
    run = posterior_of(precise, cubic).run(100)
    assert run.diagnosis.correction == "Hamiltonian Monte Carlo" and run.diagnosis.trusted
    mean, variance, *_ = truth()
    assert abs(host(run.draws)[:, 0].mean() - mean) < 5 * math.sqrt(variance / 100)
    with pytest.raises(sp.NonFiniteState):
        posterior_of(precise, cubic, sp.TwistedSMC()).run(10)
    monkeypatch.setattr(sp.TemperedSMC, "plan", fails)
    broken = posterior_of(precise, cubic, of=Broken)
    with pytest.raises(FloatingPointError, match="no number"):
        broken.run(10)


@pytest.mark.once
def test_guidance_that_works_is_kept_and_what_cannot_be_followed_is_not(precise):
    posterior = posterior_of(precise, cubic)
    assert posterior.choice.hamiltonian == sp.HamiltonianMC()
    run = posterior.run(100)
    assert run.diagnosis.correction == "twisted SMC" and run.diagnosis.prior == "learned"
    assert posterior_of(precise, cubic, why_not="no derivative").choice.hamiltonian is None
    with pytest.raises(ValueError, match="no derivative"):
        posterior_of(precise, cubic, sp.HamiltonianMC(), why_not="no derivative")
    with pytest.raises(ValueError, match="warmup"):
        sp.HamiltonianMC(warmup=3)
