"""Draws from the posteriors of many data sets, in one reverse solve."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ..backend import Noise, Progress, real_parameter, require_memory, seed_number, to_host, whole_number
from ..backend.arguments import count_of, kind, sites_in_words
from ..backend.sharing import cached_property, said_once, unsaid, warn
from ..denoisers import Denoiser
from ..likelihood import MeanLikelihood, MixtureRows, Observation, exact_rows, has_exact_posterior
from ..sde import log_snr_grid
from ..solvers import Solver
from .choice import FEW_NUMBERS, Choice, choose
from .corrector import LangevinCorrector
from .diagnosis import Diagnosis, UntrustedWarning, exact_diagnosis
from .fit_check import FitCheck, State
from .hamiltonian import HamiltonianMC
from .many_rows import FEWER, RowSolve, put, seed_of
from .many_twisted import ManyTwisted
from .posterior import Posterior
from .start import first_step, last_level, start_moments
from .tempered import TemperedSMC
from .twisted import TwistedSMC

ALONE_ALWAYS = (TemperedSMC, HamiltonianMC, LangevinCorrector)
INSTEAD = " (a query of one would temper, at powers of the likelihood that suit its data alone)"
ALONE = 2**20  # from this number on, seeds are of data sets that are solved by themselves


@dataclass(frozen=True)
class PosteriorRuns:
    """draws: (data sets, draws, dim), or by site name; diagnoses: of each data set, and none at all where an
    approximation was not corrected; text: how they were made, in words; alone: the data sets that had a
    solve of their own."""

    draws: Any
    diagnoses: tuple[Diagnosis, ...]
    text: str
    alone: tuple[int, ...]

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
class _Settings:
    """Of one call of `run`."""

    draws: int
    seed: int
    c: Any
    solver: Solver | None
    noise: Any
    progress: bool | None


class Posteriors:
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
        how = self.choice or ("one by one" if self.exact is None else "closed form")
        return f"Posteriors({self.prior!r}, {self.sets} data sets, {how})"

    def __init__(
        self,
        prior: Denoiser,
        observation: Observation | None,
        y: Any,
        likelihood: str | Callable[[Denoiser, Observation], MeanLikelihood] = "auto",
        steps: int = 100,
        noise_to_signal: float | None = None,
        correction: TwistedSMC | TemperedSMC | LangevinCorrector | Literal["auto"] | None = "auto",
        *,
        one: Callable[[int], Posterior] | None = None,
        sets: int | None = None,
        why: str = "what was observed is not a function of the data alone, or not in the same numbers",
    ) -> None:
        steps = whole_number("steps", steps, 2)
        for name, given in (("likelihood", likelihood), ("correction", correction)):
            if hasattr(given, "shape"):
                raise TypeError(f"{name} must be a name or settings, not an array; got {given!r:.80}")
        kind("prior", prior, Denoiser, "a Denoiser")
        kind("observation", observation, Observation | None, "an Observation, or None")
        self.prior, self.steps, self.wanted, self.why = prior, steps, correction, why
        self.observation = None if observation is None else observation.with_data(y)
        count = sets if self.observation is None else self.observation.sets
        if not count or (self.observation is None and one is None):
            raise ValueError(
                "Posteriors takes y (data sets, observations) of at least one data set, or one= and sets="
            )
        self.sets = count

        self.one = one or _Single(prior, observation, y, likelihood, steps, noise_to_signal, correction)
        self.exact: MixtureRows | None = None
        self.choice: Choice | None = None
        if self.observation is None or isinstance(correction, ALONE_ALWAYS):
            return
        if likelihood in ("auto", "exact") and has_exact_posterior(prior, self.observation):
            self.exact = exact_rows(prior, self.observation)
        else:
            twisted = TwistedSMC() if correction == "auto" else correction
            step = first_step(prior.sde, steps, noise_to_signal)
            rung = likelihood(prior, self.observation) if callable(likelihood) else likelihood
            self.choice = choose(prior, self.observation, rung, twisted, step)
            few = prior.dim <= FEW_NUMBERS and not self.observation.hard
            self.tempers = likelihood == correction == "auto" and few
            alone = choose(prior, self.observation, "auto", "auto", step) if self.tempers else self.choice
            self.instead = INSTEAD if isinstance(alone.correction, TemperedSMC) else ""
        denoiser: Any = self.exact or (self.choice and self.choice.denoiser)
        self.rows = RowSolve.of(denoiser, prior, count)
        self.level = last_level(self.rows.start.smallest_sd, noise_to_signal)

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
        """(data sets, draws, dim), on the prior's backend. Arguments and errors as in `Posterior.sample`."""
        return self.drawn(draws, seed=seed, c=c, solver=solver, noise=noise, progress=progress).draws

    def drawn(self, draws: int, **settings: Any) -> PosteriorRuns:
        """`run`, which measures nothing more."""
        return self.run(draws, **settings)

    def run(
        self,
        draws: int,
        *,
        seed: int = 0,
        c: float | Callable[[float], float] = 1.0,
        solver: Solver | None = None,
        noise: Literal["host", "native"] = "host",
        progress: bool | None = None,
    ) -> PosteriorRuns:
        """As `sample`, with a diagnosis of each data set, and how they were solved."""
        draws, seed = whole_number("draws", draws, 1), seed_number(seed)
        if not callable(c) and not getattr(c, "ndim", 0):
            real_parameter("c", c)
        kind("solver", solver, Solver | None, "a solver such as ExponentialHeun(), or None")
        size = self.sets * draws * self.prior.dim * self.prior.backend.itemsize
        require_memory(size, self.prior.backend, f"a run of draws={draws} for {self.sets} data sets", FEWER)
        settings = _Settings(draws, seed, c, solver, noise, progress)
        if self.exact is None and self.choice is None:
            return self._each_alone(settings)
        if self.choice is not None and self.choice.correction is not None:
            return self._twisted(settings)
        times = log_snr_grid(self.prior.sde, self.steps, self.level)
        x = self.rows.draw(draws, times, seed, c, solver, noise, progress)
        if self.exact is None:
            assert self.choice is not None
            text = f"{self.sets} data sets in one solve by '{self.choice.name}', not corrected"
            return PosteriorRuns(x, (), text, ())
        why = "closed form for each data set"
        evidences = to_host(self.exact.log_evidence)
        found = tuple(exact_diagnosis(why, float(value)) for value in evidences)
        return PosteriorRuns(x, found, f"{self.sets} data sets in one solve: {why}", ())

    def _each_alone(self, settings: _Settings) -> PosteriorRuns:
        why = self.why if self.observation is None else f"{type(self.wanted).__name__} is not batched"
        numbers = tuple(range(self.sets))
        found = self._one_by_one(numbers, settings)
        x = self.prior.backend.xp.stack([run.draws for run in found])
        text = f"{self.sets} data sets, each solved by itself: {why}"
        return PosteriorRuns(x, tuple(run.diagnosis for run in found), text, numbers)

    @cached_property
    def correction(self) -> ManyTwisted:
        """The twisted solve of all."""
        assert self.choice is not None and isinstance(self.choice.correction, TwistedSMC)
        why = f"{self.choice.why}; {self.sets} data sets in one solve{self.instead}"
        start = start_moments(self.prior)
        return ManyTwisted(
            self.prior, start, self.choice, self.choice.correction, self.steps, self.level, why
        )

    def _twisted(self, settings: _Settings) -> PosteriorRuns:
        if settings.solver is not None:
            raise ValueError("solver= is not for a corrected solve, which takes steps of its own")
        backend = self.prior.backend
        shape = self.sets, settings.draws, self.prior.dim
        x: Any = backend.xp.zeros(shape, dtype=backend.dtype, device=backend.device)
        found: list[Diagnosis | None] = [None] * self.sets
        bad = tuple(range(self.sets))
        text = f"{self.sets} data sets in one solve by '{self.correction.pilot[0].name}' and twisted SMC"
        text += self.instead
        for wider in (False, True)[: 2 if self.wanted == "auto" else 1]:
            if not bad:
                break
            if wider:
                text += f", {len(bad)} of them again with runs of 8 times the particles"
            stream = Noise(seed_of(settings.seed, wider), settings.noise).stream(backend)
            sets = backend.xp.asarray(bad, dtype=backend.xp.int64, device=backend.device)
            made, diagnoses = self.correction.draw_sets(
                settings.draws, sets, wider, stream, settings.c, settings.progress
            )
            x = put(x, made, bad)
            for number, diagnosis in zip(bad, diagnoses, strict=True):
                found[number] = diagnosis
            bad = tuple(n for n in bad if not _trusted(found[n]))
        alone = bad if self.tempers else tuple(n for n in bad if found[n] is None)
        if alone:
            runs = self._one_by_one(alone, settings)
            text += f", and {len(alone)} by themselves, as they were not to be trusted"
            x = put(x, backend.xp.stack([run.draws for run in runs]), alone)
            for number, run in zip(alone, runs, strict=True):
                found[number] = run.diagnosis
        result = PosteriorRuns(x, tuple(one for one in found if one), text, alone)
        if not result.trusted:
            warn(str(result), UntrustedWarning, stacklevel=4)
        return result

    def _one_by_one(self, numbers: Sequence[int], settings: _Settings) -> list[Any]:
        count, what = len(numbers), f"{settings.draws} draws for each of {len(numbers)} data sets, one by one"
        bar = Progress(count, settings.progress, "one by one", "set", what, FEWER)
        shown: Iterator[int] = bar.over(numbers)
        with said_once(), unsaid(UntrustedWarning):  # which is said of all
            return [
                self.one(number).run(
                    settings.draws,
                    seed=seed_of(settings.seed, ALONE + number),
                    c=settings.c,
                    solver=settings.solver,
                    noise=settings.noise,
                    progress=False,
                )
                for number in shown
            ]


@dataclass(frozen=True)
class _Single:
    """The number of a data set ↦ its posterior."""

    prior: Denoiser
    observation: Any
    y: Any
    likelihood: Any
    steps: int
    noise_to_signal: float | None
    correction: Any

    def __call__(self, number: int) -> Posterior:
        data = self.observation.with_data(self.y[number, :])
        rung = self.likelihood(self.prior, data) if callable(self.likelihood) else self.likelihood
        return Posterior(self.prior, data, rung, self.steps, self.noise_to_signal, self.correction)


def _trusted(diagnosis: Diagnosis | None) -> bool:
    return diagnosis is not None and diagnosis.trusted
