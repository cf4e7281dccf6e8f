"""Draws of the guided reverse SDE as it is, and what shows that guidance went astray."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from ..backend import (
    Noise,
    NoiseStream,
    Progress,
    array_namespace,
    free_memory,
    keyed_normal,
    require_memory,
    rows_at_once,
    to_host,
    warn_user,
)
from ..backend.typing import Array
from ..denoisers import Denoiser, GaussianDenoiser, GaussianMixtureDenoiser
from ..likelihood import GaussianPosterior, MeanLikelihood, Observation, TweedieDenoiser
from ..likelihood.observation import possible
from ..linalg import Diagonalisable
from ..sde import ReverseSDE
from ..solvers import ExponentialHeun, NonFiniteState, solve
from .diagnosis import Diagnosis, UntrustedWarning, exact_diagnosis, unweighed_diagnosis
from .problem import Correction, Drawn, Problem
from .start import Start

ARRAYS = 8  # like the draws, that a solve holds at once
ROWS = 2**14  # of many data sets, solved at once
LARGEST = 2**22  # numbers in one array of a mixture's components
PARTICLES = 4  # of a weighted solve, for each draw that is kept
FEWER = "fewer draws, steps or data sets take less"
SPREAD = 0x9E3779B97F4A7C15  # between the seeds of blocks: odd, so that none comes twice
FAR = 6.0  # root mean square over draws, in standard deviations of the prior along a direction
FARTHEST = 12.0  # the same of a single draw
LOOKED_AT = 256  # draws, and as many of the prior's Gaussian, of which ln p(y) is asked
WORSE = 3.0  # nats of a median
SIZES, TIMES = (0.3, 0.1, 0.03, 0.01), 4  # of moves, 1 for a draw of the prior; how often each is made
ONE_SIDED, SURE, FEWEST = 0.25, 5.0, 20  # net share of the moves taken, its standard errors, draws
STREAM = (0x64697665726765, 0)
INSTEAD = (
    "use correction='auto', which weighs its draws, or another likelihood; run() says how far to trust them"
)


@dataclass(frozen=True)
class Guided(Correction):
    """No correction: draws as the guided reverse SDE leaves them, exact where its score is."""

    batched: ClassVar[bool] = True
    own_steps: ClassVar[bool] = False

    def draw(self, problem: Problem, draws: int, stream: NoiseStream) -> Drawn:
        """As many data sets at a time as keep the arrays small. Raises: NonFiniteState, naming the
        likelihood."""
        xp, sets = problem.prior.backend.xp, problem.sets
        count = 1 if sets is None else sets.shape[0]
        if isinstance(problem.choice.twist, TweedieDenoiser):
            problem.choice.twist.spent.evaluations = problem.choice.twist.spent.products = 0
        if sets is None:
            x = self._batches(problem, draws, stream)
            return x[None, ...], self._diagnoses(problem, count, x)
        at_once = max((problem.batch or _rows_at_once(problem.choice.denoiser)) // draws, 1)
        firsts = range(0, count, at_once)
        if len(firsts) == 1:
            x = self._block(problem, sets, draws, stream, problem.progress)
        else:
            what = f"{draws} draws for each of {count} data sets"
            bar = Progress(len(firsts), problem.progress, "sampling", "block", what, FEWER)
            parts = []
            for number, first in enumerate(bar.over(firsts)):
                own = Noise(seed_of(stream.seed, number), stream.mode).stream(stream.backend)
                some = sets[first : first + at_once]
                parts.append(self._block(problem, some, draws, own if number else stream, False))
            x = xp.concat(parts, axis=0)
        return xp.reshape(x, (count, draws, problem.prior.dim)), self._diagnoses(problem, count, x)

    def _batches(self, problem: Problem, draws: int, stream: NoiseStream) -> Array:
        """Of one data set, (draws, dim): as many at once as are asked for, or fit in memory."""
        backend, denoiser = problem.prior.backend, problem.choice.denoiser
        row, free = ARRAYS * denoiser.dim * backend.itemsize, free_memory(backend)
        at_once = problem.batch or draws
        if problem.batch is None and free is not None and row * draws > free:
            what = f"one draw of {denoiser.dim} numbers"
            at_once = rows_at_once(row, backend, what, FEWER)
        firsts = range(0, draws, at_once)
        if len(firsts) == 1:
            return self._block(problem, None, draws, stream, problem.progress)
        bar = Progress(len(firsts), problem.progress, "sampling", "batch", f"{draws} draws", FEWER)
        return backend.xp.concat(
            [
                self._block(problem, None, min(at_once, draws - first), stream.after(first), False)
                for first in bar.over(firsts)
            ],
            axis=0,
        )

    def _block(
        self, problem: Problem, sets: Array | None, draws: int, stream: NoiseStream, progress: bool | None
    ) -> Array:
        """x_0 (data sets × draws, dim)."""
        backend, denoiser, index, rows = problem.prior.backend, problem.choice.denoiser, None, draws
        if sets is not None:
            index = each(sets, draws)
            rows, denoiser = index.shape[0], denoiser.of_sets(index)
        size = ARRAYS * rows * denoiser.dim * backend.itemsize
        what = f"{rows} draws of {denoiser.dim} numbers at once"
        require_memory(size, backend, what, "ask for fewer at a time, each time with another seed")
        with named(denoiser):
            path = solve(
                ReverseSDE(denoiser.sde, denoiser, problem.c),
                problem.start.of_sets(index).draw(stream, rows),
                problem.times,
                solver=problem.solver or ExponentialHeun(),
                noise=stream,
                keep="last",
                progress=progress,
            )
        x: Array = path.states[-1, ...]
        return x

    def _diagnoses(self, problem: Problem, count: int, x: Array) -> list[Diagnosis | None]:
        choice = problem.choice
        if choice.exact is not None:
            why = "closed form for each data set" if problem.many else choice.why
            wanted = list(range(count) if problem.numbers is None else problem.numbers)
            if isinstance(choice.exact, GaussianPosterior):
                how = f"by the reverse SDE, {choice.exact.S.words}"
                return [gaussian_diagnosis(problem, choice.exact, n, how) for n in wanted]
            evidences = to_host(choice.exact.log_evidence).reshape(-1)
            return [exact_diagnosis(why, float(evidences[n]), choice.prior) for n in wanted]
        if choice.twist is None:
            return [exact_diagnosis(choice.why, 0.0)]
        if choice.unweighed:
            found = unweighed_diagnosis(choice.name, choice.why, choice.unweighed, self._cost(problem, x))
            return [found] * count
        if not problem.many:
            warn_of_divergence(choice.name, problem.prior, problem.prior_start, problem.observation, x)
        return [None] * count

    def _cost(self, problem: Problem, x: Array) -> str:
        """What a draw took and what weighing it would have taken, in words."""
        twist, observed = problem.choice.twist, problem.observation
        assert isinstance(twist, TweedieDenoiser) and observed is not None
        draws, spent = max(math.prod(x.shape[:-1]), 1), twist.spent
        weighed = PARTICLES * problem.steps
        products = weighed * observed.count if problem.prior.coarse is problem.prior else 0
        return (
            f"a draw took {spent.evaluations / draws:,.0f} evaluations of the denoiser and "
            f"{spent.products / draws:,.0f} products with its slope; one of weighted particles would take "
            f"about {weighed:,} and {products:,}"
        )


def gaussian_diagnosis(problem: Problem, posterior: GaussianPosterior, number: int, how: str) -> Diagnosis:
    """Of one data set: that the draws are exact, how they were made, and ln p(y), where that is at hand or
    asked for."""
    why = f"{problem.choice.why}, {how}"
    if not (problem.diagnosed or posterior.is_closed):
        return exact_diagnosis(why, math.nan, error=math.nan)
    xp = posterior.prior.backend.xp
    evidence = float(xp.reshape(posterior.log_evidence, (-1,))[number])
    return exact_diagnosis(why, evidence, error=posterior.log_evidence_error)


def _rows_at_once(denoiser: Denoiser) -> int:
    """Rows of many data sets that are solved at once."""
    components = denoiser.means.shape[-2] if isinstance(denoiser, GaussianMixtureDenoiser) else 1
    return min(ROWS, max(LARGEST // (components * denoiser.dim), 1))


def seed_of(seed: int, number: int) -> int:
    """One for each block and data set; number 0: the seed itself."""
    return (seed + SPREAD * number) % 2**64


def each(numbers: Array, count: int) -> Array:
    """Each number `count` times, (numbers × count,)."""
    xp = array_namespace(numbers)
    repeated: Array = xp.reshape(xp.broadcast_to(numbers[:, None], (numbers.shape[0], count)), (-1,))
    return repeated


@contextmanager
def named(denoiser: Denoiser) -> Iterator[None]:
    """A solve that the denoiser guides: what is not finite in it, or no matrix with a root, is its failure.

    Raises: NonFiniteState, naming the likelihood.
    """
    if not isinstance(denoiser, MeanLikelihood):
        yield
        return
    try:
        yield
    except (NonFiniteState, denoiser.backend.adapter.no_root()) as error:
        seen = str(error).split("; ")[0]  # what follows is advice on drifts
        raise NonFiniteState(f"likelihood='{denoiser.name}' diverged: {seen}; {INSTEAD}") from error


def warn_of_divergence(
    name: str, prior: Denoiser, start: Start, observation: Observation | None, x: Array
) -> None:
    """Of draws x (draws, dim) that no weights correct. Warns: UntrustedWarning where they went astray.

    start: the end of the unguided forward SDE. Where the draws lie far outside of the prior, the data and
    the prior disagree, or guidance was too strong.
    """
    if observation is None:
        return
    middle = middle_of(prior, start)
    far, worse = _distance(prior, middle, x), explained_worse(prior, middle, observation, x)
    if far is not None or worse is not None:
        warn_user(f"likelihood='{name}' seems to have diverged: {far or worse}; {INSTEAD}", UntrustedWarning)
        return
    uneven = one_sided(prior, observation, x)
    if uneven is not None:
        warn_user(f"likelihood='{name}' is not the posterior: {uneven}; {INSTEAD}", UntrustedWarning)


def middle_of(prior: Denoiser, start: Start) -> tuple[Array, Diagonalisable]:
    """Mean (1, dim) and covariance of x_0 given the middle of x_T, where it can be told from rounding."""
    return prior.mean(start.mean[None, :], prior.sde.T), start.visible


def _distance(prior: Denoiser, middle: tuple[Array, Diagonalisable], x: Array) -> str | None:
    xp, (mean, covariance) = prior.backend.xp, middle
    squares = (covariance.inside(x - mean) / covariance.root_eigenvalues) ** 2
    most = to_host(xp.stack([xp.max(xp.mean(squares, axis=0)), xp.max(squares)]))
    typical, farthest = (math.sqrt(float(value)) for value in most)
    if typical <= FAR and farthest <= FARTHEST:
        return None
    return (
        f"its draws lie up to {farthest:.3g} standard deviations of the prior from its mean, where its own "
        "draws hardly ever are (or data and prior disagree that much)"
    )


def explained_worse(
    prior: Denoiser, middle: tuple[Array, Diagonalisable], observation: Observation, x: Array
) -> str | None:
    """In words, where draws x explain the data worse than the prior's; None under a hard constraint.

    ln p(y given x_0) grows with the posterior's density over the prior's, so that each of its quantiles is
    higher under the posterior, whatever the data.
    """
    if observation.hard:
        return None
    xp, (mean, covariance) = prior.backend.xp, middle
    sd = covariance.root_eigenvalues
    z = keyed_normal(prior.backend, (LOOKED_AT, sd.shape[0]), 0, STREAM)
    found = [
        possible(observation.log_prob(rows))
        for rows in (x[: min(LOOKED_AT, x.shape[0]), :], mean + covariance.outside(z * sd))
    ]
    ours, theirs = (xp.sort(values)[values.shape[0] // 2] for values in found)
    share = xp.mean(xp.astype(found[0] < theirs, x.dtype))
    ours, theirs, share = (float(value) for value in to_host(xp.stack([ours, theirs, share])))
    error = math.sqrt(0.25 / found[0].shape[0] + 0.25 / LOOKED_AT)
    if share <= min(0.5 + 4 * error, 0.99) or ours >= theirs - WORSE:
        return None
    return (
        f"{share:.0%} of its draws explain the data worse than half of what the prior draws (ln p(y) of a "
        f"middle one is {ours:.4g}, of the prior's {theirs:.4g})"
    )


def one_sided(prior: Denoiser, observation: Observation, x: Array) -> str | None:
    """In words, where moves that leave the posterior of a Gaussian prior as it is would change the draws x.

    Proposals x' = m + √(1 - b²) (x - m) + b ξ, ξ ~ N(0, C), are taken with probability
    min(1, p(y given x')/p(y given x)). Of the posterior's own draws those that are taken explain the data
    better as often as worse (detailed balance). Source: Cotter, Roberts, Stuart & White 2013 (pCN).
    """
    xp, count = prior.backend.xp, min(LOOKED_AT, x.shape[0])
    if observation.hard or not isinstance(prior, GaussianDenoiser) or count < FEWEST:
        return None
    rows, sd = x[:count, :] - prior.location, xp.sqrt(prior.eigenvalues)
    z = keyed_normal(prior.backend, (TIMES, count, sd.shape[0]), 0, STREAM, 1)
    noise = prior.prior_covariance.outside(z * sd)
    moved = xp.stack([math.sqrt(1 - b * b) * rows + b * noise for b in SIZES])
    points = xp.concat([rows, xp.reshape(moved, (-1, prior.dim))]) + prior.location
    found = xp.reshape(possible(observation.log_prob(points)), (1 + len(SIZES) * TIMES, count))
    change = found[1:, :] - found[:1, :]
    change = xp.where(xp.isnan(change), xp.zeros_like(change), change)  # between impossible places
    taken = xp.exp(xp.clip(change, max=0.0))
    shape = len(SIZES), TIMES, count
    taken, net = (xp.mean(xp.reshape(part, shape), axis=1) for part in (taken, xp.sign(change) * taken))
    figures = [xp.mean(net, axis=-1), xp.mean(taken, axis=-1), xp.std(net, axis=-1, correction=1.0)]
    for mean, share, spread in to_host(xp.stack(figures, axis=-1)):
        if abs(mean) > max(ONE_SIDED * share, SURE * spread / math.sqrt(count)):
            return (
                f"of small moves that leave the posterior as it is, {0.5 * (1 + mean / share):.0%} explain "
                "the data better than its draws, where half should"
            )
    return None
