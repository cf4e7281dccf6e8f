"""Twisted sequential Monte Carlo over the reverse SDE: exact whatever the mean likelihood."""

import bisect
import itertools
import math
import time
from dataclasses import dataclass, replace
from typing import ClassVar

from ..backend import (
    NoiseStream,
    Progress,
    array_namespace,
    real_parameter,
    require_memory,
    to_host,
    whole_number,
)
from ..backend.sharing import cached_property
from ..backend.typing import Array
from ..likelihood import Guided, MeanLikelihood
from ..mcmc import smc
from ..sde import IsotropicSDE, ReverseSDE, StepCoefficients, log_snr_grid
from ..sde.grids import time_of_half_log_snr
from ..solvers import NonFiniteState, Watch
from .diagnosis import FEW_RUNS, Diagnosis, diagnose
from .guided import each, explained_worse, middle_of, named
from .kernel import MomentKernel
from .problem import Amplitude, Correction, Draw, Drawn, Problem, pilot_stream
from .start import Start

BLOCK = 4096  # particles solved at once; blocks have noise of their own, so memory does not grow with draws
LARGEST = (
    2**26
)  # numbers held at once for a block's particles; not by free memory, as blocks have their noise
CHEAPER = (
    "fewer draws or steps take less, and so do likelihood='pigdm' or 'sda', or correction=None, whose draws "
    "are the approximation's own"
)
SMALLER = (
    "use correction=None, TwistedSMC(particles=...) of fewer particles, likelihood='sda' or 'dps', or fewer "
    "latents"
)
WIDER = 8  # times the particles
LEAST_RUNS = 8  # of one data set among many: fewer say nothing of how they differ
LEAST_PARTICLES = 16  # of their runs
WIDER_RUNS = 32  # of 8 times the particles, at least, but for fewer draws than that
AGAIN = "once more, as the first draws are not to be trusted: "
PILOT = "a pilot: "
PILOT_RUNS, PILOT_PARTICLES, PILOT_STEPS = 16, 32, 50
PILOT_SETS = 16  # of many data sets, evenly among the others in order, with half as many runs of each
EVEN_STEPS = 0.3  # share of the steps that is spread evenly, whatever the pilot says
SMOOTH = 0.3  # roughness of a whole solve that is not worth a grid of its own
FLOOR = 0.1  # of l at T: 0.01 leaves heavy tails, 1 keeps too many particles that are to no avail


@dataclass(frozen=True)
class TwistedSMC(Correction):
    """How the correction runs: many independent runs of `particles`, each giving `kept` draws.

    Particles follow the guided reverse SDE and carry the weights that make them draws of the unguided one
    times p(y given x_0), for any twist l(y given x_t): a better one makes the weights more even. A run
    resamples, systematically, where its effective sample size falls below `resample_below` of its
    particles. Draws of one run are dependent where it has resampled; runs are independent of each other, and
    their average over- or underweights by about (relative variance of a weight)/particles.

    particles: of a run; kept: by default half of the particles times their effective share in a small
    pilot solve, an eighth at least. particles ≥ the number of draws, with kept as many, is one large run.

    Raises: ValueError for counts out of range. Source: Wu et al. 2023 (TDS); here the moments of the steps
    are matched (`MomentKernel`), and there are many runs for one.
    """

    batched: ClassVar[bool] = True

    particles: int = 64
    kept: int | None = None
    resample_below: float = 0.5

    def __post_init__(self) -> None:
        self._hold("particles", whole_number, 1, BLOCK)
        self._hold("kept", whole_number, 1, self.particles)
        self._hold("resample_below", real_parameter)
        if not 0 <= self.resample_below <= 1:
            raise ValueError(
                f"TwistedSMC: resample_below is a share from 0 to 1; got {self.resample_below!r}"
            )

    def keeping(self, ess: float) -> "TwistedSMC":
        """These settings with `kept` chosen for an effective share."""
        if self.kept is not None:
            return self
        return replace(self, kept=max(int(self.particles * min(max(ess, 0.25), 1.0) / 2), 1))

    def _times_wider(self, problem: Problem) -> "TwistedSMC":
        """Runs of 8 times the particles, or what a block holds; of which as large a share is kept."""
        most = rows_at_once(Pilot.of(problem).twist)
        particles = max(min(WIDER * self.particles, most), self.particles)
        kept = max((self.kept or 1) * particles // self.particles, 1)
        return replace(self, particles=particles, kept=kept)

    def draw(self, problem: Problem, draws: int, stream: NoiseStream) -> Drawn:
        """With as many draws kept of each run as the pilot found to be worth it; of many data sets each has
        runs of its own, and depends on no other, given what the pilot found.

        Raises: NonFiniteState; FloatingPointError where no particle can
        have led to the data.
        """
        settings, count = self._runs(problem, draws, LEAST_RUNS if problem.many else 1)
        return settings._draw(problem, draws, count, stream)

    def wider(self, problem: Problem) -> Draw | None:
        """By runs of 8 times the particles, of which 8 times as many are kept, where they fit into a block:
        of one data set 32 runs or more, for fewer draws as many as these, but not below the 8 that tell their
        spread."""
        if self.ess_fraction(problem) < 0 or self._times_wider(problem).particles <= self.particles:
            return None

        def draw(problem: Problem, draws: int, stream: NoiseStream) -> Drawn:
            least = LEAST_RUNS if problem.many else min(WIDER_RUNS, max(draws, FEW_RUNS))
            settings, count = self._runs(problem, draws, least, wider=True)
            return settings._draw(problem, draws, count, stream, AGAIN)

        return draw

    def ess_fraction(self, problem: Problem) -> float:
        """By the pilot: the mean over its data sets."""
        return Pilot.of(problem).ess_fraction

    def shortfall(self, ess: float) -> str:
        return f"guidance was not to be trusted, with an effective share of {ess:.2g}"

    def measure(self, problem: Problem) -> Diagnosis:
        """The effective share of the approximation without a correction, by the pilot."""
        pilot = Pilot.of(problem)
        return _diagnosis(problem, pilot.twist, None, pilot.runs, PILOT_PARTICLES)

    def _kept(self, problem: Problem) -> "TwistedSMC":
        """With `kept` by the pilot. Raises: FloatingPointError where no particle of it can have led to the
        data."""
        if problem.many:
            return self.keeping(self.ess_fraction(problem))
        return self.keeping(self.measure(problem).ess)

    def _runs(
        self, problem: Problem, draws: int, least: int, wider: bool = False
    ) -> tuple["TwistedSMC", int]:
        """Settings for one data set's draws, and how many runs of it.

        Of one data set among many by default of no more particles than leave half of the effective ones
        unused, 16 at least and 64 at most.
        """
        settings = self._kept(problem)
        if problem.many and self == TwistedSMC():
            ess, needed = min(self.ess_fraction(problem), 1.0), -(-draws // LEAST_RUNS)
            particles = LEAST_PARTICLES
            while particles < self.particles and particles * ess < 2 * needed:
                particles *= 2
            settings = replace(self, particles=particles)._kept(problem)
        if wider:
            settings = settings._times_wider(problem)
        count = max(-(-draws // (settings.kept or settings.particles)), least)
        return replace(settings, kept=-(-draws // count)), count  # as few of each run as will do

    def _draw(self, problem: Problem, draws: int, count: int, stream: NoiseStream, what: str = "") -> Drawn:
        """`count` runs of each data set, of which the first draws are taken."""
        xp, pilot, sets = problem.prior.backend.xp, Pilot.of(problem), problem.sets
        solve = TwistedSolve.of(problem, pilot.twist, pilot.times, problem.c, self)
        total = count if sets is None else count * sets.shape[0]
        of_runs = None if sets is None else each(sets, count)
        runs = solve.solve(total, stream, False, problem.progress, of_runs, what, pilot.runs.seconds)
        x = xp.reshape(runs.draws, (total // count, -1, problem.prior.dim))[:, :draws, :]
        found = [
            _judged(problem, pilot.twist, runs.part(k * count, count), self.particles, x[k, ...])
            for k in range(x.shape[0])
        ]
        return x, found


@dataclass(frozen=True)
class Pilot:
    """twist: of one or two, that which leaves the weights of a small solve more even; runs: of that solve;
    times: of the steps of a whole one, short where the weights become uneven; ess_fraction: mean over data
    sets, -1 where no particle can have led to any."""

    twist: MeanLikelihood
    runs: "Runs"
    times: list[float]
    ess_fraction: float

    @classmethod
    def of(cls, problem: Problem) -> "Pilot":
        """Of this problem, found once for all draws."""
        return problem.once("twisted pilot", lambda: cls._made(problem))

    @classmethod
    def _made(cls, problem: Problem) -> "Pilot":
        sde, choice = problem.prior.sde, problem.choice
        times = log_snr_grid(sde, PILOT_STEPS, problem.level)
        twists = [twist for twist in (choice.twist, choice.alternative_twist) if twist is not None]
        stream, tried = pilot_stream(problem), []
        for twist in twists:
            runs, each_set = cls._trial(problem, twist, times, stream)
            tried.append((twist, runs, cls._ess_fraction(runs, each_set)))
        twist, runs, ess = max(tried, key=lambda one: one[2])
        assert runs.roughness is not None
        grid = adapted_grid(sde, times, runs.roughness, problem.steps, problem.level)
        return cls(twist, runs, grid, ess)

    @staticmethod
    def _trial(
        problem: Problem, twist: MeanLikelihood, times: list[float], stream: NoiseStream
    ) -> tuple["Runs", int]:
        """A small solve, of some of the data sets where there are many; and how many runs each had."""
        solve = TwistedSolve.of(problem, twist, times, 1.0, TwistedSMC(PILOT_PARTICLES))
        count = twist.observation.sets
        if count is None:
            return solve.solve(PILOT_RUNS, stream, measure=True, progress=False, what=PILOT), PILOT_RUNS
        xp, few, runs = stream.backend.xp, min(count, PILOT_SETS), PILOT_RUNS // 2
        places = [k * count // few for k in range(few)]
        sets = each(xp.asarray(places, dtype=xp.int64, device=stream.backend.device), runs)
        return solve.solve(few * runs, stream, True, False, sets, PILOT), runs

    @staticmethod
    def _ess_fraction(runs: "Runs", each_set: int) -> float:
        groups = to_host(runs.log_evidence).reshape(-1, each_set)
        found = [smc.Evidences.of(logs).ess_fraction(PILOT_PARTICLES) for logs in groups]
        return max(found) if max(found) < 0 else sum(max(one, 0.0) for one in found) / len(found)


@dataclass(frozen=True)
class Runs:
    """What all runs gave.

    draws: (runs × kept, dim); log_evidence: ln of each run's unbiased estimate of p(y), (runs,);
    final_share: effective share of its particles at the end, (runs,); roughness: standard deviation of the
    log weights' increments in each step, (steps,), averaged over the runs, or None where it was not wanted;
    seconds: of a particle and step.
    """

    draws: Array
    log_evidence: Array
    final_share: Array
    roughness: Array | None
    seconds: float = 0.0

    def part(self, first: int, count: int) -> "Runs":
        """Evidence and final share of some of the runs."""
        some = slice(first, first + count)
        return replace(self, log_evidence=self.log_evidence[some], final_share=self.final_share[some])


@dataclass(frozen=True)
class TwistedSolve:
    """One problem: the guided denoiser, the reverse SDE's times and amplitude, its start and its steps."""

    twist: MeanLikelihood
    times: list[float]
    c: Amplitude
    start: Start
    kernel: MomentKernel
    settings: TwistedSMC

    @classmethod
    def of(
        cls, problem: Problem, twist: MeanLikelihood, times: list[float], c: Amplitude, settings: TwistedSMC
    ) -> "TwistedSolve":
        """From the prior's end, by steps that all solves of a posterior share."""
        start = problem.prior_start
        kernel = problem.once("kernel", lambda: MomentKernel(start.basis, start.variances))
        return cls(twist, times, c, start, kernel, settings)

    def solve(
        self,
        runs: int,
        stream: NoiseStream,
        measure: bool = False,
        progress: bool | None = None,
        sets: Array | None = None,
        what: str = "",
        seconds: float | None = None,
    ) -> Runs:
        """All runs, block by block; sets: the data set of each, (runs,), where the twist has many.

        what: in front of the words of a CostWarning; seconds: of a particle and step, where a pilot told.
        Raises: NonFiniteState; OutOfMemory before what does not fit. Warns: CostWarning.
        """
        xp, steps, K = self.twist.backend.xp, len(self.times) - 1, self.settings.particles
        sizes = smc.blocks(runs, K, rows_at_once(self.twist))
        self._require_memory(max(sizes) * K)
        work = runs * K * steps
        what += f"{runs} runs of {K} particles and {steps} steps by likelihood='{self.twist.name}', "
        what += f"{work:,} evaluations"
        known, began = None if seconds is None else seconds * work, time.monotonic()
        bar = Progress(len(sizes) * steps, progress, "sampling", "step", what, CHEAPER, known)
        with bar, named(self.twist):
            blocks = [
                self._of_block(sets, sizes, index)._block(size, index, stream, measure, bar)
                for index, size in enumerate(sizes)
            ]
            evidence = xp.concat([b.log_evidence for b in blocks])
            lost = int(xp.count_nonzero(xp.isnan(evidence)))
            if lost:
                raise NonFiniteState(f"the weights of {lost} of {runs} runs are not a number")
        roughness = xp.mean(xp.stack([b.roughness for b in blocks]), axis=0) if measure else None
        return Runs(
            xp.concat([b.draws for b in blocks], axis=0),
            evidence,
            xp.concat([b.final_share for b in blocks]),
            roughness,
            (time.monotonic() - began) / work,
        )

    def _require_memory(self, rows: int) -> None:
        twist = self.twist
        if twist.observation.count:
            what = f"{rows} particles of {twist.dim} latent numbers by likelihood='{twist.name}' with "
            what += f"{twist.observation.count} observed ones"
            require_memory(rows * twist.row_numbers() * twist.backend.itemsize, twist.backend, what, SMALLER)

    def _of_block(self, sets: Array | None, sizes: list[int], index: int) -> "TwistedSolve":
        """With a row of data for each particle of a block, where runs are of many data sets."""
        if sets is None:
            return self
        xp, first, size = array_namespace(sets), sum(sizes[:index]), sizes[index]
        chosen = xp.broadcast_to(sets[first : first + size, None], (size, self.settings.particles))
        return replace(self, twist=self.twist.of_sets(xp.reshape(chosen, (-1,))))

    @cached_property
    def _defensive_twist(self) -> "DefensiveTwist":
        return DefensiveTwist.of(self.twist, self.start.mean)

    def _block(self, runs: int, index: int, stream: NoiseStream, measure: bool, bar: Progress) -> Runs:
        xp, sde, K = self.twist.backend.xp, self.twist.sde, self.settings.particles
        reverse = ReverseSDE(sde, self.twist, self.c)
        x = self.start.draw(stream, runs * K, index)
        state = smc.Weights.equal(xp.zeros_like(xp.reshape(x[:, 0], (runs, K))))
        watch = Watch(x, self.times, every=1)
        previous: Array | float = 0.0
        roughness: list[Array] = []
        for k, (s, t) in enumerate(itertools.pairwise(self.times)):
            step = reverse.coefficients(s, t)
            last = t == self.times[-1] and not step.noise
            guided = self.twist.guided(x, s)
            guided = guided if last else self._defensive_twist(guided)
            state = state.add(xp.reshape(guided.log_likelihood - previous, (runs, K)))
            if measure:
                roughness.append(state.roughness)
            if last:
                x, previous = self._last(guided, step), guided.log_likelihood
                break
            state, ancestors = state.resample(
                stream.uniform(k + 1, runs, index), self.settings.resample_below
            )
            proposal = self.kernel.propose(x, guided, step, (sde.sigma(s) / sde.alpha(s)) ** 2).take(
                ancestors
            )
            x, increment = proposal.draw(stream.normal(k + 1, tuple(x.shape), index))
            state = state.add(xp.reshape(increment, (runs, K)), starts=True)
            previous = xp.take(guided.log_likelihood, ancestors, axis=0)
            watch.note(x)
            if (k + 1) % math.ceil(len(self.times) / 10) == 0:
                watch.check(x)
            bar.update()
        bar.update()
        watch.note(x)
        watch.check(x)
        state = self._with_data(state, x, previous)
        uniforms = stream.uniform(len(self.times), runs, index)
        kept, log_evidence, final_share = state.keep(self.settings.kept or K, uniforms)
        steps = xp.stack(roughness) if roughness else None
        return Runs(xp.take(x, kept, axis=0), log_evidence, final_share, steps)

    def _with_data(self, state: smc.Weights, x: Array, previous: Array | float) -> smc.Weights:
        """Weighted by p(y given x_0) in place of the last twist; a hard constraint has none."""
        observation = self.twist.observation
        if observation.hard or not observation.count:
            return state
        log_likelihood = observation.log_prob(x)
        _require_density(log_likelihood)
        increment = log_likelihood - previous
        return state.add(array_namespace(x).reshape(increment, (-1, self.settings.particles)))

    @staticmethod
    def _last(guided: Guided, step: StepCoefficients) -> Array:
        """The step to t = 0, where x_0 is E[x_0 given x_t, y] to rounding of the last level."""
        x = step.first * guided.mean
        return x if step.shift is None else x + step.shift


def rows_at_once(twist: MeanLikelihood) -> int:
    """Particles of a block, but for a single run of more: by their size alone, whatever is free."""
    return min(BLOCK, LARGEST // twist.row_numbers()) if twist.observation.count else BLOCK


def _judged(
    problem: Problem, twist: MeanLikelihood, runs: Runs, particles: int, x: Array
) -> Diagnosis | None:
    """The diagnosis of one data set's draws x (draws, dim). Raises: FloatingPointError where there is one
    alone, and no particle can have led to it."""
    try:
        found = _diagnosis(problem, twist, "twisted SMC", runs, particles)
    except FloatingPointError:
        if problem.many:
            return None
        raise
    if not found.trusted or problem.many:
        return found
    # weights can be even where all particles went astray together
    middle = middle_of(problem.prior, problem.prior_start)
    worse = explained_worse(problem.prior, middle, twist.observation, x)
    if worse is None:
        return found
    return replace(found, trusted=False, text=f"{found.text}: do not trust these draws, {worse}")


def _diagnosis(
    problem: Problem, twist: MeanLikelihood, correction: str | None, runs: Runs, particles: int
) -> Diagnosis:
    final_share = float(problem.prior.backend.xp.mean(runs.final_share))
    more = "TwistedSMC(particles=512)"
    return diagnose(twist.name, correction, problem.why, runs.log_evidence, final_share, particles, more=more)


def _require_density(log_likelihood: Array) -> None:
    """Raises: NonFiniteState where p(y given x_0) is infinite."""
    xp = array_namespace(log_likelihood)
    infinite = log_likelihood == xp.inf
    if bool(xp.any(infinite)):
        raise NonFiniteState(
            f"p(y given x_0) is infinite at {int(xp.count_nonzero(infinite))} of {infinite.shape[0]} "
            "particles, which would outweigh all others; check the density of the data there"
        )


@dataclass(frozen=True)
class DefensiveTwist:
    """l(y given x_t) + floor in place of l(y given x_t), floor = 0.1 × l(y given x_T).

    A mean likelihood that takes p(x_0 given x_t) for too narrow calls data impossible that are not. The few
    particles that come through in spite of it then have nearly all of the weight, and in most solves there
    are none: ln p(y) comes out low, and its standard error too small to tell. l at T knows nothing of x_0:
    it is the prior's predictive density of y, and wide. Above the floor, l and the floor cannot be short of
    the true l by more than the true l over the floor. Guidance stays that of l.

    log_floor: (1,), or one for each particle. Source: defensive importance sampling (Hesterberg 1995), here
    of twists.
    """

    log_floor: Array

    @classmethod
    def of(cls, twist: MeanLikelihood, x: Array) -> "DefensiveTwist":
        """From l at x = E[x_T], (dim,), of each data set where there are many."""
        xp, rows = array_namespace(x), twist.observation.sets or 1
        return cls(
            twist.log_likelihood(xp.broadcast_to(x, (rows, x.shape[0])), twist.sde.T) + math.log(FLOOR)
        )

    def __call__(self, guided: Guided) -> Guided:
        """With l defended."""
        xp = array_namespace(self.log_floor)
        return replace(guided, log_likelihood=xp.logaddexp(guided.log_likelihood, self.log_floor))


def adapted_grid(
    sde: IsotropicSDE, times: list[float], roughness: Array, steps: int, level: float
) -> list[float]:
    """steps + 1 times from T to 0, dense in ln(α/σ) where `roughness` per unit of it is large.

    times: of the pilot, steps + 1 of them; roughness: (pilot steps,), spread of the log weights'
    increments in the step that ends at each of times[:-1]; level: σ/α before the last step. A share of the
    steps is spread evenly.
    """
    spreads = [float(v) for v in to_host(roughness)][1:]
    levels = [sde.half_log_snr(t) for t in times[:-1]]
    lengths = [b - a for a, b in itertools.pairwise(levels)]
    total, span = sum(spreads), levels[-1] - levels[0]
    if not math.isfinite(total):
        return log_snr_grid(sde, steps, level)
    even = max(EVEN_STEPS / (1 - EVEN_STEPS) * total, SMOOTH)
    weights = [r + even * h / span for r, h in zip(spreads, lengths, strict=True)]
    reached = [0.0]
    for weight in weights:
        reached.append(reached[-1] + weight)
    places = []
    for k in range(1, steps - 1):
        goal = k / (steps - 1) * reached[-1]
        i = min(max(bisect.bisect_right(reached, goal) - 1, 0), len(weights) - 1)
        places.append(levels[i] + lengths[i] * (goal - reached[i]) / weights[i])
    last = -math.log(level)
    inner = [time_of_half_log_snr(sde, place) for place in places if place < last]
    return [sde.T, *inner, time_of_half_log_snr(sde, last), 0.0]
