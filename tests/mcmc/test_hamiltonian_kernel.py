"""The kernel on every backend: a correlated Gaussian far from the origin, its moments and its convergence."""

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from checks import array, assert_array, covariance_matrix, host
from scipy import special, stats

from sdeppl.backend import Noise, backend_of, ndtri
from sdeppl.mcmc import Run, Scale, State, bulk_ess, convergence, propose, r_hat, sample, warm_up

DIM, CHAINS, WARMUP, DRAWS = 4, 64, 120, 100
MEAN = np.array([0.3, -20.0, 300.0, 5.0])
SD = np.array([2.0, 0.1, 50.0, 1.0])
COVARIANCE = SD[:, None] * covariance_matrix(DIM, 3) * SD


@dataclass(frozen=True)
class Normal:
    """ln p of N(mean, precision⁻¹) but for a constant; force: times the gradient."""

    mean: Any
    precision: Any
    force: float = 1.0

    def __call__(self, z):
        xp, pull = backend_of(z).xp, (z - self.mean) @ self.precision
        return State(z, -0.5 * xp.sum(pull * (z - self.mean), axis=-1), -self.force * pull)

    def gradient(self, z):
        return -self.force * ((z - self.mean) @ self.precision)


class Numbers:
    """The next ones of a seed."""

    def __init__(self, seed, backend):
        self.stream, self.backend, self.step = Noise(seed).stream(backend), backend, 0

    def normal(self, shape):
        self.step += 1
        return self.stream.normal(self.step, shape)

    def uniform(self, count):
        self.step += 1
        return self.stream.uniform(self.step, count)

    def integers(self, count, below):
        return self.backend.xp.astype(self.uniform(count) * below, self.backend.xp.int64)


def normal_on(backend, force=1.0):
    return Normal(array(MEAN, backend), array(np.linalg.inv(COVARIANCE), backend), force)


def run_on(backend, density, seed=0):
    bar = SimpleNamespace(update=lambda: None)
    return Run(density, Numbers(seed, backend), 100, bar)


def first_on(backend, density):
    """Wider than the posterior."""
    rows = np.random.default_rng(1).standard_normal((CHAINS, DIM))
    return density(array(MEAN + 2 * SD * rows, backend))


@pytest.mark.parametrize("dense", [True, False])
def test_moments_of_a_correlated_gaussian(dense, precise):
    """Within five standard errors, by the effective sizes of the draws and of their squares; seed 0."""
    density = normal_on(precise)
    run = run_on(precise, density)
    state, tuned, _ = warm_up(run, first_on(precise, density), WARMUP, dense, 0.8)
    found = sample(run, state, tuned, DRAWS)
    assert_array(found.z, host(found.z), precise)
    z = host(found.z)
    checked = convergence(found.z)
    assert host(checked.r_hat).max() < 1.05 and found.tuning["divergences"] == 0
    assert host(checked.bulk_ess).min() > (CHAINS * DRAWS / 4 if dense else 500)
    sd = np.sqrt(np.diag(COVARIANCE))
    flat, size = z.reshape(-1, DIM), host(bulk_ess(found.z))
    assert np.all(np.abs(flat.mean(0) - MEAN) < 5 * sd / np.sqrt(size))
    squares = (found.z - array(MEAN, precise)) ** 2
    assert np.all(np.abs(flat.var(0) / sd**2 - 1) < 5 * np.sqrt(2 / host(bulk_ess(squares))))
    white = (flat - MEAN) @ np.linalg.inv(np.linalg.cholesky(COVARIANCE)).T
    cross = np.corrcoef(white.T) - np.eye(DIM)
    assert np.abs(cross).max() < 5 / math.sqrt(size.min())


def test_the_adaptation_finds_scale_step_and_length(precise):
    """L Lᵀ is the covariance to a third, trajectories half a period to a whole one, acceptance the target."""
    density = normal_on(precise)
    run = run_on(precise, density, 2)
    state, tuned, _ = warm_up(run, first_on(precise, density), WARMUP, True, 0.8)
    found = sample(run, state, tuned, 60)
    L = host(tuned.scale.L)
    ratio = np.linalg.eigvals(np.linalg.solve(COVARIANCE, L @ L.T)).real
    assert ratio.min() > 0.6 and ratio.max() < 1.6
    assert 1.0 < tuned.length.average < 2 * math.pi
    assert 0.7 < found.tuning["acceptance"] < 0.97


def test_metropolis_makes_up_for_a_wrong_force_and_nothing_makes_up_for_his_absence(precise):
    """With half the gradient as the force trajectories still keep N(0, 1), since their volume is one; taken
    without the choice, they do not. 400 chains, 40 iterations from exact draws, seed 5."""
    one = Normal(array([0.0], precise), array([[1.0]], precise), 0.5)
    random, scale = Numbers(5, precise), Scale(array([1.0], precise))
    for chosen in (True, False):
        state, total = one(random.normal((400, 1))), 0.0
        for _ in range(40):
            end = propose(one, state, random.normal((400, 1)), scale, 0.9, 3)
            taken = random.uniform(400) < end.acceptance
            state = end.state.where(taken, state) if chosen else end.state
            total += float(precise.xp.mean(state.z**2)) / 40
        # the squares of 16,000 draws, at worst 4 of them to an effective one
        assert (abs(total - 1) < 5 * math.sqrt(2 / 4_000)) == chosen, total


def test_convergence_is_the_same_on_every_backend(backend):
    """Ties among draws that every dtype holds, and a number that never varies; against ranks by SciPy."""
    draws = np.random.default_rng(0).integers(0, 40, (4, 30, 3)) / 8.0
    draws[..., 2] = 1.0
    found = convergence(array(draws, backend))
    flat = draws[..., :2].reshape(-1, 2)

    def hat(values):
        ranks = stats.rankdata(values, axis=0)
        scores = special.ndtri((ranks - 0.375) / (120 + 0.25)).reshape(4, 30, 2)
        halves = np.concatenate([scores[:, :15], scores[:, 15:]])
        within = halves.var(axis=1, ddof=1).mean(axis=0)
        return np.sqrt((14 / 15 * within + halves.mean(axis=1).var(axis=0, ddof=1)) / within)

    away = np.abs(flat - np.sort(flat, axis=0)[59])
    np.testing.assert_allclose(host(found.r_hat)[:2], np.maximum(hat(flat), hat(away)), rtol=1e-5)
    assert np.isnan(host(found.r_hat)[2])
    assert host(r_hat(array(draws, backend))).shape == (3,)


def test_ndtri(backend):
    p = np.array([1e-6, 0.02, 0.5, 0.9, 0.999])
    assert_array(ndtri(array(p, backend)), special.ndtri(p), backend)
