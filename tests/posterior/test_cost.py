"""What a run will cost is said before it is paid, what cannot fit is refused, blocks are as large as fits."""

import tracemalloc
import warnings

import numpy as np
import pytest

import sdeppl as sp
from sdeppl.backend import OutOfMemory
from sdeppl.posterior import twisted
from sdeppl.posterior.twisted import Pilot


class Clock:
    """A clock by which each look takes `step` seconds."""

    def __init__(self, step):
        self.now, self.step = 0.0, step

    def monotonic(self):
        self.now += self.step
        return self.now


def poisson(dim=2, count=2):
    prior = sp.GaussianDenoiser(sp.VPSDE(), np.zeros(dim), np.diag(np.linspace(0.5, 1.5, dim)))
    H = np.random.default_rng(0).normal(size=(count, dim)) / np.sqrt(dim)
    family = sp.likelihood.families.Poisson()
    y = np.random.default_rng(1).poisson(3.0, size=count).astype(float)
    return prior, sp.IndependentObservation(family, y, H=H, offset=1.0)


def costs(function):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function()
    return [str(one.message) for one in caught if issubclass(one.category, sp.CostWarning)]


CORRECTIONS = {
    "twisted": (sp.TwistedSMC(), "runs of 64 particles"),
    "tempered": (sp.TemperedSMC(particles=64, moves=4), "runs of 64 particles"),
    "none": (None, "20 steps of 40 paths"),
}


@pytest.mark.parametrize("kind", CORRECTIONS)
@pytest.mark.filterwarnings("ignore:20 steps are few")
def test_minutes_are_said_before_they_are_spent(kind, monkeypatch):
    """On a clock that runs fast: what will be done, for how long, and what takes less."""
    correction, words = CORRECTIONS[kind]
    posterior = sp.Posterior(*poisson(), steps=20, correction=correction)
    module = "sdeppl.backend.resources" if correction is None else f"sdeppl.posterior.{kind}"
    monkeypatch.setattr(f"{module}.time", Clock(5.0 if correction is None else 1e4))
    messages = costs(lambda: posterior.sample(40))
    assert any(words in message for message in messages), messages
    assert all("this will take about" in m or "seconds a stage" in m for m in messages)
    assert all("take less" in message for message in messages)


@pytest.mark.filterwarnings("ignore:20 steps are few")
@pytest.mark.parametrize(("draws", "most"), [(5, 700), (64, 4_200)])
def test_few_draws_are_little_work(draws, most, monkeypatch):
    """Particles of the solve itself, counted, beside the pilot's 512; 'auto' and its second try included."""
    posterior = sp.Posterior(*poisson(17, 8), steps=20)
    assert posterior.choice.correction == sp.TwistedSMC()
    Pilot.of(posterior.problem)  # made here, so that it is not counted
    rows, guide = [], type(posterior.choice.twist).guided
    kind = type(posterior.choice.twist)
    monkeypatch.setattr(kind, "guided", lambda self, x, t: rows.append(x.shape[0]) or guide(self, x, t))
    posterior.sample(draws)
    assert max(rows) <= most


@pytest.mark.filterwarnings("ignore:20 steps are few")
def test_a_second_try_has_as_many_runs_as_draws_from_8_to_32(monkeypatch):
    problem = sp.Posterior(*poisson(4, 6), steps=20, correction=sp.TwistedSMC()).problem
    wider = sp.TwistedSMC().wider(problem)
    asked, solve = [], twisted.TwistedSolve.solve

    def counted(self, runs, *rest, **settings):
        asked.append((runs, self.settings.particles))
        return solve(self, min(runs, 8), *rest, **settings)

    monkeypatch.setattr(twisted.TwistedSolve, "solve", counted)
    for draws in (1, 20, 500):
        wider(problem, draws, sp.Noise(1).stream(problem.prior.backend))
    assert asked == [(8, 512), (20, 512), (32, 512)]


def test_blocks_of_large_particles_are_small_and_hold_little(monkeypatch):
    """200 latents, 200 counts: half a million numbers a particle. Peak memory is that of one run's particles,
    not of all 512 of the pilot (2 GB), and larger runs are not tried."""
    prior, seen = poisson(200, 200)
    monkeypatch.setattr(twisted, "LARGEST", 2**22)
    posterior = sp.Posterior(prior, seen, steps=20, correction=sp.TwistedSMC(particles=8))
    twist, times = posterior.choice.twist, [1.0, 0.5, 0.0]
    problem = twisted.TwistedSolve.of(posterior.problem, twist, times, 1.0, sp.TwistedSMC(8))
    assert twisted.rows_at_once(twist) == 2**22 // posterior.choice.twist.row_numbers()
    tracemalloc.start()
    problem.solve(16, sp.Noise(0).stream(prior.backend))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * 8 * posterior.choice.twist.row_numbers() * 8, peak / 1e6


def test_blocks_are_the_same_whatever_memory_is_free(monkeypatch):
    prior, seen = poisson()
    one = sp.Posterior(prior, seen).sample(20)
    monkeypatch.setenv("SDEPPL_MEMORY_GB", "0.5")
    np.testing.assert_array_equal(sp.Posterior(prior, seen).sample(20), one)


def test_what_cannot_fit_is_refused_with_its_size_before_it_starts(monkeypatch):
    prior, seen = poisson(40, 50)
    posterior = sp.Posterior(prior, seen, correction=sp.TwistedSMC())
    exact = sp.Posterior(prior, None)
    monkeypatch.setenv("SDEPPL_MEMORY_GB", "0.001")
    with pytest.raises(OutOfMemory, match=r"particles of 40 latent numbers by likelihood='tweedie' with 50"):
        posterior.sample(10)
    with pytest.raises(
        OutOfMemory, match=r"draws=100000 takes about .* and 0\.001 GB are free; ask for fewer at a"
    ):
        exact.sample(100_000)
    assert exact.sample(10).shape == (10, 40)
