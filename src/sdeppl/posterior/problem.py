"""What is asked of a posterior, what makes its draws, and the arguments by which they are asked for."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

from ..backend import Noise, NoiseStream, real_parameter, seed_number, whole_number
from ..backend.arguments import kind
from ..backend.typing import Array
from ..denoisers import Denoiser, GaussianDenoiser
from ..likelihood import ExactPosterior, GaussianPosterior, MeanLikelihood, Observation
from ..mcmc import Density, State
from ..sde import IsotropicSDE, log_snr_grid
from ..solvers import Solver
from .diagnosis import Diagnosis
from .start import GaussianStart, Start, start_moments

Amplitude = float | Callable[[float], float]
NoiseMode = Literal["host", "native"]
Run = TypeVar("Run")
Found = TypeVar("Found")


@dataclass(frozen=True)
class Sampling:
    """One call of `sample` or `run`, checked: its arguments."""

    draws: int
    seed: int = 0
    c: Amplitude | None = None
    solver: Solver | None = None
    noise: NoiseMode = "host"
    progress: bool | None = None
    batch: int | None = None
    diagnosed: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "draws", whole_number("draws", self.draws, 1))
        object.__setattr__(self, "seed", seed_number(self.seed))
        if self.c is not None and not callable(self.c) and not getattr(self.c, "ndim", 0):
            real_parameter("c", self.c)
        if self.batch is not None:
            object.__setattr__(self, "batch", whole_number("batch", self.batch, 1))
        kind("solver", self.solver, Solver | None, "a solver such as ExponentialHeun(), or None")


class Sampler(ABC, Generic[Run]):
    """What draws from a posterior, by `sample` and by `run`."""

    def sample(
        self,
        draws: int,
        *,
        seed: int = 0,
        c: Amplitude | None = None,
        solver: Solver | None = None,
        noise: NoiseMode = "host",
        progress: bool | None = None,
        batch: int | None = None,
    ) -> Any:
        """From p(x_0 given y), independent but within a run of weighted particles: ([data sets,] draws, dim)
        on the prior's backend, or of a posterior by site {site name: ([data sets,] draws, *shape)}.

        c: noise amplitude of the reverse SDE in units of g(t), 1 by default, 0 for the probability-flow ODE,
        which a correction cannot use; solver: of an uncorrected solve, `ExponentialHeun` by default. A
        Gaussian prior that is held by a structure, as that of a field, seen linearly, is drawn directly,
        without a reverse SDE, unless c or solver is given. noise: as in `Noise`; batch: how many draws are
        made at once where nothing weighs them against one another, by default as many as are quick and fit
        in memory; in host mode the draws are the same for any. Raises: NonFiniteState; ValueError. Warns:
        UntrustedWarning where the weights of a corrected solve, or draws held out of the fit of the prior,
        say that these draws are not the posterior.
        """
        return self._sampled(Sampling(draws, seed, c, solver, noise, progress, batch, diagnosed=False))

    def run(
        self,
        draws: int,
        *,
        seed: int = 0,
        c: Amplitude | None = None,
        solver: Solver | None = None,
        noise: NoiseMode = "host",
        progress: bool | None = None,
        batch: int | None = None,
    ) -> Run:
        """As `sample`, with a diagnosis, or one of each data set: what was chosen and why, effective share,
        ln p(y), how well the prior is learned, in words.

        Of an uncorrected approximation, or one that Langevin steps correct, a small twisted solve measures
        the effective share of the approximation; not where there are many data sets.
        """
        return self._run(Sampling(draws, seed, c, solver, noise, progress, batch))

    @abstractmethod
    def _sampled(self, sampling: Sampling) -> Any: ...

    @abstractmethod
    def _run(self, sampling: Sampling) -> Run: ...


class JointDensity(Density, Protocol):
    """ln p(x_0) + ln p(y given x_0) but for a constant, of rows x_0 (chains, dim), with its gradient.

    Or of z, other coordinates of x_0, with ln |dx_0/dz|. why_not: in words, why chains cannot follow it; ''
    where they can; why_no_values: the same of its values alone. coordinates: in words, what z is; '' for x_0
    itself.
    """

    @property
    def why_not(self) -> str: ...

    @property
    def why_no_values(self) -> str: ...

    @property
    def count(self) -> int:
        """Of the numbers observed."""
        ...

    def base(self, sde: IsotropicSDE) -> GaussianDenoiser:
        """The Gaussian that is like the prior."""
        ...

    def log_prob(self, z: Array, /) -> Array:
        """The value at rows z (rows, dim), constants included, -∞ where it is not a number: (rows,)."""
        ...

    def recorded_log_prob(self, x0: Array, /) -> Callable[[Array], Array]:
        """`log_prob` for many batches like x_0, as fast as it can be made."""
        ...

    @property
    def coordinates(self) -> str: ...

    @property
    def sendable(self) -> bool:
        """Whether it can be pickled."""
        ...

    @property
    def others(self) -> tuple["JointDensity", ...]:
        """The same in other coordinates, to be tried where chains do not move well in these."""
        ...

    def points(self, z: Array) -> Array:
        """x_0 of rows z."""
        ...

    def recorded(self, z: Array, /) -> Density:
        """The same for many rows like z, as fast as it can be made."""
        ...

    def start(self, chains: int, seed: int) -> State:
        """Draws of the prior that the data allow, wider than the posterior. Raises: ValueError for none."""
        ...


@dataclass(frozen=True)
class Choice:
    """denoiser: of x_0 given x_t and y; twist: the same as a mean likelihood, or None where it is exact;
    alternative_twist: another one, to be taken where it leaves the weights of a pilot solve more even.

    correction: None where draws are those of the guided reverse SDE; fallback: another one, for where its
    pilot shows that it fails; hamiltonian: moves on the known density, to be tried before that; known:
    whether a closed form is of the known density; why: in words; unweighed: in words, why draws are neither
    corrected nor measured, as of priors of very many numbers.
    """

    denoiser: Denoiser
    name: str
    why: str
    exact: ExactPosterior | GaussianPosterior | None = None
    twist: MeanLikelihood | None = None
    alternative_twist: MeanLikelihood | None = None
    correction: "Correction | None" = None
    fallback: "Correction | None" = None
    hamiltonian: "Correction | None" = None
    known: bool = False
    unweighed: str = ""

    @property
    def prior(self) -> Literal["known", "learned"]:
        """Whose density a closed form follows."""
        return "known" if self.known else "learned"

    def __repr__(self) -> str:
        how = "not corrected" if self.correction is None else f"corrected by {self.correction}"
        return f"likelihood '{self.name}', {how}"


@dataclass(frozen=True)
class Problem:
    """p(x_0 given y) of one data set or many, and how it is solved.

    prior: E and Cov of x_0 given x_t; observation: None for the prior itself; start: x_T given y; steps: of
    the reverse SDE; level: σ/α before the last one; density: of x_0 and y, where the prior's own is known;
    doubt: in words, why the denoiser is not to be relied on; why: of the diagnosis. c, solver, progress,
    batch: of this call; reverse: whether it asks for a reverse SDE; diagnosed: whether it asks for all of a
    diagnosis, or for draws alone; numbers: of the data sets that are wanted, None for all. found: what pilots
    found, which all calls share.
    """

    prior: Denoiser
    observation: Observation | None
    choice: Choice
    start: Start | GaussianStart
    steps: int
    level: float
    why: str
    density: JointDensity | None = None
    doubt: str = ""
    c: Amplitude = 1.0
    solver: Solver | None = None
    progress: bool | None = None
    batch: int | None = None
    reverse: bool = False
    diagnosed: bool = True
    numbers: tuple[int, ...] | None = None
    found: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)

    def once(self, key: Hashable, make: Callable[[], Found]) -> Found:
        """What `make` gives; made at the first call with this key, for all calls of a posterior."""
        if key not in self.found:
            self.found[key] = make()
        found: Found = self.found[key]
        return found

    @property
    def times(self) -> list[float]:
        """T to 0, evenly in ln(α/σ)."""
        return self.once("times", lambda: log_snr_grid(self.prior.sde, self.steps, self.level))

    @property
    def prior_start(self) -> Start:
        """The end of the unguided forward SDE, from which the data are weighed."""
        if self.choice.denoiser is self.prior and isinstance(self.start, Start):
            return self.start
        return self.once("prior start", lambda: start_moments(self.prior))

    @property
    def many(self) -> bool:
        """Whether there is an axis of data sets."""
        return self.observation is not None and self.observation.sets is not None

    @property
    def sets(self) -> Array | None:
        """The numbers of the data sets wanted, as an array (data sets,); None where there is one alone."""
        if self.observation is None or self.observation.sets is None:
            return None
        xp, device = self.prior.backend.xp, self.prior.backend.device
        wanted = range(self.observation.sets) if self.numbers is None else self.numbers
        found: Array = xp.asarray(list(wanted), dtype=xp.int64, device=device)
        return found

    def of(self, numbers: Sequence[int]) -> "Problem":
        """For some of the data sets."""
        return replace(self, numbers=tuple(numbers)) if self.many else self

    def asked(self, sampling: Sampling) -> "Problem":
        """For one call."""
        return replace(
            self,
            c=1.0 if sampling.c is None else sampling.c,
            solver=sampling.solver,
            progress=sampling.progress,
            batch=sampling.batch,
            reverse=sampling.c is not None or sampling.solver is not None,
            diagnosed=sampling.diagnosed,
        )

    def because(self, why: str) -> "Problem":
        """With more to `why`."""
        return replace(self, why=f"{self.why}; {why}")

    @property
    def follows_density(self) -> bool:
        """Whether tempering follows the known density: the denoiser is not to be relied on, or dearer."""
        if self.density is None or self.density.why_no_values:
            return False
        return bool(self.doubt) or not isinstance(self.prior, GaussianDenoiser)


Drawn = tuple[Array, list[Diagnosis | None]]
Draw = Callable[[Problem, int, NoiseStream], Drawn]


class Correction(ABC):
    """What makes draws exact, whatever the mean likelihood.

    batched: whether it takes many data sets at once; unguided: what a choice without a mean likelihood is
    called, '' where it takes one; own_steps: whether it takes no solver, and no noise amplitude of 0.
    """

    batched: ClassVar[bool] = False
    own_steps: ClassVar[bool] = True
    unguided: ClassVar[str] = ""

    def _hold(self, name: str, check: Callable[..., object], *limits: int) -> None:
        """A setting as `whole_number` or `real_parameter` checks it; None as it is where that is the
        default."""
        value, default = getattr(self, name), getattr(type(self), name)
        if value is not None or default is not None:
            object.__setattr__(self, name, check(f"{type(self).__name__}: {name}", value, *limits))

    @abstractmethod
    def draw(self, problem: Problem, draws: int, stream: NoiseStream) -> Drawn:
        """(data sets, draws, dim), with one data set where there is no axis of them, and a diagnosis of each:
        None where no particle can have led to the data, or nothing was measured."""

    def require(self, observation: Observation, density: JointDensity | None) -> None:  # noqa: B027 - of most
        """Raises: TypeError, ValueError for what it cannot take."""

    def ess_fraction(self, problem: Problem) -> float:
        """Effective fraction of the weights by a pilot; 1 where there is none, -1 where it found nothing."""
        return 1.0

    def shortfall(self, ess: float) -> str:
        """What came of it, in words, where it was not to be trusted; ess: effective fraction by its pilot."""
        return f"{type(self).__name__} was not to be trusted, with an effective share of {ess:.2g}"

    def wider(self, problem: Problem) -> Draw | None:
        """The same with more particles, where that is to be tried."""
        return None


Asked = Correction | Literal["auto"] | None


def require_own_steps(problem: Problem) -> None:
    """Raises: ValueError for a solver, and for a noise amplitude of 0, of which a corrected solve has no
    weights."""
    if problem.solver is not None:
        raise ValueError("solver= is not for a corrected solve, which takes steps of its own")
    c = problem.c
    if not callable(c) and not 0 < float(c) < math.inf:
        raise ValueError(
            f"a corrected solve needs noise, c > 0; got c={c!r}; use correction=None for the "
            "probability-flow ODE"
        )


def pilot_stream(problem: Problem) -> NoiseStream:
    """Noise of its own, so that a seed of draws does not change what a pilot finds."""
    return Noise(0x70696C6F74).stream(problem.prior.backend)
