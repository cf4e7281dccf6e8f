"""Twisted sequential Monte Carlo over the reverse SDE: exact whatever the mean likelihood."""

import itertools
import math
import time
from dataclasses import dataclass, replace
from typing import Any

from array_api_compat import array_namespace, device

from ..backend import NoiseStream, Progress, real_parameter, require_memory, whole_number
from ..backend.sharing import cached_property
from ..likelihood import Guided, MeanLikelihood
from ..sde import ReverseSDE
from ..solvers import NonFiniteState, Watch
from .defensive_twist import DefensiveTwist
from .divergence import named
from .kernel import MomentKernel
from .resampling import ess_fraction, in_all, normalised, systematic
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


@dataclass(frozen=True)
class TwistedSMC:
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

    particles: int = 64
    kept: int | None = None
    resample_below: float = 0.5

    def __post_init__(self) -> None:
        particles = whole_number("TwistedSMC: particles", self.particles, 1, BLOCK)
        object.__setattr__(self, "particles", particles)
        if self.kept is not None:
            object.__setattr__(self, "kept", whole_number("TwistedSMC: kept", self.kept, 1, particles))
        object.__setattr__(
            self, "resample_below", real_parameter("TwistedSMC: resample_below", self.resample_below)
        )
        if not 0 <= self.resample_below <= 1:
            raise ValueError(
                f"TwistedSMC: resample_below is a share from 0 to 1; got {self.resample_below!r}"
            )

    def keeping(self, ess: float) -> "TwistedSMC":
        """These settings with `kept` chosen for an effective share."""
        if self.kept is not None:
            return self
        return replace(self, kept=max(int(self.particles * min(max(ess, 0.25), 1.0) / 2), 1))

    def wider(self, most: int = BLOCK) -> "TwistedSMC":
        """Runs of 8 times the particles, or `most`, what a block holds; of which as large a share is kept."""
        particles = max(min(WIDER * self.particles, most), self.particles)
        kept = max((self.kept or 1) * particles // self.particles, 1)
        return replace(self, particles=particles, kept=kept)


@dataclass(frozen=True)
class Runs:
    """What all runs gave.

    draws: (runs × kept, dim); log_evidence: ln of each run's unbiased estimate of p(y), (runs,);
    final_share: effective share of its particles at the end, (runs,); roughness: standard deviation of the
    log weights' increments in each step, (steps,), averaged over the runs, or None where it was not wanted;
    seconds: of a particle and step.
    """

    draws: Any
    log_evidence: Any
    final_share: Any
    roughness: Any | None
    seconds: float = 0.0


@dataclass(frozen=True)
class TwistedSolve:
    """One problem: the guided denoiser, the reverse SDE's times and amplitude, its start and its steps."""

    twist: MeanLikelihood
    times: list[float]
    c: Any
    start: Start
    kernel: MomentKernel
    settings: TwistedSMC

    def solve(
        self,
        runs: int,
        stream: NoiseStream,
        measure: bool = False,
        progress: bool | None = None,
        sets: Any = None,
        what: str = "",
        seconds: float | None = None,
    ) -> Runs:
        """All runs, block by block; sets: the data set of each, (runs,), where the twist has many.

        what: in front of the words of a CostWarning; seconds: of a particle and step, where a pilot told.
        Raises: NonFiniteState; OutOfMemory before what does not fit. Warns: CostWarning.
        """
        xp, steps, K = self.twist.backend.xp, len(self.times) - 1, self.settings.particles
        sizes = block_sizes(runs, K, self.rows_at_once)
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

    @property
    def rows_at_once(self) -> int:
        """Particles of a block, but for a single run of more: by their size alone, whatever is free."""
        if not self.twist.observation.count:
            return BLOCK
        return min(BLOCK, LARGEST // self.twist.row_numbers())

    def _require_memory(self, rows: int) -> None:
        twist = self.twist
        if twist.observation.count:
            what = f"{rows} particles of {twist.dim} latent numbers by likelihood='{twist.name}' with "
            what += f"{twist.observation.count} observed ones"
            require_memory(rows * twist.row_numbers() * twist.backend.itemsize, twist.backend, what, SMALLER)

    def _of_block(self, sets: Any, sizes: list[int], index: int) -> "TwistedSolve":
        """With a row of data for each particle of a block, where runs are of many data sets."""
        if sets is None:
            return self
        xp, first, size = array_namespace(sets), sum(sizes[:index]), sizes[index]
        chosen = xp.broadcast_to(sets[first : first + size, None], (size, self.settings.particles))
        return replace(self, twist=self.twist.of_sets(xp.reshape(chosen, (-1,))))

    @cached_property
    def _defensive_twist(self) -> DefensiveTwist:
        return DefensiveTwist.of(self.twist, self.start.mean)

    def _block(self, runs: int, index: int, stream: NoiseStream, measure: bool, bar: Progress) -> Runs:
        xp, sde, K = self.twist.backend.xp, self.twist.sde, self.settings.particles
        reverse = ReverseSDE(sde, self.twist, self.c)
        x = self.start.draw(stream, runs * K, index)
        state = _Weights.initial(xp.zeros_like(xp.reshape(x[:, 0], (runs, K))))
        watch = Watch(x, self.times, every=1)
        previous: Any = 0.0
        roughness: list[Any] = []
        for k, (s, t) in enumerate(itertools.pairwise(self.times)):
            step = reverse.coefficients(s, t)
            last = t == self.times[-1] and not step.noise
            guided = self.twist.guided(x, s)
            guided = guided if last else self._defensive_twist(guided)
            state = state.add(xp.reshape(guided.log_likelihood - previous, (runs, K)))
            if measure:
                roughness.append(state.spread)
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
        if not self.twist.observation.hard and self.twist.observation.count:
            log_likelihood = self.twist.observation.log_prob(x)
            _require_density(log_likelihood)
            state = state.add(xp.reshape(log_likelihood - previous, (runs, K)))
        return state.finish(
            x, self.settings.kept or K, stream.uniform(len(self.times), runs, index), roughness
        )

    @staticmethod
    def _last(guided: Guided, step: Any) -> Any:
        """The step to t = 0, where x_0 is E[x_0 given x_t, y] to rounding of the last level."""
        x = step.first * guided.mean
        return x if step.shift is None else x + step.shift


@dataclass(frozen=True)
class _Weights:
    """Log weights (runs, particles) since each run last resampled, and ln of its evidence until then."""

    log_weights: Any
    log_evidence: Any
    base: Any  # log weights before the increments of the present step
    shares: Any  # normalised weights at `base`

    @classmethod
    def initial(cls, zeros: Any) -> "_Weights":
        xp = array_namespace(zeros)
        return cls(zeros, xp.sum(zeros, axis=1), zeros, xp.ones_like(zeros) / zeros.shape[1])

    def add(self, increment: Any, starts: bool = False) -> "_Weights":
        """More log weight; `starts`: these are the first of a step."""
        base, shares = (
            (self.log_weights, normalised(self.log_weights)[0]) if starts else (self.base, self.shares)
        )
        return _Weights(self.log_weights + increment, self.log_evidence, base, shares)

    @property
    def spread(self) -> Any:
        """Root of the mean over runs of the variance of this step's increments."""
        xp = array_namespace(self.log_weights)
        increment = self.log_weights - self.base
        mean = xp.sum(self.shares * increment, axis=1, keepdims=True)
        variance = xp.sum(self.shares * (increment - mean) ** 2, axis=1)
        return xp.sqrt(xp.mean(variance))

    def resample(self, uniforms: Any, below: float) -> tuple["_Weights", Any]:
        """The runs whose effective share is below the limit, resampled; ancestors (runs × particles,)."""
        xp, (runs, count) = array_namespace(self.log_weights), self.log_weights.shape
        weights, log_mean = normalised(self.log_weights)
        poor = ess_fraction(weights) < below
        own = xp.broadcast_to(xp.arange(count, dtype=xp.int64, device=device(weights)), (runs, count))
        index = xp.where(poor[:, None], systematic(weights, uniforms, count), own)
        log_weights = xp.where(poor[:, None], xp.zeros_like(weights), self.log_weights)
        evidence = xp.where(poor, self.log_evidence + log_mean, self.log_evidence)
        state = _Weights(log_weights, evidence, log_weights, self.shares)
        return state, in_all(index, count)

    def finish(self, x: Any, kept: int, uniforms: Any, roughness: list[Any]) -> Runs:
        """`kept` draws of each run."""
        xp, count = array_namespace(x), self.log_weights.shape[1]
        weights, log_mean = normalised(self.log_weights)
        draws = xp.take(x, in_all(systematic(weights, uniforms, kept), count), axis=0)
        spread = xp.stack(roughness) if roughness else None
        return Runs(draws, self.log_evidence + log_mean, ess_fraction(weights), spread)


def _require_density(log_likelihood: Any) -> None:
    """Raises: NonFiniteState where p(y given x_0) is infinite."""
    xp = array_namespace(log_likelihood)
    infinite = log_likelihood == xp.inf
    if bool(xp.any(infinite)):
        raise NonFiniteState(
            f"p(y given x_0) is infinite at {int(xp.count_nonzero(infinite))} of {infinite.shape[0]} "
            "particles, which would outweigh all others; check the density of the data there"
        )


def block_sizes(runs: int, particles: int, most: int = BLOCK) -> list[int]:
    """How many runs each block has, of at most so many particles together."""
    per_block = max(most // particles, 1)
    return [min(per_block, runs - first) for first in range(0, runs, per_block)]


def require_noise(c: Any) -> None:
    """Raises: ValueError for a noise amplitude of 0, of which a twisted solve has no weights."""
    if not callable(c) and not 0 < float(c) < math.inf:
        raise ValueError(
            f"a corrected solve needs noise, c > 0; got c={c!r}; use correction=None for the "
            "probability-flow ODE"
        )
