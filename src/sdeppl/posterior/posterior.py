"""Draws from p(x_0 given y)."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from ..backend import Noise, NoiseStream, Progress, require_memory, warn_user, whole_number
from ..backend.arguments import count_of, kind, sites_in_words
from ..backend.sharing import said_once, unsaid
from ..backend.typing import Array
from ..denoisers import Denoiser
from ..likelihood import GaussianPosterior, MeanLikelihood, Observation
from ..solvers import NonFiniteState
from .choice import choose
from .diagnosis import POOR_SHARE, Diagnosis, FitCheck, State, UntrustedWarning
from .direct import Direct
from .guided import FEWER, Guided, named, seed_of
from .labelled import Axes, to_xarray
from .problem import (
    Asked,
    Correction,
    Draw,
    Drawn,
    JointDensity,
    Problem,
    Sampler,
    Sampling,
    require_own_steps,
)
from .start import GaussianStart, Start, first_step, last_level, start_moments
from .twisted import Pilot, TwistedSMC

FAILURES = (ArithmeticError, ValueError, RuntimeError, MemoryError)  # of one correction, not of the query
FEW_STEPS = 20
ALONE = 2**20  # from this number on, seeds are of data sets that are solved by themselves
INSTEAD = " (a query of one would temper, at powers of the likelihood that suit its data alone)"
NOT_BATCHED = "what was observed is not a function of the data alone, or not in the same numbers"

Result = TypeVar("Result", "PosteriorRun", "PosteriorRuns")


@dataclass(frozen=True)
class PosteriorRun:
    """draws: (draws, dim), or by site name; diagnosis: whether to believe them; given: the model given the
    data, where it is known, for the likelihood of each number; it is not pickled. axes: {site: (names,
    labels)} of the prior's axes, where it has them."""

    draws: Any
    diagnosis: Diagnosis
    given: Any = field(default=None, repr=False, compare=False)
    axes: Mapping[str, Axes] | None = field(default=None, repr=False, compare=False)

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

    def to_xarray(self) -> Any:
        """An xarray.Dataset of the draws, a variable (draw, *axes) for each site, the diagnosis among its
        attributes. Axes have the names and coordinates of the prior: those of the DataArray that a `Dataset`
        reads, or dims= and coords= of a `Simulated`; others are called '<site>_dim_0' and so on.

        The arrays come to the host. Raises: ImportError, with what to install; TypeError for draws that are
        not by site name.
        """
        return to_xarray(self.draws, self.axes or {}, ("draw",), self.diagnosis.attributes)

    def __str__(self) -> str:
        return str(self.diagnosis)


@dataclass(frozen=True)
class PosteriorRuns:
    """draws: (data sets, draws, dim), or by site name; diagnoses: of each data set, and none at all where an
    approximation was not corrected; text: how they were made, in words; alone: the data sets that had a
    solve of their own; axes: as of `PosteriorRun`."""

    draws: Any
    diagnoses: tuple[Diagnosis, ...]
    text: str
    alone: tuple[int, ...]
    axes: Mapping[str, Axes] | None = field(default=None, repr=False, compare=False)

    def to_xarray(self) -> Any:
        """As of `PosteriorRun`, with an axis 'data_set' in front of 'draw'."""
        attributes = {"diagnosis": self.text, "trusted": int(self.trusted)}
        return to_xarray(self.draws, self.axes or {}, ("data_set", "draw"), attributes)

    def __repr__(self) -> str:
        sets, each, sites = count_of(self.draws), count_of(self.draws, 1), sites_in_words(self.draws, 2)
        return f"PosteriorRuns({sets} data sets with {each} draws of {sites}; {self})"

    @property
    def trusted(self) -> bool:
        """Whether every data set has a diagnosis, and none of these is bad."""
        return bool(self.diagnoses) and all(found.trusted for found in self.diagnoses)

    @property
    def state(self) -> State:
        """The worst of the diagnoses'."""
        states = {found.state for found in self.diagnoses}
        if not self.diagnoses or "do not trust" in states:
            return "do not trust"
        return "cannot tell" if "cannot tell" in states else "trusted"

    def with_fit(self, fit: FitCheck | None) -> "PosteriorRuns":
        """With what held-out draws say of the learned prior, which is said once."""
        judged = tuple(found.with_fit(fit) for found in self.diagnoses)
        said = fit is not None and judged != self.diagnoses
        text = f"{self.text}; for {fit.words}" if said and fit is not None else self.text
        return replace(self, diagnoses=judged, text=text)

    def __str__(self) -> str:
        bad = sum(not found.trusted for found in self.diagnoses)
        return f"{self.text}; {bad} of {len(self.diagnoses)} are not to be trusted" if bad else self.text


@dataclass(frozen=True)
class _Attempt:
    """draw: what is tried, on `problem`, for the data sets that are not to be trusted yet, or for those alone
    that no particle can have led to; words: how `many` of them there were."""

    draw: Draw
    problem: Problem
    words: Callable[[int], str] = lambda many: ""
    impossible_only: bool = False


@dataclass(frozen=True)
class _Tried:
    """x[place] and its diagnosis: what an attempt gave for a data set."""

    x: Array
    place: int
    diagnosis: Diagnosis | None


class _Posterior(Sampler[Result], Generic[Result]):
    """What posteriors of one data set and of many share; one is the case of one."""

    problem: Problem

    def _compile(
        self,
        prior: Denoiser,
        observation: Observation | None,
        likelihood: str | MeanLikelihood,
        steps: int,
        noise_to_signal: float | None,
        correction: Asked,
        density: JointDensity | None = None,
        doubt: str = "",
    ) -> None:
        """Choose, and find where the reverse SDE starts."""
        self.prior, self.observation, self.steps = prior, observation, steps
        if steps < FEW_STEPS:
            warn_user(f"{steps} steps are few: standard deviations may be 10% off", UserWarning)
        self.asked_for: tuple[str | MeanLikelihood, Asked] = likelihood, correction
        step = first_step(prior.sde, steps, noise_to_signal)
        self.choice = choose(prior, observation, likelihood, correction, step, density, doubt, steps)
        self.start = self._start()
        level = last_level(self.start.smallest_sd, noise_to_signal)
        self.problem = Problem(
            prior, observation, self.choice, self.start, self.steps, level, self.choice.why, density, doubt
        )

    def _start(self) -> Start | GaussianStart:
        """Of the guided end; of the prior's where guidance gives no number, and 'auto' has another way."""
        denoiser, sets = self.choice.denoiser, None if self.observation is None else self.observation.sets
        if isinstance(self.choice.exact, GaussianPosterior):
            return GaussianStart.of(self.choice.exact)
        try:
            with named(denoiser):
                return start_moments(denoiser, self.prior, sets)
        except NonFiniteState:
            others = self.choice.fallback, self.choice.hamiltonian
            if self.asked_for[1] != "auto" or others == (None, None):
                raise
            return start_moments(self.prior)

    @property
    def denoiser(self) -> Denoiser:
        """Of x_0 given x_t and y."""
        return self.choice.denoiser

    @property
    def level(self) -> float:
        """σ/α before the last step."""
        return self.problem.level

    @property
    def times(self) -> list[float]:
        """Of an uncorrected solve, T to 0."""
        return self.problem.times

    @property
    def density(self) -> JointDensity | None:
        """Of x_0 and y, where the prior's own is known."""
        return self.problem.density

    @property
    def correction(self) -> Correction:
        """The choice's, or its fallback where a pilot shows that this leaves the weights more even."""
        first, other = self.choice.correction or Guided(), self.choice.fallback
        if other is None or self._ess_fraction(first) >= POOR_SHARE:
            return first
        return first if self._ess_fraction(first) >= self._ess_fraction(other) else other

    def _uncorrected(self, problem: Problem) -> Correction:
        """Where draws need no correction: directly, or by the reverse SDE where one is asked for."""
        direct = isinstance(self.choice.exact, GaussianPosterior) and not problem.reverse
        return Direct() if direct else Guided()

    def _ess_fraction(self, correction: Correction) -> float:
        """By the correction's pilot; 1 where it has none, -1 where that fails."""
        try:
            return self.problem.once(("ess", correction), lambda: correction.ess_fraction(self.problem))
        except FAILURES:
            if self.asked_for[1] != "auto":
                raise
            return self.problem.once(("ess", correction), lambda: -1.0)

    def _sampled(self, sampling: Sampling) -> Any:
        return self.drawn(sampling).draws

    def _run(self, sampling: Sampling) -> Result:
        return self.drawn(sampling)

    @abstractmethod
    def drawn(self, sampling: Sampling) -> Result:
        """As `run`, but that nothing is measured besides the draws."""

    def _first_trusted(
        self, attempts: Iterator[_Attempt], count: int, sampling: Sampling
    ) -> tuple[Array, list[Diagnosis | None], str]:
        """For each data set the first draws to be trusted of what is tried in turn, or the best where none
        is; and in words, what was tried.

        Raises: what the first raised, where all fail.
        """
        best: dict[int, _Tried] = {}
        failed: Exception | None = None
        words = ""
        for attempt in attempts:
            left = [n for n in range(count) if self._goes_on(best.get(n), attempt)]
            if not left:
                continue
            words += attempt.words(len(left))
            stream = Noise(sampling.seed, sampling.noise).stream(self.prior.backend)
            try:
                x, found = attempt.draw(attempt.problem.of(left), sampling.draws, stream)
            except FAILURES as error:
                if self.asked_for[1] != "auto":
                    raise
                failed = failed or error
                continue
            for place, (number, diagnosis) in enumerate(zip(left, found, strict=True)):
                one = _Tried(x, place, diagnosis)
                if self._better(one, best.get(number)):
                    best[number] = one
            if all(self._settled(best.get(n)) for n in range(count)):
                break
        if len(best) < count:
            assert failed is not None
            raise failed
        kept = [best[n] for n in range(count)]
        x = kept[0].x
        if any(one.x is not x for one in kept):
            x = self.prior.backend.xp.stack([one.x[one.place, ...] for one in kept])
        return x, [one.diagnosis for one in kept], words

    def _goes_on(self, found: _Tried | None, attempt: _Attempt) -> bool:
        """Whether an attempt is for the data set of which this was found."""
        if attempt.impossible_only:
            return found is None or found.diagnosis is None
        return not self._settled(found)

    def _settled(self, found: _Tried | None) -> bool:
        """Whether draws are to be trusted, and those of a doubted prior, where another correction may follow
        the known density, are of that density; where none does, more of them would be solved with the same
        doubt."""
        if found is None or found.diagnosis is None or not found.diagnosis.trusted:
            return False
        return found.diagnosis.prior == "known" or not self._may_follow_density

    def _better(self, one: _Tried, other: _Tried | None) -> bool:
        """Whether it is to be trusted, or has the larger effective share."""
        if other is None or other.diagnosis is None:
            return True
        return self._settled(one) or (one.diagnosis is not None and one.diagnosis.ess > other.diagnosis.ess)

    @property
    def _may_follow_density(self) -> bool:
        tempers = self.choice.fallback is not None or bool(
            self.choice.correction and self.choice.correction.unguided
        )
        return bool(self.problem.doubt) and (
            self.choice.hamiltonian is not None or (tempers and self.problem.follows_density)
        )


class Posterior(_Posterior[PosteriorRun]):
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

    A Gaussian prior whose covariance is held by a structure, or of more than 2,048 numbers, seen linearly, is
    drawn directly (`sample`). Other priors of so many numbers, or of more than 512 with a network over such a
    structure, are drawn by guidance without weights, and are then never called trusted; the time of a draw
    grows with its products with the denoiser's slope, which the diagnosis counts, and memory with the draws
    that are made at once.

    density: ln p(x_0) + ln p(y given x_0), where the prior's own is known, as of the latents of a Pyro model:
    `HamiltonianMC` and `TemperedSMC` follow it; 'auto' takes that where guidance would take twice
    as many evaluations, its pilot fails, or the denoiser is not to be relied on (in closed form there if
    the density is Gaussian): doubt says in words why not.

    steps: of the reverse SDE; for a Gaussian posterior by guidance and c = 1, 100 leave standard deviations
    within 1%, 50 within 3%, 20 within 10%. A corrected solve places them by a small pilot solve, where
    the weights become uneven. noise_to_signal: σ/α at which the last
    step goes to t = 0, in the units of x_0; by default 1/20 of the smallest standard deviation of
    x_0 that the (guided) denoiser sees at T, and at most 1e-3.

    Raises: TypeError for arguments of another kind, and for an observation of many data sets (`Posteriors`);
    ValueError for an unknown likelihood, BackendMismatch, and what the denoiser raises. Warns:
    SignalLeftWarning, and for fewer than 20 steps.
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
        correction: Asked = "auto",
        density: JointDensity | None = None,
        doubt: str = "",
    ) -> None:
        if not isinstance(prior, Denoiser) or not isinstance(observation, Observation | None):
            raise TypeError(
                "Posterior(prior, observation) takes a Denoiser and an Observation or None; got "
                f"{type(prior).__name__} and {type(observation).__name__}"
            )
        if observation is not None and observation.sets is not None:
            raise TypeError(f"the observation holds {observation.sets} data sets; use Posteriors for many")
        steps = checked_steps(steps, likelihood, correction)
        self._compile(prior, observation, likelihood, steps, noise_to_signal, correction, density, doubt)

    def __getstate__(self) -> dict[str, Any]:
        """Without a density that another process cannot have, unless it is what the choice needs."""
        state, density = dict(vars(self)), self.density
        if density is None or density.sendable or self.choice.name == "density":
            return state
        choice = replace(self.choice, hamiltonian=None)
        return state | {
            "choice": choice,
            "problem": replace(self.problem, density=None, choice=choice, found={}),
        }

    def _run(self, sampling: Sampling) -> PosteriorRun:
        found = self.drawn(sampling)
        if found.diagnosis is None and not self.choice.unweighed:
            return replace(found, diagnosis=TwistedSMC().measure(self.problem))
        return found

    def drawn(self, sampling: Sampling) -> PosteriorRun:
        """As `run`, but that nothing is measured besides: the diagnosis is None of an uncorrected
        approximation."""
        backend, draws = self.prior.backend, sampling.draws
        size = draws * self.prior.dim * backend.itemsize
        require_memory(size, backend, f"a run of draws={draws}", "ask for fewer at a time")
        problem = self.problem.asked(sampling)
        first = self.choice.correction or self._uncorrected(problem)
        if first.own_steps:
            require_own_steps(problem)
        x, (diagnosis,), _ = self._first_trusted(self._attempts(problem, first), 1, sampling)
        if diagnosis is not None and not diagnosis.trusted:
            warn_user(diagnosis.text, UntrustedWarning)
        return PosteriorRun(x[0, ...], diagnosis)  # type: ignore[arg-type]

    def _attempts(self, problem: Problem, first: Correction) -> Iterator[_Attempt]:
        """What is tried in turn, until one is to be trusted: what was asked for; of 'auto' moves on the known
        density where the pilot of the choice fails, the choice or its fallback, moves on the density, more
        particles, the fallback."""
        if self.asked_for[1] != "auto" or self.choice.correction is None:
            yield _Attempt(first.draw, problem)
            return
        moves, fallback = self.choice.hamiltonian, self.choice.fallback
        even = self._ess_fraction(first) >= POOR_SHARE
        if moves is not None and not even:
            yield _Attempt(moves.draw, problem.because(self._shortfall(first)))
        weighted = self.correction
        other = problem if weighted is first else problem.because(self._shortfall(first))
        yield _Attempt(weighted.draw, other)
        if moves is not None and even:
            yield _Attempt(moves.draw, problem.because(self._shortfall(first)))
        wider = weighted.wider(problem) if self._ess_fraction(weighted) >= 0 else None
        if wider is not None:
            yield _Attempt(wider, other)
        if fallback is not None and weighted is first:
            yield _Attempt(fallback.draw, problem.because(self._shortfall(first)))

    def _shortfall(self, first: Correction) -> str:
        """What came of the choice, in words."""
        return first.shortfall(max(self._ess_fraction(first), 0.0))


class Posteriors(_Posterior[PosteriorRuns]):
    """`Posterior` for many data sets: they are solved together, row by row, as far as they can be.

    prior: as for `Posterior`; observation: of any one data set; y: (data sets, observation.count), in the
    units of observation.y. Or observation=None, y=None, and `one`: the number of a data set ↦ its
    `Posterior`, with `sets` of them, each of which is then solved by itself (why: in words). likelihood,
    steps, noise_to_signal, correction: as for `Posterior`, but for likelihood a `MeanLikelihood` stands
    what makes one of a prior and an observation, such as its class.

    Closed forms, uncorrected mean likelihoods and twisted SMC are batched. 'auto' takes twisted SMC where a
    single query may take `TemperedSMC`; data sets whose weights are not to be trusted are solved again with
    larger runs, and those that still are not by themselves, where a single query may temper. `TemperedSMC`
    and `LangevinCorrector` solve each by itself. The result says so. The draws of a data set do not depend
    on the others, given the times of a twisted solve, which a pilot finds for all. In host mode the first
    data set has the numbers of a single query.

    Raises: as `Posterior`; TypeError for an observation that holds one data set.
    """

    def __repr__(self) -> str:
        how = "one by one" if self._alone else str(self.choice)
        how = "closed form" if not self._alone and self.choice.exact is not None else how
        return f"Posteriors({self.prior!r}, {self.sets} data sets, {how})"

    def __init__(
        self,
        prior: Denoiser,
        observation: Observation | None,
        y: Array | None,
        likelihood: str | Callable[[Denoiser, Observation], MeanLikelihood] = "auto",
        steps: int = 100,
        noise_to_signal: float | None = None,
        correction: Asked = "auto",
        *,
        one: Callable[[int], Posterior] | None = None,
        sets: int | None = None,
        why: str = NOT_BATCHED,
    ) -> None:
        kind("prior", prior, Denoiser, "a Denoiser")
        kind("observation", observation, Observation | None, "an Observation, or None")
        self.prior, self.steps = prior, checked_steps(steps, likelihood, correction)
        self.observation = None if observation is None or y is None else observation.with_data(y)
        count = sets if self.observation is None else self.observation.sets
        if not count or (self.observation is None and one is None):
            raise ValueError(
                "Posteriors takes y (data sets, observations) of at least one data set, or one= and sets="
            )
        self.sets = count

        self._alone = "" if self.observation is not None else why
        if isinstance(correction, Correction) and not correction.batched:
            self._alone = f"{type(correction).__name__} is not batched"
        self.one = one or _Single(prior, observation, y, likelihood, steps, noise_to_signal, correction)
        if not self._alone:
            assert self.observation is not None
            rung = likelihood(prior, self.observation) if callable(likelihood) else likelihood
            self._compile(prior, self.observation, rung, self.steps, noise_to_signal, correction)

    def drawn(self, sampling: Sampling) -> PosteriorRuns:
        backend, what = self.prior.backend, f"a run of draws={sampling.draws} for {self.sets} data sets"
        require_memory(self.sets * sampling.draws * self.prior.dim * backend.itemsize, backend, what, FEWER)
        if self._alone:
            numbers = tuple(range(self.sets))
            x, found = self._one_by_one(numbers, sampling)
            text = f"{self.sets} data sets, each solved by itself: {self._alone}"
            return PosteriorRuns(x, tuple(one for one in found if one), text, numbers)
        problem, alone = self.problem.asked(sampling), list[int]()
        if self._batched(problem).own_steps:
            require_own_steps(problem)
        attempts = self._attempts(problem, sampling, alone)
        x, found, words = self._first_trusted(attempts, self.sets, sampling)
        text = f"{self.sets} data sets in one solve{words}"
        result = PosteriorRuns(x, tuple(one for one in found if one), text, tuple(alone))
        if self._batched(problem).own_steps and not result.trusted:
            warn_user(str(result), UntrustedWarning)
        return result

    def _batched(self, problem: Problem) -> Correction:
        """The choice, or its fallback: the one that takes all data sets at once."""
        first = self.choice.correction or self._uncorrected(problem)
        if first.batched or self.choice.fallback is None:
            return first
        return self.choice.fallback

    def _attempts(self, problem: Problem, sampling: Sampling, alone: list[int]) -> Iterator[_Attempt]:
        """What is tried in turn: all at once; of 'auto' those that are not to be trusted with more particles,
        then by themselves where one alone may temper; by themselves too where no particle can have led to the
        data."""
        batched, tempers = self._batched(problem), self.choice.fallback is not None
        if self.choice.correction is None:
            how = f" by '{self.choice.name}', not corrected"
            how = how if self.choice.exact is None else ": closed form for each data set"
            yield _Attempt(batched.draw, problem, lambda _: how)
            return
        instead = "" if batched is self.choice.correction else INSTEAD
        problem = problem.because(f"{self.sets} data sets in one solve{instead}")
        name = Pilot.of(problem).twist.name
        yield _Attempt(batched.draw, problem, lambda _: f" by '{name}' and twisted SMC{instead}")
        wider = batched.wider(problem) if self.asked_for[1] == "auto" else None
        if wider is not None:
            again = ", {} of them again with runs of 8 times the particles"
            yield _Attempt(wider, problem, again.format)

        def by_themselves(problem: Problem, draws: int, stream: NoiseStream) -> Drawn:
            assert problem.numbers is not None
            alone.extend(problem.numbers)
            return self._one_by_one(problem.numbers, sampling)

        words = ", and {} by themselves, as they were not to be trusted"
        yield _Attempt(by_themselves, problem, words.format, impossible_only=not tempers)

    def _one_by_one(self, numbers: Sequence[int], sampling: Sampling) -> Drawn:
        count, what = len(numbers), f"{sampling.draws} draws for each of {len(numbers)} data sets, one by one"
        bar = Progress(count, sampling.progress, "one by one", "set", what, FEWER)
        runs = []
        with said_once(), unsaid(UntrustedWarning):  # which is said of all
            for number in bar.over(numbers):
                seed = seed_of(sampling.seed, ALONE + number)
                runs.append(self.one(number)._run(replace(sampling, seed=seed, progress=False)))
        return self.prior.backend.xp.stack([run.draws for run in runs]), [run.diagnosis for run in runs]


@dataclass(frozen=True)
class _Single:
    """The number of a data set ↦ its posterior."""

    prior: Denoiser
    observation: Observation | None
    y: Array | None
    likelihood: str | Callable[[Denoiser, Observation], MeanLikelihood]
    steps: int
    noise_to_signal: float | None
    correction: Asked

    def __call__(self, number: int) -> Posterior:
        assert self.observation is not None and self.y is not None
        data = self.observation.with_data(self.y[number, :])
        rung = self.likelihood(self.prior, data) if callable(self.likelihood) else self.likelihood
        return Posterior(self.prior, data, rung, self.steps, self.noise_to_signal, self.correction)


def checked_steps(steps: int, likelihood: object, correction: object) -> int:
    """Raises: ValueError, TypeError for what is no number of steps, and arrays."""
    steps = whole_number("steps", steps, 2)
    for name, given in (("likelihood", likelihood), ("correction", correction)):
        if hasattr(given, "shape"):
            raise TypeError(f"{name} must be a name or settings, not an array; got {given!r:.80}")
    return steps
