"""Twisted SMC for many data sets in one solve: each run belongs to one of them."""

from dataclasses import dataclass, replace
from typing import Any

from array_api_compat import array_namespace

from ..backend import NoiseStream, to_host
from ..likelihood import MeanLikelihood
from . import pilot
from .correction import PILOT, TwistedCorrection
from .diagnosis import Diagnosis, diagnose
from .twisted import Runs, TwistedSMC, require_noise

LEAST_RUNS = 8  # of a data set: fewer say nothing of how they differ
LEAST_PARTICLES = 16
PILOT_SETS, PILOT_RUNS = 16, 8


@dataclass(frozen=True)
class ManyTwisted(TwistedCorrection):
    """`TwistedCorrection` of a twist whose observation has many data sets.

    The pilot solves some of them, evenly among the others in order; all share its times and settings.
    A run depends on its own data set alone, given these.
    """

    def draw_sets(
        self, draws: int, sets: Any, wider: bool, stream: NoiseStream, c: Any, progress: bool | None
    ) -> tuple[Any, list[Diagnosis | None]]:
        """(data sets, draws, dim) for the data sets numbered `sets`, and each one's diagnosis.

        wider: by runs of 8 times the particles. A diagnosis is None where no particle can have led to the
        data. Raises: ValueError for c = 0; NonFiniteState.
        """
        require_noise(c)
        xp, count = array_namespace(sets), sets.shape[0]
        settings, each = self._runs(draws, wider)
        problem, seconds = self._problem(self.pilot[0], settings, self.times, c), self.pilot[1].seconds
        runs = problem.solve(count * each, stream, progress=progress, sets=_each(sets, each), seconds=seconds)
        kept = xp.reshape(runs.draws, (count, -1, self.prior.dim))[:, :draws, :]
        evidences = to_host(xp.reshape(runs.log_evidence, (count, each)))
        shares = to_host(xp.mean(xp.reshape(runs.final_share, (count, each)), axis=1))
        pairs = zip(evidences, shares, strict=True)
        return kept, [self._found(logs, float(share), settings.particles) for logs, share in pairs]

    def _found(self, log_evidences: Any, final_share: float, particles: int) -> Diagnosis | None:
        try:
            name = self.pilot[0].name
            return diagnose(name, "twisted SMC", self.why, log_evidences, final_share, particles)
        except FloatingPointError:
            return None

    def _trial(self, twist: MeanLikelihood, stream: NoiseStream) -> Runs:
        total = twist.observation.sets or 1
        xp, few = self.prior.backend.xp, min(total, PILOT_SETS)
        places = [k * total // few for k in range(few)]
        sets = xp.asarray(places, dtype=xp.int64, device=self.prior.backend.device)
        problem = self._problem(twist, TwistedSMC(pilot.PARTICLES), self.pilot_times, 1.0)
        chosen = _each(sets, PILOT_RUNS)
        return problem.solve(few * PILOT_RUNS, stream, True, False, chosen, PILOT)

    def _ess_fraction_of(self, runs: Runs) -> float:
        """Mean over data sets of the effective share, 0 for those of which no particle was possible."""
        groups = to_host(runs.log_evidence).reshape(-1, PILOT_RUNS)
        shares = [max(pilot.ess_fraction(logs, pilot.PARTICLES), 0.0) for logs in groups]
        return sum(shares) / len(shares)

    def _runs(self, draws: int, wider: bool) -> tuple[TwistedSMC, int]:
        """Settings for one data set's draws, and how many runs: 8 or more, by default of no more particles
        than leave half of the effective ones unused, 16 at least and 64 at most."""
        settings = self.wanted.keeping(self.ess_fraction)
        if self.wanted == TwistedSMC():
            needed, particles = -(-draws // LEAST_RUNS), LEAST_PARTICLES
            while particles < settings.particles and particles * min(self.ess_fraction, 1.0) < 2 * needed:
                particles *= 2
            settings = replace(self.wanted, particles=particles).keeping(self.ess_fraction)
        if wider:
            settings = settings.wider(self._problem(self.pilot[0], settings, self.times, 1.0).rows_at_once)
        each = max(-(-draws // (settings.kept or settings.particles)), LEAST_RUNS)
        return replace(settings, kept=-(-draws // each)), each


def _each(sets: Any, count: int) -> Any:
    """Each number `count` times."""
    xp = array_namespace(sets)
    return xp.reshape(xp.broadcast_to(sets[:, None], (sets.shape[0], count)), (-1,))
