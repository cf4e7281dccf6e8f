"""Sequential Monte Carlo from the prior to the posterior by powers of the likelihood, without a twist."""

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from array_api_compat import device

from ..backend import (
    COSTLY,
    CostWarning,
    NoiseStream,
    Progress,
    array_namespace,
    real_parameter,
    warn_user,
    whole_number,
)
from ..backend.typing import Array
from ..denoisers import Denoiser, GaussianDenoiser
from ..likelihood import DensityObservation, Guided, Observation
from ..mcmc import smc
from ..sde import ReverseSDE, StepCoefficients
from ..sde.grids import time_of_half_log_snr
from ..solvers import ExponentialHeun, NonFiniteState
from .diagnosis import Diagnosis, diagnose
from .kernel import MomentKernel
from .problem import Amplitude, Correction, Drawn, JointDensity, Problem, pilot_stream
from .start import Start, start_moments

LEVELS = (1.0, 0.5, 2.0)  # of successive moves, in units of the stage's
ACCEPTANCE = 0.3  # at the stage's level, by the pilot
CHEAPER = (
    "fewer draws, or TemperedSMC of fewer particles or moves, take less, and so may likelihood='tweedie'"
)
MORE = "TemperedSMC(particles=1024, moves=64)"  # to be tried where this one was not to be trusted
FEWEST = 64  # particles of a run
PILOT_RUNS, PILOT_PARTICLES = 16, 128
OFTEN = 0.1  # NaN at fewer draws counts as zero likelihood
STAGES = 200  # after which a likelihood is taken to be none
STAGE, MOVE = 1_000_000, 1_000  # numbers of a stream that a stage and a move may use
MOST_MOVES = STAGE // MOVE // 2 - 1
LEAST_RUNS = 16  # however few draws are wanted: their differences are the diagnosis
BLOCK = 4096  # particles solved at once; blocks have noise of their own, so memory does not grow with draws
AGAIN = "once more, as the first draws are not to be trusted: "
RATIO = 1.3  # of the levels of two steps of a move
DEPTH = 10.0  # the level of a move, or the prior's smallest deviation, over the level of its last step
ROUNDING = 1e-3  # of the last level: noise for directions without variance, which have no root otherwise


@dataclass(frozen=True)
class TemperedSMC(Correction):
    """How the correction runs: many independent runs of `particles`, each giving `kept` draws.

    Particles start as draws of the prior; then p(y given x_0)^λ counts, with λ rising to 1 in stages. At
    each they are weighted and resampled, and `moves` times noised up to a level and denoised again
    (`Renoising`, which leaves the prior as it is), the new x_0' being taken with probability
    min(1, (p(y given x_0')/p(y given x_0))^λ), which leaves the stage's target as it is. A small pilot
    chooses the stages, for the share `share` of the particles to stay effective in each, and their levels,
    for 30% of the moves to be taken. Only values of p(y given x_0) are used: no l(y given x_t), no
    derivative. It costs hundreds of evaluations of the denoiser a particle, and finds what guidance misses:
    narrow, curved, bounded or several modes in few numbers.

    kept: by default an eighth of the particles; those of one run have common ancestors.

    Raises: ValueError for counts out of range. Source: Del Moral, Doucet & Jasra 2006 (SMC samplers), eq. 30
    and 31; the moves are pCN's (Cotter et al. 2013, eq. 4.9) for a Gaussian prior, here for any that has a
    denoiser.
    """

    unguided: ClassVar[str] = "tempered"

    particles: int = 256
    kept: int | None = None
    moves: int = 32
    share: float = 0.7

    def __post_init__(self) -> None:
        self._hold("particles", whole_number, 2, BLOCK)
        self._hold("moves", whole_number, 1, MOST_MOVES)
        self._hold("kept", whole_number, 1, self.particles)
        self._hold("share", real_parameter)
        if not 0 < self.share < 1:
            raise ValueError(f"TemperedSMC: share lies between 0 and 1; got {self.share!r}")

    def for_draws(self, draws: int, runs: int) -> "TemperedSMC":
        """The default settings with fewer particles, where `runs` of them give the draws all the same."""
        particles = FEWEST
        while particles < self.particles and max(particles // 8, 1) * runs < draws:
            particles *= 2
        return replace(self, particles=particles) if self == TemperedSMC() else self

    @property
    def keeps(self) -> int:
        """Draws of each run."""
        return self.kept or max(self.particles // 8, 1)

    def require(self, observation: Observation, density: JointDensity | None) -> None:
        """Raises: TypeError for a hard constraint."""
        if observation.hard:
            raise TypeError(
                f"TemperedSMC takes powers of p(y given x_0), and {type(observation).__name__} is a hard "
                "constraint, which has none; use TwistedSMC"
            )

    def draw(self, problem: Problem, draws: int, stream: NoiseStream) -> Drawn:
        """Of few draws by smaller runs, and where these are not to be trusted by whole ones.

        Raises: NonFiniteState, FloatingPointError.
        """
        settings = self.for_draws(draws, LEAST_RUNS)
        x, found = self._draw(problem, settings, draws, stream)
        if not found.trusted and settings.particles < self.particles:
            x, found = self._draw(problem, self, draws, stream, AGAIN)
        return x[None, ...], [found]

    def _draw(
        self, problem: Problem, settings: "TemperedSMC", draws: int, stream: NoiseStream, what: str = ""
    ) -> tuple[Array, Diagnosis]:
        target, plan, particles = Target.of(problem), self.plan(problem), settings.particles
        count = max(-(-draws // settings.keeps), LEAST_RUNS)
        solve = target.solve(problem.times, problem.c, settings)
        runs = solve.solve(plan.stages, count, stream, problem.progress, what, plan.seconds)
        share = smc.moved_ess_fraction(runs.moments, particles)
        how = "tempered", "tempered SMC", problem.why
        found = diagnose(*how, runs.log_evidence, share, particles, moved=True, more=MORE)
        if target.known:
            found = replace(found, likelihood="density", prior="known")
        return runs.draws[:draws, :], found

    def ess_fraction(self, problem: Problem) -> float:
        """By the pilot, as of a twisted solve."""
        return smc.Evidences.of(self.plan(problem).log_evidence).ess_fraction(PILOT_PARTICLES)

    def shortfall(self, ess: float) -> str:
        return f"tempering was not to be trusted, with an effective share of {ess:.2g}"

    def plan(self, problem: Problem) -> "Plan":
        """The stages, and what the pilot's runs tell, found once for all draws."""

        def make() -> Plan:
            solve = Target.of(problem).solve(problem.times, 1.0, self)
            return solve.plan(pilot_stream(problem))

        return problem.once(("tempered plan", self), make)


@dataclass(frozen=True)
class Target:
    """What is tempered: from prior, whose reverse SDE begins at start, to prior × p(y given x_0); known:
    whether the observation makes up for what the prior is not, so that draws follow the model's own
    density."""

    prior: Denoiser
    start: Start
    observation: Observation
    known: bool = False

    @classmethod
    def of(cls, problem: Problem) -> "Target":
        """By the known density where that is to be followed, from the Gaussian N that is like the prior, to
        powers of p(x_0) p(y given x_0)/N(x_0): at the power 1 the posterior of the model's own prior,
        whatever was learned, and p(y) its own."""
        density, observation = problem.density, problem.observation
        if density is None or not problem.follows_density:
            assert observation is not None
            return cls(problem.prior, problem.prior_start, observation)
        base = density.base(problem.prior.sde)
        ratio = _Ratio(density.log_prob, base, density)
        seen = DensityObservation(ratio, base.dim, base.location, recorded=ratio.recorded)
        start = problem.once("base start", lambda: start_moments(base))
        return cls(base, start, seen, True)

    def solve(self, times: list[float], c: Amplitude, settings: TemperedSMC) -> "TemperedSolve":
        kernel = MomentKernel(self.start.basis, self.start.variances)
        moving = Renoising(self.prior, self.start, kernel, times, c)
        return TemperedSolve(moving, self.observation, settings)


@dataclass(frozen=True)
class _Ratio:
    """x_0 ↦ ln p(x_0) + ln p(y given x_0) - ln N(x_0), rows (rows, dim) ↦ (rows,)."""

    log_prob: Callable[[Array], Array]
    base: GaussianDenoiser
    density: JointDensity

    def __call__(self, x0: Array) -> Array:
        return self.log_prob(x0) - self.base.log_prob(x0)

    def recorded(self, x0: Array) -> "_Ratio":
        """For many batches like x_0."""
        return replace(self, log_prob=self.density.recorded_log_prob(x0))


@dataclass(frozen=True)
class Stage:
    """power: λ; level: σ/α to which its moves noise."""

    power: float
    level: float


@dataclass(frozen=True)
class Plan:
    """stages; log_evidence: ln p(y) of the pilot's runs, (runs,); seconds: of a particle's move there."""

    stages: list[Stage]
    log_evidence: Array
    seconds: float


@dataclass(frozen=True)
class _Particles:
    """x (particles, dim) and ln p(y given x), (particles,)."""

    x: Array
    log_likelihood: Array

    def take(self, index: Array) -> "_Particles":
        xp = array_namespace(self.x)
        return _Particles(xp.take(self.x, index, axis=0), xp.take(self.log_likelihood, index, axis=0))


@dataclass(frozen=True)
class TemperedRuns:
    """draws: (runs × kept, dim); log_evidence: ln of each run's unbiased estimate of p(y), (runs,);
    moments: each run's means of x and of x² over its particles, (runs, 2, dim)."""

    draws: Array
    log_evidence: Array
    moments: Array


def _tell_of_pilot(seconds: float) -> None:
    """Of one stage. Warns: CostWarning where ten would take more than a minute."""
    if 10 * seconds > COSTLY:
        warn_user(
            f"a pilot of tempered SMC takes {seconds:.0f} seconds a stage, often ten of them; {CHEAPER}",
            CostWarning,
        )


def _step(k: int, j: int) -> int:
    """First number of a stream for move j of stage k."""
    return k * STAGE + (j + 1) * MOVE


@dataclass(frozen=True)
class TemperedSolve:
    """One problem: moves that leave the prior as it is, the observation, and the settings."""

    moving: "Renoising"
    observation: Observation
    settings: TemperedSMC

    def plan(self, stream: NoiseStream) -> Plan:
        """The stages, from a small solve that makes them as it goes.

        Raises: FloatingPointError where no draw of the prior can have led to the data, or λ does not rise.
        Warns: CostWarning.
        """
        xp, step = array_namespace(self.moving.start.mean), 1
        state = self._first(PILOT_RUNS * PILOT_PARTICLES, stream, 0)
        self._require_defined(state)
        quick = self._for_rows(state)
        log_evidence = xp.zeros_like(state.log_likelihood[:PILOT_RUNS])
        stages, level = [Stage(0.0, self.moving.highest)], self.moving.highest
        began = time.monotonic()
        while stages[-1].power < 1:
            power = smc.next_power(state.log_likelihood, stages[-1].power, self.settings.share)
            if len(stages) > STAGES:
                raise FloatingPointError(
                    f"after {STAGES} stages the likelihood counts to the power {power:.3g} only: p(y given "
                    "x_0) is far too narrow for TemperedSMC; use TwistedSMC"
                )
            state, added = self._reweighted(state, power - stages[-1].power, PILOT_RUNS, stream, step)
            log_evidence = log_evidence + added
            state, level = quick._adapted(state, power, level, stream, step)
            stages.append(Stage(power, level))
            step += 1
            if step == 2 and power < 1:
                _tell_of_pilot(time.monotonic() - began)
        moves = PILOT_RUNS * PILOT_PARTICLES * self.settings.moves * (step - 1)
        return Plan(stages[1:], log_evidence, (time.monotonic() - began) / moves)

    def solve(
        self,
        stages: list[Stage],
        runs: int,
        stream: NoiseStream,
        progress: bool | None = None,
        what: str = "",
        seconds: float | None = None,
    ) -> TemperedRuns:
        """All runs, block by block; what: in front of the words of a CostWarning; seconds: of a move.

        Raises: NonFiniteState. Warns: CostWarning.
        """
        xp, K, moves = self.moving.prior.backend.xp, self.settings.particles, self.settings.moves
        sizes, work = smc.blocks(runs, K, BLOCK), runs * K * moves * len(stages)
        what += f"tempered SMC by {runs} runs of {K} particles in {len(stages)} stages, {work:,} moves"
        known = None if seconds is None else seconds * work
        with Progress(len(sizes) * len(stages), progress, "sampling", "stage", what, CHEAPER, known) as bar:
            blocks = [self._block(stages, size, index, stream, bar) for index, size in enumerate(sizes)]
        return TemperedRuns(
            xp.concat([block.draws for block in blocks], axis=0),
            xp.concat([block.log_evidence for block in blocks]),
            xp.concat([block.moments for block in blocks], axis=0),
        )

    def _block(
        self, stages: list[Stage], runs: int, index: int, stream: NoiseStream, bar: Progress
    ) -> TemperedRuns:
        xp, K = self.moving.prior.backend.xp, self.settings.particles
        state = self._first(runs * K, stream, index)
        quick = self._for_rows(state)
        log_evidence, before = xp.zeros_like(state.log_likelihood[:runs]), 0.0
        for k, stage in enumerate(stages):
            state, added = self._reweighted(state, stage.power - before, runs, stream, k + 1, index)
            log_evidence, before = log_evidence + added, stage.power
            for j in range(self.settings.moves):
                level = stage.level * LEVELS[j % len(LEVELS)]
                state, _ = quick._moved(state, stage.power, level, stream, _step(k + 1, j), index)
            self._check(state, stage)
            bar.update()
        grouped = xp.reshape(state.x, (runs, K, -1))
        places = [j * K // self.settings.keeps for j in range(self.settings.keeps)]
        # neighbours have common ancestors, as resampling leaves them in order
        chosen = xp.take(grouped, xp.asarray(places, dtype=xp.int64, device=device(grouped)), axis=1)
        moments = xp.stack([xp.mean(grouped, axis=1), xp.mean(grouped * grouped, axis=1)], axis=1)
        return TemperedRuns(xp.reshape(chosen, (-1, grouped.shape[-1])), log_evidence, moments)

    def _first(self, draws: int, stream: NoiseStream, index: int) -> _Particles:
        x = self.moving.draw(stream, draws, index)
        return _Particles(x, self.observation.log_prob(x))

    def _for_rows(self, state: _Particles) -> "TemperedSolve":
        """The same, as fast as it can be made for many moves of these particles."""
        return replace(self, observation=self.observation.for_rows(state.x))

    def _reweighted(
        self, state: _Particles, rise: float, runs: int, stream: NoiseStream, k: int, index: int = 0
    ) -> tuple[_Particles, Array]:
        """Resampled for a power higher by `rise`; and what that adds to the runs' ln p(y), (runs,)."""
        xp, K = array_namespace(state.x), state.x.shape[0] // runs
        log_weights = xp.reshape(rise * state.log_likelihood, (runs, K))
        weights = smc.Weights.equal(xp.zeros_like(log_weights)).add(log_weights)
        weights, ancestors = weights.resample(stream.uniform(k * STAGE, runs, index))
        return state.take(ancestors), weights.log_evidence

    def _moved(
        self, state: _Particles, power: float, level: float, stream: NoiseStream, step: int, index: int = 0
    ) -> tuple[_Particles, Array]:
        """After one move, and which particles took it, (particles,)."""
        xp = array_namespace(state.x)
        x = self.moving.move(state.x, level, stream, step, index)
        log_likelihood = self.observation.log_prob(x)
        threshold = xp.log(stream.uniform(step, x.shape[0], index))
        taken = threshold < power * (log_likelihood - state.log_likelihood)
        return _Particles(
            xp.where(taken[:, None], x, state.x), xp.where(taken, log_likelihood, state.log_likelihood)
        ), taken

    def _adapted(
        self, state: _Particles, power: float, level: float, stream: NoiseStream, k: int
    ) -> tuple[_Particles, float]:
        """After as many moves as a stage has, and the level at which 30% of them are taken."""
        xp, trials, logs = array_namespace(state.x), self.settings.moves, []
        for j in range(trials):
            state, taken = self._moved(state, power, level, stream, _step(k, j))
            share = float(xp.mean(xp.astype(taken, state.x.dtype)))
            level = min(level * math.exp(2 * (share - ACCEPTANCE) / math.sqrt(j + 1)), self.moving.highest)
            logs.append(math.log(level))
        return state, math.exp(sum(logs[trials // 2 :]) / (trials - trials // 2))

    def _require_defined(self, state: _Particles) -> None:
        """Raises: NonFiniteState where ln p(y given x) is NaN at more than 10% of the prior's draws."""
        share = self.observation.undefined_share(state.x)
        if share > OFTEN:
            raise NonFiniteState(
                f"ln p(y given x_0) is NaN at {share:.0%} of {state.x.shape[0]} draws of the prior; check it "
                "there, or give -infinity where the model cannot have led to the data"
            )

    def _check(self, state: _Particles, stage: Stage) -> None:
        """Raises: NonFiniteState for NaN or infinity in x, or where p(y given x) is infinite."""
        xp = array_namespace(state.x)
        bad = ~xp.all(xp.isfinite(state.x), axis=-1) | (state.log_likelihood == xp.inf)
        if bool(xp.any(bad)):
            raise NonFiniteState(
                f"NaN or infinity in {int(xp.count_nonzero(bad))} of {bad.shape[0]} particles after the "
                f"stage with λ = {stage.power:.3g}; check the denoiser and p(y given x_0)"
            )


class Renoising:
    """x_0 ↦ x_0' by x_t ~ p(x_t given x_0), x_0' ~ p(x_0 given x_t), at the t where σ/α is the level.

    Reversible under the prior at any level, up to the prior's largest standard deviation: small ones move
    little, large ones draw anew. A prior that draws x_0 given x_t itself, by `conditional(x, t, z)`, is
    asked; a Gaussian one takes one step of the reverse SDE, which is exact; any other about ten, with the
    moments of the true ones (`MomentKernel`), or where a covariance costs many evaluations by
    `ExponentialHeun`: down to a tenth of the level, and of the prior's smallest standard deviation, and from
    there a draw from Tweedie's Gaussian.

    times: of a whole solve, T to 0, by which `start` draws from the prior; c: noise amplitude.
    """

    def __init__(
        self, prior: Denoiser, start: Start, kernel: MomentKernel, times: list[float], c: Amplitude
    ) -> None:
        self.prior, self.start, self.kernel, self.times = prior, start, kernel, times
        self.reverse, self.solver = ReverseSDE(prior.sde, prior, c), ExponentialHeun()
        sde = prior.sde
        # from the prior's own deviations on a move draws anew, which more noise would only make longer
        self.highest = min(math.sqrt(float(start.variances[-1])), sde.sigma(sde.T) / sde.alpha(sde.T))
        covariance = prior(start.mean[None, :], sde.T).covariance
        self.one_step, self.has_matrix = covariance.shared, covariance.materialised
        self.conditional = getattr(prior, "conditional", None)

    def draw(self, stream: NoiseStream, draws: int, index: int = 0) -> Array:
        """x_0 (draws, dim) of the prior, by the stream's numbers 0 to steps."""
        x = self.start.draw(stream, draws, index)
        times = [self.times[0], self.times[-1]] if self.one_step else self.times
        return self._denoise(x, times, stream, 1, index)

    def move(self, x: Array, level: float, stream: NoiseStream, step: int, index: int = 0) -> Array:
        """x_0' for x_0 = x (batch, dim), by the stream's numbers step, step + 1, …"""
        sde = self.prior.sde
        log_ratio = -math.log(min(level, self.highest))
        t = time_of_half_log_snr(sde, max(log_ratio, sde.half_log_snr(sde.T)))
        noised = sde.alpha(t) * x + sde.sigma(t) * stream.normal(step, tuple(x.shape), index) + sde.shift(t)
        if self.conditional is not None:
            z = stream.normal(step + 1, tuple(x.shape), index)
            return self.conditional(noised, t, z[:, None, :])[:, 0, :]
        times = [t, 0.0] if self.one_step else self._times(t, level)
        return self._denoise(noised, times, stream, step + 1, index)

    def _times(self, t: float, level: float) -> list[float]:
        """Falling from t, with σ/α falling by about `RATIO` in each step, and 0."""
        sde, log_t = self.prior.sde, self.prior.sde.half_log_snr(t)
        depth = math.log(DEPTH * max(1.0, level / self.start.smallest_sd))
        steps = math.ceil(depth / math.log(RATIO))
        places = [log_t + k / steps * depth for k in range(1, steps + 1)]
        return [t, *(time_of_half_log_snr(sde, place) for place in places), 0.0]

    def _denoise(self, x: Array, times: list[float], stream: NoiseStream, step: int, index: int) -> Array:
        for k, (s, t) in enumerate(itertools.pairwise(times)):
            z = stream.normal(step + k, tuple(x.shape), index)
            x = self._step(x, s, t, z) if self.one_step or self.has_matrix else self._by_mean(x, s, t, z)
        return x

    def _step(self, x: Array, s: float, t: float, z: Array) -> Array:
        """By the mean and the covariance of x_0 given x_s."""
        sde, unguided = self.prior.sde, Guided.unguided(self.prior(x, s))
        ratio = sde.sigma(s) / sde.alpha(s)
        coefficients = self.reverse.coefficients(s, t)
        if t == 0:
            coefficients = StepCoefficients(0.0, 1.0, 0.0, ROUNDING * ratio)
        return self.kernel.propose(x, unguided, coefficients, ratio**2).draw(z)[0]

    def _by_mean(self, x: Array, s: float, t: float, z: Array) -> Array:
        """By the mean alone; at the last level the covariance is (σ/α)² to a hundredth."""
        if t > 0:
            return self.solver.step(self.reverse, x, s, t, z)[0]
        return self.prior.mean(x, s) + self.prior.sde.sigma(s) / self.prior.sde.alpha(s) * z
