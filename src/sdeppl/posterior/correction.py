"""Draws made exact by importance weights: a pilot solve, the solve, and what the weights say of it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ..backend import NoiseStream
from ..backend.sharing import cached_property
from ..denoisers import Denoiser, GaussianDenoiser
from ..likelihood import DensityObservation, MeanLikelihood, Observation
from ..sde import IsotropicSDE, log_snr_grid
from . import pilot
from .choice import Choice
from .diagnosis import FEW_RUNS, Diagnosis, diagnose
from .divergence import explained_worse
from .hamiltonian import JointDensity
from .kernel import MomentKernel
from .renoising import Renoising
from .start import Start, start_moments
from .tempered import PARTICLES, Plan, TemperedSMC, TemperedSolve
from .tempering import moved_share
from .twisted import Runs, TwistedSMC, TwistedSolve, require_noise

LEAST_RUNS = 16  # of a tempered solve, however few draws are wanted: their differences are the diagnosis
WIDER_RUNS = 32  # of 8 times the particles, at least, but for fewer draws than that
AGAIN = "once more, as the first draws are not to be trusted: "
PILOT = "a pilot: "


@dataclass(frozen=True)
class TwistedCorrection:
    """`TwistedSMC` with the better of the choice's twists, its steps where the weights become uneven.

    start: the end of the unguided forward SDE, from which the data are weighed; steps: of the reverse SDE;
    level: σ/α before the last one; why: of the diagnosis.
    """

    prior: Denoiser
    start: Start
    choice: Choice
    wanted: TwistedSMC
    steps: int
    level: float
    why: str

    def draw(self, draws: int, stream: NoiseStream, c: Any, progress: bool | None) -> tuple[Any, Diagnosis]:
        """(draws, dim), and the diagnosis. Raises: ValueError for c = 0; NonFiniteState."""
        return self._draw(draws, self.settings, 1, stream, c, progress)

    def draw_wider(
        self, draws: int, stream: NoiseStream, c: Any, progress: bool | None
    ) -> tuple[Any, Diagnosis]:
        """The same by runs of 8 times the particles, of which 8 times as many are kept; 32 runs or more, for
        fewer draws as many as these, but not below the 8 that tell their spread."""
        least = min(WIDER_RUNS, max(draws, FEW_RUNS))
        return self._draw(draws, self._wider, least, stream, c, progress, AGAIN)

    @property
    def can_widen(self) -> bool:
        """Whether larger runs fit into a block."""
        return self._wider.particles > self.settings.particles

    @cached_property
    def _wider(self) -> TwistedSMC:
        problem = self._problem(self.pilot[0], self.settings, self.times, 1.0)
        return self.settings.wider(problem.rows_at_once)

    def _draw(
        self,
        draws: int,
        settings: TwistedSMC,
        least_runs: int,
        stream: NoiseStream,
        c: Any,
        progress: bool | None,
        what: str = "",
    ) -> tuple[Any, Diagnosis]:
        require_noise(c)
        count = max(-(-draws // (settings.kept or settings.particles)), least_runs)
        settings = replace(settings, kept=-(-draws // count))  # as few of each run as will do
        problem = self._problem(self.pilot[0], settings, self.times, c)
        seconds = self.pilot[1].seconds
        runs = problem.solve(count, stream, progress=progress, what=what, seconds=seconds)
        x, found = runs.draws[:draws, :], self._diagnosis(runs, "twisted SMC", settings.particles)
        return x, self._with_a_look(x, found)

    def _with_a_look(self, x: Any, found: Diagnosis) -> Diagnosis:
        """Weights can be even where all particles went astray together."""
        observation = self.pilot[0].observation
        if not found.trusted or observation.sets is not None:
            return found
        worse = explained_worse(self.prior, self.start, observation, x)
        if worse is None:
            return found
        return replace(found, trusted=False, text=f"{found.text}: do not trust these draws, {worse}")

    def measure(self) -> Diagnosis:
        """The effective share of the approximation without a correction, by the pilot."""
        return self._diagnosis(self.pilot[1], None, pilot.PARTICLES)

    @property
    def ess_fraction(self) -> float:
        """Effective share by the pilot, -1 where it found nothing."""
        return self._ess_fraction_of(self.pilot[1])

    def _ess_fraction_of(self, runs: Runs) -> float:
        return pilot.ess_fraction(runs.log_evidence, pilot.PARTICLES)

    @cached_property
    def pilot_times(self) -> list[float]:
        """Of the pilot's steps."""
        return log_snr_grid(self.prior.sde, pilot.STEPS, self.level)

    @cached_property
    def pilot(self) -> tuple[MeanLikelihood, Runs]:
        """The twist, of one or two, that leaves the weights of a small solve more even; and its runs."""
        stream = pilot.pilot_stream(self.prior.backend)
        twists = [twist for twist in (self.choice.twist, self.choice.alternative_twist) if twist is not None]
        tried = [(twist, self._trial(twist, stream)) for twist in twists]
        return max(tried, key=lambda pair: self._ess_fraction_of(pair[1]))

    def _trial(self, twist: MeanLikelihood, stream: NoiseStream) -> Runs:
        """The pilot's solve with a twist."""
        problem = self._problem(twist, TwistedSMC(pilot.PARTICLES), self.pilot_times, 1.0)
        return problem.solve(pilot.RUNS, stream, measure=True, progress=False, what=PILOT)

    @cached_property
    def times(self) -> list[float]:
        """T to 0."""
        roughness = self.pilot[1].roughness
        return pilot.adapted_grid(self.prior.sde, self.pilot_times, roughness, self.steps, self.level)

    @cached_property
    def settings(self) -> TwistedSMC:
        """With as many draws kept of each run as the pilot found to be worth it."""
        return self.wanted.keeping(self.measure().ess)

    @cached_property
    def _kernel(self) -> MomentKernel:
        return MomentKernel(self.start.basis, self.start.variances)

    def _problem(
        self, twist: MeanLikelihood, settings: TwistedSMC, times: list[float], c: Any
    ) -> TwistedSolve:
        return TwistedSolve(twist, times, c, self.start, self._kernel, settings)

    def _diagnosis(self, runs: Runs, correction: str | None, particles: int) -> Diagnosis:
        xp, name = self.prior.backend.xp, self.pilot[0].name
        final_share = float(xp.mean(runs.final_share))
        return diagnose(name, correction, self.why, runs.log_evidence, final_share, particles)


@dataclass(frozen=True)
class TemperedCorrection:
    """`TemperedSMC` with the stages that its pilot finds.

    times: by which draws of the prior are made from `start`, T to 0; why: of the diagnosis; known: whether
    the observation makes up for what the prior is not, so that draws follow the model's own density.
    """

    prior: Denoiser
    start: Start
    observation: Observation
    settings: TemperedSMC
    times: list[float]
    why: str
    known: bool = False

    @classmethod
    def on_density(
        cls, density: JointDensity, sde: IsotropicSDE, settings: TemperedSMC, times: list[float], why: str
    ) -> "TemperedCorrection":
        """From the Gaussian N that is like the prior, to powers of p(x_0) p(y given x_0)/N(x_0).

        At the power 1 that is the posterior of the model's own prior, and p(y) its own, whatever was learned.
        """
        base = density.base(sde)
        ratio = _Ratio(density.log_prob, base, density)
        observation = DensityObservation(ratio, base.dim, base.location, recorded=ratio.recorded)
        return cls(base, start_moments(base), observation, settings, times, why, True)

    def draw(self, draws: int, stream: NoiseStream, c: Any, progress: bool | None) -> tuple[Any, Diagnosis]:
        """(draws, dim) and diagnosis; of few draws by smaller runs, and where these are not to be trusted by
        whole ones. Raises: ValueError for c = 0; NonFiniteState, FloatingPointError."""
        require_noise(c)
        settings = self.settings.for_draws(draws, LEAST_RUNS)
        x, found = self._draw(draws, settings, stream, c, progress, "")
        if not found.trusted and settings.particles < self.settings.particles:
            return self._draw(draws, self.settings, stream, c, progress, AGAIN)
        return x, found

    def _draw(
        self,
        draws: int,
        settings: TemperedSMC,
        stream: NoiseStream,
        c: Any,
        progress: bool | None,
        what: str,
    ) -> tuple[Any, Diagnosis]:
        count, particles = max(-(-draws // settings.keeps), LEAST_RUNS), settings.particles
        problem, seconds = self._problem(c, settings), self.plan.seconds
        runs = problem.solve(self.plan.stages, count, stream, progress, what, seconds)
        share = moved_share(runs.moments, particles)
        found = diagnose(
            "tempered", "tempered SMC", self.why, runs.log_evidence, share, particles, moved=True
        )
        if self.known:
            found = replace(found, likelihood="density", prior="known")
        return runs.draws[:draws, :], found

    @property
    def ess_fraction(self) -> float:
        """Effective share by the pilot, as of a twisted solve."""
        return pilot.ess_fraction(self.plan.log_evidence, PARTICLES)

    @cached_property
    def plan(self) -> Plan:
        """The stages, and what the pilot's runs tell."""
        return self._problem(1.0, self.settings).plan(pilot.pilot_stream(self.prior.backend))

    def _problem(self, c: Any, settings: TemperedSMC) -> TemperedSolve:
        kernel = MomentKernel(self.start.basis, self.start.variances)
        moving = Renoising(self.prior, self.start, kernel, self.times, c)
        return TemperedSolve(moving, self.observation, settings)


@dataclass(frozen=True)
class _Ratio:
    """x_0 ↦ ln p(x_0) + ln p(y given x_0) - ln N(x_0), rows (rows, dim) ↦ (rows,)."""

    log_prob: Callable[[Any], Any]
    base: GaussianDenoiser
    density: JointDensity

    def __call__(self, x0: Any) -> Any:
        return self.log_prob(x0) - self.base.log_prob(x0)

    def recorded(self, x0: Any) -> "_Ratio":
        """For many batches like x_0."""
        return replace(self, log_prob=self.density.recorded_log_prob(x0))
