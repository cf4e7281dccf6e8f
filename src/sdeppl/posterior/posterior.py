"""Draws from p(x_0 given y)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ..backend import Noise, real_parameter, require_memory, seed_number, to_host, warn_user, whole_number
from ..backend.arguments import count_of, kind, sites_in_words
from ..backend.sharing import cached_property, warn
from ..denoisers import Denoiser, GaussianDenoiser
from ..likelihood import MeanLikelihood, Observation
from ..sde import ReverseSDE, log_snr_grid
from ..solvers import ExponentialHeun, NonFiniteState, Solver, solve
from . import pilot
from .choice import choose
from .correction import TemperedCorrection, TwistedCorrection
from .corrector import LangevinCorrector, solve_corrected, tune_corrector
from .diagnosis import POOR_SHARE, Diagnosis, UntrustedWarning, exact_diagnosis
from .divergence import named, warn_of_divergence
from .fit_check import FitCheck, State
from .hamiltonian import HamiltonianCorrection, HamiltonianMC, JointDensity
from .start import Start, first_step, last_level, start_moments
from .tempered import TemperedSMC
from .twisted import TwistedSMC, require_noise

Weighted = TwistedCorrection | TemperedCorrection
Settings = TwistedSMC | TemperedSMC | HamiltonianMC | LangevinCorrector
Draw = Callable[..., tuple[Any, Diagnosis]]
FAILURES = (ArithmeticError, ValueError, RuntimeError, MemoryError)  # of one correction, not of the query

FEW_STEPS = 20
FEW_ACCEPTED = 0.1
TRIAL_DRAWS = 100
ARRAYS = 8  # like the draws, that a solve holds at once


@dataclass(frozen=True)
class PosteriorRun:
    """draws: (draws, dim), or by site name; diagnosis: whether to believe them; given: the model given the
    data, where it is known, for the likelihood of each number; it is not pickled."""

    draws: Any
    diagnosis: Diagnosis
    given: Any = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        return (
            f"PosteriorRun({count_of(self.draws)} draws of {sites_in_words(self.draws, 1)}; {self.diagnosis})"
        )

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"given": None}  # the model

    @property
    def state(self) -> State:
        """The diagnosis's."""
        return self.diagnosis.state

    def with_no_density(self, undefined: float, impossible: float, where: str) -> "PosteriorRun":
        """With the shares of the x_0 asked at which ln p(y given x_0) was NaN, the first in words, and -∞."""
        return replace(self, diagnosis=self.diagnosis.with_no_density(undefined, impossible, where))

    def with_fit(self, fit: FitCheck | None) -> "PosteriorRun":
        """With what held-out draws say of the learned prior."""
        return replace(self, diagnosis=self.diagnosis.with_fit(fit))

    def __str__(self) -> str:
        return str(self.diagnosis)


class Posterior:
    """A prior, given as its denoiser, and an observation; `sample` solves the guided reverse SDE.

    prior: E and Cov of x_0 given x_t; observation: on the prior's backend, or None for the prior itself.

    likelihood: how l(y given x_t) is approximated: 'exact' (closed form), 'tweedie', 'cubature',
    'monte-carlo', 'nested', 'pigdm', 'sda', 'dps', 'naive', or a `MeanLikelihood`; 'auto' takes the closed
    form where there is one, else 'cubature' for a nonlinear Gaussian observation of few numbers,
    'monte-carlo' where there is no derivative, and 'tweedie' for the rest. correction:
    'auto' makes the draws exact whatever the likelihood, unless it is exact already: by `TwistedSMC`; for up
    to 16 numbers by `TemperedSMC`, which needs no guidance, where the noise is not Gaussian and the prior
    is, or draws x_0 given x_t itself, and wherever guidance fails. Either says how it runs; a
    `LangevinCorrector` moves draws within their modes; None leaves them as guided. `choice` says what was
    taken and why. An error of one correction counts as its failure, and 'auto' goes on to the next.

    density: ln p(x_0) + ln p(y given x_0), where the prior's own is known, as of the latents of a Pyro model:
    `HamiltonianMC` and `TemperedSMC` follow it; 'auto' takes that where guidance would take twice
    as many evaluations, its pilot fails, or the denoiser is not to be relied on (in closed form there if
    the density is Gaussian): doubt says in words why not.

    steps: of the reverse SDE; for a Gaussian posterior by guidance and c = 1, 100 leave standard deviations
    within 1%, 50 within 3%, 20 within 10%. A corrected solve places them by a small pilot solve, where
    the weights become uneven. noise_to_signal: σ/α at which the last
    step goes to t = 0, in the units of x_0; by default 1/20 of the smallest standard deviation of
    x_0 that the (guided) denoiser sees at T, and at most 1e-3.

    Raises: TypeError for arguments of another kind, ValueError for an unknown likelihood,
    BackendMismatch, and what the denoiser raises. Warns: SignalLeftWarning, and for fewer than 20 steps.
    """

    def __repr__(self) -> str:
        return f"Posterior({self.prior!r}, {self.observation!r}, {self.choice})"

    def __init__(
        self,
        prior: Denoiser,
        observation: Observation | None,
        likelihood: str | MeanLikelihood = "auto",
        steps: int = 100,
        noise_to_signal: float | None = None,
        correction: Settings | Literal["auto"] | None = "auto",
        density: JointDensity | None = None,
        doubt: str = "",
    ) -> None:
        if not isinstance(prior, Denoiser) or not isinstance(observation, Observation | None):
            raise TypeError(
                "Posterior(prior, observation) takes a Denoiser and an Observation or None; got "
                f"{type(prior).__name__} and {type(observation).__name__}"
            )
        steps = whole_number("steps", steps, 2)
        for name, given in (("likelihood", likelihood), ("correction", correction)):
            if hasattr(given, "shape"):
                raise TypeError(f"{name} must be a name or settings, not an array; got {given!r:.80}")
        if steps < FEW_STEPS:
            warn(f"{steps} steps are few: standard deviations may be 10% off", UserWarning, stacklevel=2)
        self.prior, self.observation, self.steps = prior, observation, steps
        step = first_step(prior.sde, steps, noise_to_signal)
        self.asked_for = likelihood, correction
        self.density, self.doubt = density, doubt
        self.choice = choose(prior, observation, likelihood, correction, step, density, doubt, steps)
        self.denoiser = self.choice.denoiser
        self.start = self._first_start()
        self.level = last_level(self.start.smallest_sd, noise_to_signal)
        self.times = log_snr_grid(prior.sde, steps, self.level)

    def __getstate__(self) -> dict[str, Any]:
        """Without a density that another process cannot have, unless it is what the choice needs."""
        state = dict(vars(self))
        if self.density is None or self.density.sendable or self.choice.name == "density":
            return state
        state.pop("_moves", None)
        return state | {"density": None, "choice": replace(self.choice, hamiltonian=None)}

    def _first_start(self) -> Start:
        """Of the guided end; of the prior's where guidance gives no number, and 'auto' has another way."""
        try:
            with named(self.denoiser):
                return start_moments(self.denoiser, self.prior)
        except NonFiniteState:
            others = self.choice.fallback, self.choice.hamiltonian
            if self.asked_for[1] != "auto" or others == (None, None):
                raise
            return start_moments(self.prior)

    def sample(
        self,
        draws: int,
        *,
        seed: int = 0,
        c: float | Callable[[float], float] = 1.0,
        solver: Solver | None = None,
        noise: Literal["host", "native"] = "host",
        progress: bool | None = None,
    ) -> Any:
        """(draws, dim), on the prior's backend: from p(x_0 given y), independent but within a twisted run.

        c: noise amplitude of the reverse SDE in units of g(t), 0 for the probability-flow ODE, which a
        correction cannot use; solver: of an uncorrected solve, `ExponentialHeun` by default; noise: as in
        `Noise`. Raises: NonFiniteState; ValueError. Warns: UntrustedWarning where the weights of a corrected
        solve say that the draws are not the posterior.
        """
        return self.drawn(draws, seed=seed, c=c, solver=solver, noise=noise, progress=progress).draws

    def run(
        self,
        draws: int,
        *,
        seed: int = 0,
        c: float | Callable[[float], float] = 1.0,
        solver: Solver | None = None,
        noise: Literal["host", "native"] = "host",
        progress: bool | None = None,
    ) -> PosteriorRun:
        """As `sample`, with what the importance weights say of the draws.

        Of an uncorrected approximation, or one that Langevin steps correct, a small twisted solve measures
        the effective share of the approximation.
        """
        found = self.drawn(draws, seed=seed, c=c, solver=solver, noise=noise, progress=progress)
        if found.diagnosis is None:
            return PosteriorRun(found.draws, self._twisted(TwistedSMC(), self.choice.why).measure())
        return found

    def drawn(
        self, draws: int, *, seed: int, c: Any, solver: Solver | None, noise: Any, progress: bool | None
    ) -> PosteriorRun:
        """As `run`, but that nothing is measured besides: the diagnosis is None of an uncorrected
        approximation."""
        draws, seed = whole_number("draws", draws, 1), seed_number(seed)
        if not callable(c) and not getattr(c, "ndim", 0):
            real_parameter("c", c)
        kind("solver", solver, Solver | None, "a solver such as ExponentialHeun(), or None")
        size = draws * self.prior.dim * self.prior.backend.itemsize
        require_memory(size, self.prior.backend, f"a run of draws={draws}", "ask for fewer at a time")
        # one stream for the start and the steps: opened twice, a native one would repeat itself
        stream = Noise(seed, noise).stream(self.denoiser.backend)
        correction = self.choice.correction
        if correction is None:
            guided = self._guided(draws, stream, c, solver, progress)
            return PosteriorRun(guided, self._known_diagnosis())  # type: ignore[arg-type]
        if isinstance(correction, LangevinCorrector):
            moved = self._moved(draws, stream, c, solver, progress)
            return PosteriorRun(moved, None)  # type: ignore[arg-type]
        if solver is not None:
            raise ValueError("solver= is not for a corrected solve, which takes steps of its own")
        require_noise(c)
        x, diagnosis = self._first_trusted(draws, Noise(seed, noise), c, progress)
        if not diagnosis.trusted:
            warn_user(diagnosis.text, UntrustedWarning)
        return PosteriorRun(x, diagnosis)

    def _guided(self, draws: int, stream: Any, c: Any, solver: Solver | None, progress: bool | None) -> Any:
        size, backend = ARRAYS * draws * self.prior.dim * self.prior.backend.itemsize, self.prior.backend
        what = f"{draws} draws of {self.prior.dim} numbers at once"
        require_memory(size, backend, what, "ask for fewer at a time, each time with another seed")
        with named(self.denoiser):
            path = solve(
                ReverseSDE(self.denoiser.sde, self.denoiser, c),
                self.start.draw(stream, draws),
                self.times,
                solver=solver or ExponentialHeun(),
                noise=stream,
                keep="last",
                progress=progress,
            )
        x = path.states[-1, ...]
        if self.choice.twist is not None:
            warn_of_divergence(self.choice.name, self.prior, self._prior_start, self.observation, x)
        return x

    def _moved(self, draws: int, stream: Any, c: Any, solver: Solver | None, progress: bool | None) -> Any:
        start = self.start.draw(stream, draws)
        settings = self._langevin
        found = solve_corrected(self.denoiser, start, self.times, c, settings, stream, solver, progress)
        acceptance = float(self.prior.backend.xp.mean(found.acceptance))
        if acceptance < FEW_ACCEPTED:
            warn_user(
                f"the Langevin steps hardly move: {acceptance:.1%} of them are taken, so the draws are still "
                "the approximation's; use a smaller step_size, another level, or TwistedSMC",
                UntrustedWarning,
            )
        return found.x

    @cached_property
    def _langevin(self) -> LangevinCorrector:
        """As asked for; with a step size found first where the local scale leaves the observation out."""
        settings = self.choice.correction
        assert isinstance(settings, LangevinCorrector) and self.observation is not None
        if self.observation.has_jacobian or settings.step_size is not None:
            return settings
        stream = pilot.pilot_stream(self.prior.backend)
        start = self.start.draw(stream, TRIAL_DRAWS)
        return tune_corrector(self.denoiser, start, self.times, 1.0, settings, stream)

    def _first_trusted(
        self, draws: int, noise: Noise, c: Any, progress: bool | None
    ) -> tuple[Any, Diagnosis]:
        """Of the corrections in turn, or the best where none is to be trusted. Raises: what the first raised,
        where all fail."""
        best: tuple[Any, Diagnosis] | None = None
        failed: Exception | None = None
        for draw in self._attempts():
            try:
                found = draw(draws, noise.stream(self.denoiser.backend), c, progress)
            except FAILURES as error:
                if self.asked_for[1] != "auto":
                    raise
                failed = failed or error
                continue
            trusted = found[1].trusted and (found[1].prior == "known" or not self._may_follow_density)
            if best is None or trusted or found[1].ess > best[1].ess:
                best = found
            if trusted:
                return best
        if best is None:
            assert failed is not None
            raise failed
        return best

    def _attempts(self) -> Iterator[Draw]:
        """What is tried in turn; of 'auto', until one is to be trusted: the choice, moves on the known
        density where the choice is of another kind, larger runs, the fallback."""
        if self.asked_for[1] != "auto":
            yield self._first.draw
            return
        moves, even = self._moves, self._first_share >= POOR_SHARE
        if moves is not None and not even:
            yield moves.draw
        weighted = self.correction
        yield weighted.draw
        if moves is not None and even:
            yield moves.draw
        share = self._first_share if weighted is self._first else self._fallback_share
        if isinstance(weighted, TwistedCorrection) and share >= 0 and weighted.can_widen:
            yield weighted.draw_wider
        if self._fallback is not None and weighted is self._first:
            yield self._fallback.draw

    @cached_property
    def correction(self) -> Any:
        """The choice's, or its fallback where a pilot shows that this leaves the weights more even."""
        if self._fallback is None or self._first_share >= POOR_SHARE:
            return self._first
        return self._first if self._first_share >= self._fallback_share else self._fallback

    @cached_property
    def _first_share(self) -> float:
        return self._evenness(self._first)

    @cached_property
    def _fallback_share(self) -> float:
        return self._evenness(self._fallback)

    def _evenness(self, correction: Any) -> float:
        """Effective share by the correction's pilot; 1 where it has none, -1 where that fails."""
        if not isinstance(correction, Weighted):
            return 1.0
        try:
            return correction.ess_fraction
        except FAILURES:
            if self.asked_for[1] != "auto":
                raise
            return -1.0

    @cached_property
    def _first(self) -> Any:
        return self._prepared(self.choice.correction, self.choice.why)

    @cached_property
    def _moves(self) -> HamiltonianCorrection | None:
        """On the known density, where they are not the first choice."""
        if self.choice.hamiltonian is None:
            return None
        return self._prepared(self.choice.hamiltonian, f"{self.choice.why}; {self._poor}")

    @cached_property
    def _fallback(self) -> Weighted | None:
        if self.choice.fallback is None:
            return None
        return self._prepared(self.choice.fallback, f"{self.choice.why}; {self._poor}")

    @property
    def _poor(self) -> str:
        """What came of the choice, in words."""
        if isinstance(self._first, HamiltonianCorrection):
            return "its moves were not to be trusted"
        kind = "tempering" if isinstance(self._first, TemperedCorrection) else "guidance"
        share = max(self._first_share, 0.0)
        return f"{kind} was not to be trusted, with an effective share of {share:.2g}"

    def _prepared(self, settings: Any, why: str) -> Any:
        if isinstance(settings, HamiltonianMC):
            assert self.density is not None
            return HamiltonianCorrection(self.density, settings, why)
        if isinstance(settings, TemperedSMC) and self._by_density:
            assert self.density is not None
            return TemperedCorrection.on_density(self.density, self.prior.sde, settings, self.times, why)
        if isinstance(settings, TemperedSMC):
            assert self.observation is not None
            return TemperedCorrection(
                self.prior, self._prior_start, self.observation, settings, self.times, why
            )
        return self._twisted(settings, why)

    @property
    def _may_follow_density(self) -> bool:
        """Whether the learned prior is doubted, and another correction may follow the known density; where
        none does, more of them would be solved with the same doubt."""
        tempers = isinstance(self.choice.correction, TemperedSMC) or self.choice.fallback is not None
        return bool(self.doubt) and (self._moves is not None or (tempers and self._by_density))

    @property
    def _by_density(self) -> bool:
        """Whether tempering follows the known density: the denoiser is not to be relied on, or dearer."""
        if self.density is None or self.density.why_no_values:
            return False
        return bool(self.doubt) or not isinstance(self.prior, GaussianDenoiser)

    def _twisted(self, settings: TwistedSMC, why: str) -> TwistedCorrection:
        return TwistedCorrection(
            self.prior, self._prior_start, self.choice, settings, self.steps, self.level, why
        )

    @cached_property
    def _prior_start(self) -> Start:
        """The end of the unguided forward SDE."""
        return self.start if self.denoiser is self.prior else start_moments(self.prior)

    def _known_diagnosis(self) -> Diagnosis | None:
        if self.choice.exact is not None:
            evidence = float(to_host(self.choice.exact.log_evidence))
            return exact_diagnosis(self.choice.why, evidence, "known" if self.choice.known else "learned")
        if self.choice.twist is None:
            return exact_diagnosis(self.choice.why, 0.0)
        return None
