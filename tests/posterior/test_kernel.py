"""One step of a twisted solve: its moments, its weight, and systematic resampling."""

import math

import numpy as np
import pytest
import scipy.stats
from checks import array, assert_array, covariance_matrix, host

import sdeppl as sp
from sdeppl.likelihood import Guided, PseudoObservation, SiteApproximation
from sdeppl.linalg import Dense
from sdeppl.mcmc.smc import ess_fraction, normalised, systematic
from sdeppl.posterior.kernel import MomentKernel
from sdeppl.sde import StepCoefficients

STEP = StepCoefficients(decay=0.8, first=0.35, second=0.0, noise=0.4)
ROWS = 3


def case(backend, dim, count, shared):
    """Prior moments of ROWS states, an observation of each, and all in NumPy."""
    rng = np.random.default_rng(dim)
    C = np.stack([covariance_matrix(dim, seed, 0.2, 4.0) for seed in range(ROWS)])
    C = np.broadcast_to(C[0], C.shape) if shared else C
    H, R = rng.standard_normal((count, dim)), np.linspace(0.2, 0.6, count)
    x, m, mean = (rng.standard_normal((ROWS, dim)) for _ in range(3))
    covariance = Dense(array(C[0] if shared else C, backend))
    prior = sp.Moments(array(m, backend), covariance)
    noise = SiteApproximation(array(np.zeros(count), backend), array(R, backend), 0.0, True)
    seen = PseudoObservation(array(H, backend), noise)
    zero = array(np.zeros(ROWS), backend)
    return x, m, mean, C, H, R, Guided(prior, array(mean, backend), zero, seen)


def kernel_on(backend, dim):
    return MomentKernel(array(np.eye(dim), backend), array(np.ones(dim), backend))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("dim", "count"), [(1, 1), (4, 2), (5, 7)])
def test_the_density_ratio_is_that_of_two_gaussians(dim, count, shared, precise):
    """Guided N(centre, ν² I + f² (C - K H C)), unguided N(decay x + f m, ν² I + f² C), at drawn points."""
    x, m, mean, C, H, R, guided = case(precise, dim, count, shared)
    proposal = kernel_on(precise, dim).propose(array(x, precise), guided, STEP, 1.0)
    z = np.random.default_rng(9).standard_normal((ROWS, dim))
    drawn, log_weight = proposal.draw(array(z, precise))
    expected, white = [], []
    for i in range(ROWS):
        gain = C[i] @ H.T @ np.linalg.inv(H @ C[i] @ H.T + np.diag(R))
        V = STEP.noise**2 * np.eye(dim) + STEP.first**2 * C[i]
        narrow = V - STEP.first**2 * gain @ H @ C[i]
        base = STEP.decay * x[i]
        unguided = scipy.stats.multivariate_normal(base + STEP.first * m[i], V)
        own = scipy.stats.multivariate_normal(base + STEP.first * mean[i], narrow)
        point = host(drawn)[i]
        expected.append(unguided.logpdf(point) - own.logpdf(point))
        off = point - base - STEP.first * mean[i]
        white.append(off @ np.linalg.solve(narrow, off))
    assert_array(log_weight, expected, precise, 1e-9)
    np.testing.assert_allclose(white, np.sum(z**2, axis=1), rtol=1e-9)  # so its covariance is the guided one


def test_a_known_covariance_in_place_of_an_observation(precise):
    x, m, mean, C, _, _, guided = case(precise, 4, 2, False)
    given = np.stack([covariance_matrix(4, seed, 0.1, 1.0) for seed in (7, 8, 9)])
    guided = Guided(guided.prior, guided.mean, guided.log_likelihood, None, array(given, precise))
    z = np.random.default_rng(9).standard_normal((ROWS, 4))
    drawn, log_weight = (
        kernel_on(precise, 4).propose(array(x, precise), guided, STEP, 1.0).draw(array(z, precise))
    )
    expected = []
    for i in range(ROWS):
        base, V = STEP.decay * x[i], STEP.noise**2 * np.eye(4) + STEP.first**2 * C[i]
        own = STEP.noise**2 * np.eye(4) + STEP.first**2 * given[i]
        point = host(drawn)[i]
        unguided = scipy.stats.multivariate_normal(base + STEP.first * m[i], V).logpdf(point)
        expected.append(
            unguided - scipy.stats.multivariate_normal(base + STEP.first * mean[i], own).logpdf(point)
        )
    assert_array(log_weight, expected, precise, 1e-9)


def test_rows_taken_are_the_rows(precise):
    x, *_, guided = case(precise, 4, 2, False)
    proposal = kernel_on(precise, 4).propose(array(x, precise), guided, STEP, 1.0)
    z = array(np.random.default_rng(9).standard_normal((ROWS, 4)), precise)
    index = precise.xp.asarray([2, 0, 2], device=precise.device)
    xp = precise.xp
    drawn, weight = proposal.take(index).draw(xp.take(z, index, axis=0))
    all_drawn, all_weights = proposal.draw(z)
    assert_array(drawn, host(all_drawn)[[2, 0, 2]], precise, 1e-13)
    assert_array(weight, host(all_weights)[[2, 0, 2]], precise, 1e-13)


def test_systematic_resampling_copies_each_particle_as_often_as_it_should(backend):
    """⌊n w⌋ or ⌈n w⌉ times, n w on average over the uniform: 400 of them, evenly placed."""
    weights = np.array([[0.05, 0.5, 0.25, 0.2], [0.7, 0.0, 0.1, 0.2]])
    counts = np.zeros((2, 4))
    for u in (np.arange(400) + 0.5) / 400:
        index = host(systematic(array(weights, backend), array([u, u], backend), 10)).astype(int)
        found = np.stack([np.bincount(row, minlength=4) for row in index])
        assert np.all(np.abs(found - 10 * weights) < 1 + 1e-6)
        counts += found / 400
    np.testing.assert_allclose(counts, 10 * weights, atol=2e-2)


def test_weights_and_their_mean(backend):
    logs = np.array([[-1.0, 0.5, 700.0 if "64" in str(backend.dtype) else 80.0], [-3.0, -3.0, -3.0]])
    weights, log_mean = normalised(array(logs, backend))
    shifted = np.exp(logs - logs.max(axis=1, keepdims=True))
    assert_array(weights, shifted / shifted.sum(axis=1, keepdims=True), backend)
    assert_array(log_mean, logs.max(axis=1) + np.log(shifted.mean(axis=1)), backend)
    assert_array(ess_fraction(weights)[1:], [1.0], backend)


@pytest.mark.filterwarnings("ignore:divide by zero")
def test_a_run_of_impossible_particles(precise):
    weights, log_mean = normalised(array([[-math.inf, -math.inf], [0.0, -math.inf]], precise))
    np.testing.assert_array_equal(host(weights), [[0.5, 0.5], [1.0, 0.0]])
    assert host(log_mean)[0] == -math.inf
    assert host(log_mean)[1] == pytest.approx(math.log(0.5))
