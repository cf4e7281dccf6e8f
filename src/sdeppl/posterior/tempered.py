"""Sequential Monte Carlo from the prior to the posterior by powers of the likelihood, without a twist."""

import math
import time
from dataclasses import dataclass, replace
from typing import Any

from array_api_compat import array_namespace, device

from ..backend import COSTLY, CostWarning, NoiseStream, Progress, real_parameter, warn_user, whole_number
from ..likelihood import Observation
from ..solvers import NonFiniteState
from .renoising import Renoising
from .resampling import in_all, normalised, systematic
from .tempering import next_power
from .twisted import BLOCK, block_sizes

LEVELS = (1.0, 0.5, 2.0)  # of successive moves, in units of the stage's
ACCEPTANCE = 0.3  # at the stage's level, by the pilot
CHEAPER = (
    "fewer draws, or TemperedSMC of fewer particles or moves, take less, and so may likelihood='tweedie'"
)
FEWEST = 64  # particles of a run
RUNS, PARTICLES = 16, 128  # of the pilot
OFTEN = 0.1  # NaN at fewer draws counts as zero likelihood
STAGES = 200  # after which a likelihood is taken to be none
STAGE, MOVE = 1_000_000, 1_000  # numbers of a stream that a stage and a move may use
MOST_MOVES = STAGE // MOVE // 2 - 1


@dataclass(frozen=True)
class TemperedSMC:
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

    particles: int = 256
    kept: int | None = None
    moves: int = 32
    share: float = 0.7

    def __post_init__(self) -> None:
        for name, least, most in (("particles", 2, BLOCK), ("moves", 1, MOST_MOVES)):
            value = whole_number(f"TemperedSMC: {name}", getattr(self, name), least, most)
            object.__setattr__(self, name, value)
        if self.kept is not None:
            object.__setattr__(self, "kept", whole_number("TemperedSMC: kept", self.kept, 1, self.particles))
        object.__setattr__(self, "share", real_parameter("TemperedSMC: share", self.share))
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


@dataclass(frozen=True)
class Stage:
    """power: λ; level: σ/α to which its moves noise."""

    power: float
    level: float


@dataclass(frozen=True)
class Plan:
    """stages; log_evidence: ln p(y) of the pilot's runs, (runs,); seconds: of a particle's move there."""

    stages: list[Stage]
    log_evidence: Any
    seconds: float


@dataclass(frozen=True)
class _Particles:
    """x (particles, dim) and ln p(y given x), (particles,)."""

    x: Any
    log_likelihood: Any

    def take(self, index: Any) -> "_Particles":
        xp = array_namespace(self.x)
        return _Particles(xp.take(self.x, index, axis=0), xp.take(self.log_likelihood, index, axis=0))


@dataclass(frozen=True)
class TemperedRuns:
    """draws: (runs × kept, dim); log_evidence: ln of each run's unbiased estimate of p(y), (runs,);
    moments: each run's means of x and of x² over its particles, (runs, 2, dim)."""

    draws: Any
    log_evidence: Any
    moments: Any


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

    moving: Renoising
    observation: Observation
    settings: TemperedSMC

    def plan(self, stream: NoiseStream) -> Plan:
        """The stages, from a small solve that makes them as it goes.

        Raises: FloatingPointError where no draw of the prior can have led to the data, or λ does not rise.
        Warns: CostWarning.
        """
        xp, step = array_namespace(self.moving.start.mean), 1
        state = self._first(RUNS * PARTICLES, stream, 0)
        self._require_defined(state)
        quick = self._for_rows(state)
        log_evidence = xp.zeros_like(state.log_likelihood[:RUNS])
        stages, level = [Stage(0.0, self.moving.highest)], self.moving.highest
        began = time.monotonic()
        while stages[-1].power < 1:
            power = next_power(state.log_likelihood, stages[-1].power, self.settings.share)
            if len(stages) > STAGES:
                raise FloatingPointError(
                    f"after {STAGES} stages the likelihood counts to the power {power:.3g} only: p(y given "
                    "x_0) is far too narrow for TemperedSMC; use TwistedSMC"
                )
            state, added = self._reweighted(state, power - stages[-1].power, RUNS, stream, step)
            log_evidence = log_evidence + added
            state, level = quick._adapted(state, power, level, stream, step)
            stages.append(Stage(power, level))
            step += 1
            if step == 2 and power < 1:
                _tell_of_pilot(time.monotonic() - began)
        moves = RUNS * PARTICLES * self.settings.moves * (step - 1)
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
        sizes, work = block_sizes(runs, K), runs * K * moves * len(stages)
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
    ) -> tuple[_Particles, Any]:
        """Resampled for a power higher by `rise`; and what that adds to the runs' ln p(y), (runs,)."""
        xp, K = array_namespace(state.x), state.x.shape[0] // runs
        weights, log_mean = normalised(xp.reshape(rise * state.log_likelihood, (runs, K)))
        chosen = systematic(weights, stream.uniform(k * STAGE, runs, index), K)
        return state.take(in_all(chosen, K)), log_mean

    def _moved(
        self, state: _Particles, power: float, level: float, stream: NoiseStream, step: int, index: int = 0
    ) -> tuple[_Particles, Any]:
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
