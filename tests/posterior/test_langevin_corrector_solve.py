"""Solves with a Langevin corrector at a small t: draws of p(x_0 | y) from approximate rungs."""

import dataclasses

import numpy as np
import pytest
import scipy.stats
from checks import boxed, host
from langevin_targets import (
    SDE,
    assert_moments,
    gaussian_on,
    gaussian_target,
    largest_distance,
    mixture_on,
)

import sdeppl as sp
from sdeppl.posterior import start_moments
from sdeppl.posterior.langevin import LangevinCorrector, solve_corrected, tune_corrector


@pytest.mark.parametrize("rung", [sp.PiGDMDenoiser, sp.SDADenoiser], ids=["pigdm", "sda"])
@pytest.mark.parametrize("known", [True, False], ids=["density", "score"])
def test_wrong_draws_become_the_posterior(rung, known):
    """4,000 draws, 40 steps, seed 7: the distance of Kolmogorov and Smirnov falls below that which exact
    draws exceed in 1e-3 of the cases along each of four directions, from more than twice as much."""
    numpy = sp.resolve("numpy")
    prior, seen = mixture_on(numpy)
    guided = rung(prior if known else boxed(prior), seen)
    times, count = sp.log_snr_grid(SDE, 50, 1e-3), 4_000
    stream = sp.Noise(7).stream(numpy)
    x = start_moments(prior).draw(stream, count)
    reverse = sp.ReverseSDE(SDE, guided, 1.0)
    wrong = sp.solve(reverse, x, times, solver=sp.ExponentialHeun(), noise=stream, keep="last").states[-1]
    corrected = solve_corrected(guided, x, times, 1.0, LangevinCorrector(steps=40), stream)
    limit = scipy.stats.kstwo.isf(1e-3, count)
    assert largest_distance(wrong, 0.0) > 2 * limit
    assert largest_distance(corrected.x, 0.0) < limit


def curved_on(numpy):
    """A Gaussian prior seen through .7 x² + y, and both numbers' distribution functions by quadrature."""
    prior = sp.GaussianDenoiser(SDE, np.array([0.3, -0.2]), np.array([[1.0, 0.3], [0.3, 0.6]]))

    def predictor(x):
        slopes = np.stack([1.4 * x[:, 0], np.ones(len(x))], axis=-1)
        return (0.7 * x[:, 0] ** 2 + x[:, 1])[:, None], slopes[:, None, :]

    seen = sp.NonlinearGaussian(predictor, 2, np.array([0.8]), 0.15)
    line = np.linspace(-6, 6, 601)
    grid = np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2)
    logs = prior.log_density(grid, 1e-12) + seen.log_prob(grid)
    mass = np.exp(logs - logs.max()).reshape(601, 601)
    sums = [np.cumsum(mass.sum(axis=axis)) / mass.sum() for axis in (1, 0)]
    return prior, seen, [lambda x, sums=s: np.interp(x, line + 0.01, sums) for s in sums]


@pytest.mark.parametrize("rung", [sp.TweedieDenoiser, sp.PiGDMDenoiser], ids=["tweedie", "pigdm"])
def test_a_nonlinear_observation_gives_its_posterior(rung):
    """As above, a Gaussian prior and a curved predictor, against quadrature (seed 1, 3,000 draws)."""
    prior, seen, functions = curved_on(sp.resolve("numpy"))
    times, stream, count = sp.log_snr_grid(SDE, 50, 1e-3), sp.Noise(1).stream(prior.backend), 3_000
    guided, x = rung(prior, seen), start_moments(prior).draw(stream, count)
    reverse = sp.ReverseSDE(SDE, guided, 1.0)
    wrong = sp.solve(reverse, x, times, solver=sp.ExponentialHeun(), noise=stream, keep="last").states[-1]
    corrected = solve_corrected(guided, x, times, 1.0, LangevinCorrector(steps=40), stream)
    far, near = (
        max(scipy.stats.kstest(draws[:, i], functions[i]).statistic for i in (0, 1))
        for draws in (wrong, corrected.x)
    )
    limit = scipy.stats.kstwo.isf(1e-3, count)
    assert far > 2 * limit
    assert near < limit


@pytest.mark.parametrize("c", [0.0, 1.0])
@pytest.mark.parametrize("level", [None, 0.3, 1e-4])
def test_a_corrected_solve_of_a_gaussian_has_the_exact_moments(c, level):
    """2,000 draws, seed 9, a shifted SDE; 6e-5 of fresh seeds fail. Steps have noise of their own."""
    numpy, sde = sp.resolve("numpy"), sp.ShiftedVPSDE(-6.0)
    prior, seen = gaussian_on(numpy, sde)
    rung = sp.TweedieDenoiser(prior, seen)
    stream = Recorded(sp.Noise(9).stream(numpy))
    x = start_moments(rung).draw(stream, 2_000)
    settings = LangevinCorrector(steps=4, level=level)
    corrected = solve_corrected(rung, x, sp.log_snr_grid(sde, 60, 1e-3), c, settings, stream)
    mean, covariance = gaussian_target(1e-12)
    assert_moments(corrected.x, mean, covariance)
    assert len(set(stream.taken)) == len(stream.taken)


class Recorded:
    """A stream that remembers which normals were taken."""

    def __init__(self, stream):
        self.stream, self.backend, self.taken = stream, stream.backend, []

    def normal(self, step, shape, index=0):
        self.taken.append(step)
        return self.stream.normal(step, shape, index)

    def uniform(self, step, count, index=0):
        return self.stream.uniform(step, count, index)

    def draws(self, step, s, t, kinds, shapes):
        self.taken.append(step)
        return self.stream.draws(step, s, t, kinds, shapes)


def test_a_tuned_solve_accepts_what_is_best(precise):
    """From a hundred states at T: h such that .57 are taken, of which the draws know nothing."""
    prior, seen = mixture_on(precise)
    rung, times = sp.PiGDMDenoiser(prior, seen), sp.log_snr_grid(SDE, 20, 1e-3)
    stream = sp.Noise(12).stream(precise)
    wild = LangevinCorrector(step_size=200.0)
    tuned = tune_corrector(rung, start_moments(prior).draw(stream, 100), times, 1.0, wild, stream)
    stream = sp.Noise(13).stream(precise)
    corrected = solve_corrected(rung, start_moments(prior).draw(stream, 300), times, 1.0, tuned, stream)
    assert dataclasses.replace(tuned, step_size=200.0) == wild
    assert host(corrected.acceptance).mean() == pytest.approx(0.574, abs=0.08)


def test_a_level_above_the_start_is_refused():
    numpy = sp.resolve("numpy")
    rung, stream = sp.TweedieDenoiser(*mixture_on(numpy)), sp.Noise(0).stream(numpy)
    with pytest.raises(ValueError, match=r"before the solve starts, at t = 0\.5; use a smaller level"):
        solve_corrected(rung, np.zeros((2, 2)), [0.5, 0.1, 0.0], 1.0, LangevinCorrector(level=100.0), stream)


def test_a_posterior_may_ask_for_it():
    """By `correction=`: the same draws as the function's; the diagnosis is that of the rung alone."""
    numpy = sp.resolve("numpy")
    prior, seen = mixture_on(numpy)
    settings = LangevinCorrector(steps=5)
    posterior = sp.Posterior(prior, seen, "sda", steps=50, correction=settings)
    run = posterior.run(40, seed=3, c=0.0)
    stream = sp.Noise(3).stream(numpy)
    x = posterior.start.draw(stream, 40)
    expected = solve_corrected(posterior.denoiser, x, posterior.times, 0.0, settings, stream)
    np.testing.assert_allclose(run.draws, expected.x, rtol=1e-12)
    assert run.diagnosis.correction is None


def test_chains_that_hardly_move_are_reported_and_a_black_box_is_tuned():
    """A step far too long; and an observation without a Jacobian, with a step size found on other states."""
    numpy = sp.resolve("numpy")
    prior, seen = mixture_on(numpy)
    stuck = LangevinCorrector(steps=3, step_size=1e4)
    with pytest.warns(sp.UntrustedWarning, match="the Langevin steps hardly move"):
        sp.Posterior(prior, seen, "tweedie", steps=30, correction=stuck).sample(50)
    box = sp.DensityObservation(seen.log_prob, prior.dim, prior.means)
    settings = LangevinCorrector(steps=3)
    posterior = sp.Posterior(prior, box, "monte-carlo", steps=30, correction=settings)
    posterior.sample(20, seed=1)
    assert settings.tuned_for(posterior.problem).step_size is not None
