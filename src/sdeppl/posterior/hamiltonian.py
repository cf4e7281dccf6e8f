"""Draws by Hamiltonian Monte Carlo, where the prior's own density is known: no denoiser, no weights."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ..backend import Array, NoiseStream, Progress, array_namespace, to_host, whole_number
from ..likelihood import Observation
from ..linalg import cholesky, log_diagonal, solve_lower
from ..mcmc import Randomness, Run, Sampled, convergence, sample, smc, warm_up
from .diagnosis import POOR_SHARE, Diagnosis
from .problem import Correction, Drawn, JointDensity, Problem

LARGEST_WEIGHED = 16  # numbers up to which a bell is like enough to a posterior
POINTS, AT_ONCE = 4_096, 1_024
AROUND, NEAR, WIDE = 0.5, 0.25, 0.25  # shares of the points: around all draws, near one, around the starts
FREEDOM = 5  # of Student's t
CENTRES, NARROW = 256, 0.25  # draws that points are near, and how wide they lie, in deviations of all draws
LEAST_WORTH = 100.0  # points below which weights tell nothing of p(y)
HEAVY_TAIL = 0.7
MISSED = 0.05  # share of the weight beyond all draws from which they are not the posterior
GAP = 5.0  # standard errors
FARTHEST = 10.0  # in standard deviations, where what is compared ends


@dataclass(frozen=True)
class Weighed:
    """log_evidence: ln p(y), and error: its standard error, NaN where the weights do not tell; worth: of
    so many independent points; pareto_k: of their tail; reasons: in words, what speaks against the chains."""

    log_evidence: float
    error: float
    worth: float
    pareto_k: float
    reasons: tuple[str, ...]

    @property
    def words(self) -> str:
        """Of p(y)."""
        how = "by importance sampling around the draws"
        if math.isnan(self.worth):
            return "ln p(y) is not known"
        if math.isnan(self.log_evidence):
            return f"ln p(y) is not known ({how} is worth {self.worth:.0f} of {POINTS} points)"
        return f"ln p(y) = {self.log_evidence:.3f} ± {self.error:.3f} {how}"


NOT_WEIGHED = Weighed(math.nan, math.nan, math.nan, math.nan, ())


def weigh(
    log_prob: Callable[[Array], Array], starts: Array, x: Array, ess: float, random: Randomness
) -> Weighed:
    """The joint density p(x, y) at points of a mixture q, over q: its mean is p(y).

    q: Student's t with the draws' moments; the same but narrow around some of them, where they have several
    modes; and with the moments of where chains started, for modes that they have left. log_prob: ln p(x, y)
    of rows x, constants included; x (rows, dim): the draws, worth `ess` independent ones; starts: wider rows.
    Against the draws speaks weight beyond them all, and a mean or a mean square that differs from the
    weighted one by more than five standard errors.
    Source: Owen & Zhou 2000 for points of a mixture; Vehtari et al. 2024 for k.
    """
    xp, bell, wide = array_namespace(x), _Bell.of(x), _Bell.of(starts)
    near, every = replace(bell, root=NARROW * bell.root), max(x.shape[0] // CENTRES, 1)
    centres = x[: min(every * CENTRES, x.shape[0]) : every, :]
    at = xp.take(centres, random.integers(round(NEAR * POINTS), centres.shape[0]), axis=0)
    parts = ((AROUND, bell, bell.mean[None, :]), (NEAR, near, centres), (WIDE, wide, wide.mean[None, :]))
    drawn = [
        part.draw(at if part is near else part.mean, round(share * POINTS), random)
        for share, part, _ in parts
    ]
    points = xp.concat(drawn)
    logs = xp.concat([log_prob(points[k : k + AT_ONCE, :]) for k in range(0, POINTS, AT_ONCE)])
    around, close, far = (math.log(share) + part.log_prob(points, where) for share, part, where in parts)
    q = xp.logaddexp(xp.logaddexp(around, close), far)
    return _judged(logs - q, bell, points, x, ess)


@dataclass(frozen=True)
class _Bell:
    """Student's t whose scale has the root L (dim, dim), and the mean (dim,) from which it is whitened."""

    mean: Array
    root: Array

    @classmethod
    def of(cls, x: Array) -> "_Bell":
        """Of the moments of rows (rows, dim)."""
        mean = array_namespace(x).mean(x, axis=0)
        return cls(mean, cholesky((x - mean).T @ (x - mean) / x.shape[0]))

    def whiten(self, x: Array) -> Array:
        """L⁻¹ (x - mean) of rows."""
        return solve_lower(self.root, (x - self.mean).T).T

    def draw(self, at: Array, count: int, random: Randomness) -> Array:
        """(count, dim), around at, (dim,) or (count, dim)."""
        z, others = random.normal((count, self.mean.shape[0])), random.normal((count, FREEDOM))
        xp = array_namespace(z)
        width = xp.sqrt(FREEDOM / xp.sum(others * others, axis=-1))
        return at + (z * width[:, None]) @ self.root.T

    def log_prob(self, x: Array, centres: Array) -> Array:
        """Of rows x, under the even mixture of those around the rows of centres: (rows,)."""
        xp, dim = array_namespace(x), x.shape[1]
        a, c = self.whiten(x), self.whiten(centres)
        square = xp.sum(a * a, axis=-1)[:, None] + xp.sum(c * c, axis=-1) - 2 * a @ c.T
        logs = -0.5 * (FREEDOM + dim) * xp.log1p(xp.clip(square, min=0.0) / FREEDOM)
        largest = xp.max(logs, axis=-1)
        total = largest + xp.log(xp.mean(xp.exp(logs - largest[:, None]), axis=-1))
        constant = math.lgamma(0.5 * (FREEDOM + dim)) - math.lgamma(0.5 * FREEDOM)
        return total + constant - 0.5 * dim * math.log(FREEDOM * math.pi) - log_diagonal(self.root)


def _judged(log_weights: Array, bell: _Bell, points: Array, x: Array, ess: float) -> Weighed:
    """What the weights of points (points, dim) say of p(y) and of the draws x (rows, dim)."""
    xp, nan = array_namespace(x), math.nan
    possible = xp.isfinite(log_weights)
    if not bool(xp.any(possible)):
        return Weighed(nan, nan, 0.0, nan, ())
    shares, log_mean = smc.normalised(
        xp.where(possible, log_weights, xp.full_like(log_weights, -xp.inf))[None, :]
    )
    shares = shares[0, :]
    worth = 1 / float(xp.sum(shares * shares))
    k = smc.pareto_shape([float(w) for w in to_host(shares)])
    drawn, asked = bell.whiten(x), bell.whiten(points)
    outside = xp.sum(asked * asked, axis=-1) > xp.max(xp.sum(drawn * drawn, axis=-1))
    missed = float(xp.sum(xp.where(outside, shares, xp.zeros_like(shares))))
    reasons = [f"{missed:.0%} of the posterior lies beyond all of them"] if missed > MISSED else []
    gap = _gap(shares, asked, drawn, ess) if worth >= LEAST_WORTH else 0.0
    if gap > GAP:
        reasons.append(f"importance sampling around them finds other moments ({gap:.0f} standard errors off)")
    if not worth >= LEAST_WORTH or k > HEAVY_TAIL:
        return Weighed(nan, nan, worth, k, tuple(reasons))
    error = math.sqrt(max(1 / worth - 1 / POINTS, 0.0))
    return Weighed(float(log_mean[0]), error, worth, k, tuple(reasons))


def _gap(shares: Array, asked: Array, drawn: Array, ess: float) -> float:
    """The largest difference of a mean, or a mean square, of whitened numbers, in standard errors of both."""
    xp = array_namespace(asked)

    def features(u: Array) -> Array:
        u = xp.clip(u, -FARTHEST, FARTHEST)
        return xp.concat([u, u * u], axis=-1)

    f = features(asked)
    mean = shares @ f
    square = (f - mean) ** 2
    variance = (shares * shares) @ square + (shares @ square) / ess
    return float(xp.max(xp.abs(xp.mean(features(drawn), axis=0) - mean) / xp.sqrt(variance)))


LARGEST_DENSE = 256  # numbers up to which the mass matrix is dense
FEWEST, MOST = 64, 256  # chains
DRAWS_PER_CHAIN = 8
FIRST = 60  # iterations that are kept in the first round; each later one doubles what there is
FEW_ROUNDS, ROUNDS = 2, 4  # in the first coordinates, and after them
SMALLER = 0.95  # acceptance to aim at where trajectories diverged
CLOSE, APART = 1.05, 1.5  # R-hat below which chains agree, and above which more iterations do not help
SLACK = 1.5  # by which R-hat may fall faster than it should
LEAST_ESS = 100.0


@dataclass(frozen=True)
class HamiltonianMC(Correction):
    """How the correction runs: chains of Hamiltonian moves on ln p(x_0) + ln p(y given x_0), all in a batch.

    The prior's own density is followed, so that no error of a learned score enters. Chains start at draws
    of the prior that the data allow; `warmup` iterations adapt mass matrix, step size and trajectory length
    across them; then rounds of iterations are kept until the chains agree (R-hat below 1.05) and are worth
    the draws asked for, up to 900 iterations. Where they do not agree, or trajectories diverge, it begins
    again in other coordinates (x_0 itself, and latents less their location over their scale), then with
    smaller steps. Draws are spread evenly over chains and iterations, in random order. Chains that stay in
    modes of their own show that by R-hat and are not trusted. Of up to 16 numbers, importance sampling around
    the draws then gives p(y), and shows modes that no chain has found (`weigh`). `reference.hmc` makes the
    same moves, so it is no independent check of these draws; `reference.nuts` and `sbc` are.

    chains: by default one for each 8 draws, 64 to 256; target: of the acceptance; max_steps: of a
    trajectory. Raises: ValueError for numbers out of range. Source: Hoffman, Radul & Sountsov 2021 (ChEES).
    """

    unguided: ClassVar[str] = "density"

    chains: int | None = None
    warmup: int = 200
    target: float = 0.8
    max_steps: int = 200

    def __post_init__(self) -> None:
        for name, least in (("chains", 4), ("warmup", 20), ("max_steps", 1)):
            self._hold(name, whole_number, least)
        if not 0 < self.target < 1:
            raise ValueError(
                f"HamiltonianMC: target is an acceptance probability, 0 to 1; got {self.target!r}"
            )

    def require(self, observation: Observation, density: JointDensity | None) -> None:
        """Raises: ValueError where the density is not known, or cannot be followed."""
        if density is None or density.why_not:
            reason = density.why_not if density is not None else "the posterior has none (density=)"
            raise ValueError(
                "HamiltonianMC needs ln p(x_0) + ln p(y given x_0), and it cannot be followed: "
                f"{reason}; use TwistedSMC or TemperedSMC"
            )

    def draw(self, problem: Problem, draws: int, stream: NoiseStream) -> Drawn:
        """By moves on the density alone. Raises: ValueError where no draw of the prior has a density to start
        at."""
        assert problem.density is not None
        x, found = _Solve(problem.density, self, problem.why).draw(draws, stream, problem.progress)
        return x[None, ...], [found]

    def shortfall(self, ess: float) -> str:
        return "its moves were not to be trusted"

    @property
    def iterations(self) -> int:
        """Of each chain, where the first round is enough."""
        return self.warmup + FIRST

    def chains_for(self, draws: int) -> int:
        """How many chains give this many draws."""
        return self.chains or min(max(draws // DRAWS_PER_CHAIN, FEWEST), MOST)


class _Numbers:
    """A stream's numbers, the next ones at each call."""

    def __init__(self, stream: NoiseStream) -> None:
        self.stream, self.step = stream, 0

    def normal(self, shape: tuple[int, ...]) -> Array:
        self.step += 1
        return self.stream.normal(self.step, shape)

    def uniform(self, count: int) -> Array:
        self.step += 1
        return self.stream.uniform(self.step, count)

    def integers(self, count: int, below: int) -> Array:
        xp = self.stream.backend.xp
        return xp.astype(xp.floor(xp.clip(self.uniform(count) * below, max=below - 0.5)), xp.int64)


@dataclass(frozen=True)
class Chains:
    """What was kept: x_0 (chains, iterations, dim), how many trajectories diverged, how many chains accepted
    nothing; the worst R-hat and the least effective size (bulk or tail) of any number, ln p among them;
    density: in the coordinates in which chains moved; z: the same draws in these, (rows, dim), and starts:
    where chains began, (chains, dim)."""

    x: Array
    divergences: int
    stuck: int
    r_hat: float
    ess: float
    density: JointDensity
    z: Array
    starts: Array

    @classmethod
    def of(cls, rounds: list[tuple[Sampled, Array]], density: JointDensity, starts: Array) -> "Chains":
        """From what was sampled, with x_0 of it."""
        xp = array_namespace(rounds[0][1])
        x = xp.concat([one for _, one in rounds], axis=1)
        log_p = xp.concat([one.stats["lp"] for one, _ in rounds], axis=1)
        found = convergence(xp.concat([x, log_p[..., None]], axis=-1))
        count = sum(int(one.tuning["divergences"]) for one, _ in rounds)
        stuck = min(int(one.tuning["stuck_chains"]) for one, _ in rounds)
        hats, sizes = _numbers(found.r_hat), [*_numbers(found.bulk_ess), *_numbers(found.tail_ess)]
        z = xp.reshape(xp.concat([one.z for one, _ in rounds], axis=1), (-1, starts.shape[1]))
        r_hat, ess = max(hats, default=math.inf), min(sizes, default=0.0)
        return cls(x, count, stuck, r_hat, ess, density, z, starts)

    @property
    def badness(self) -> tuple[int, int, float]:
        """Less of it is better."""
        return len(self.reasons()), self.divergences, self.r_hat

    def reasons(self) -> list[str]:
        """Why not to trust the chains; empty where nothing speaks against them."""
        found = []
        if not self.r_hat < CLOSE:
            found.append(
                f"the chains do not agree (R-hat {self.r_hat:.2f}), as where there are several modes"
            )
        if self.divergences:
            found.append(f"{self.divergences} trajectories diverged, as where the posterior is a funnel")
        if self.stuck:
            found.append(f"{self.stuck} chains accepted nothing")
        if not self.ess >= LEAST_ESS:
            found.append(f"they are worth {self.ess:.0f} independent draws only")
        return found

    def spread(self, draws: int, uniforms: Array) -> Array:
        """`draws` of them, evenly over iterations and chains, in the order of uniforms (draws,)."""
        xp, (chains, iterations, dim) = array_namespace(self.x), self.x.shape
        rows = xp.reshape(xp.permute_dims(self.x, (1, 0, 2)), (iterations * chains, dim))
        order = xp.argsort(uniforms)
        return xp.take(rows, order * (iterations * chains) // draws, axis=0)


def _points(density: JointDensity, z: Array) -> Array:
    """x_0 of z (chains, iterations, dim)."""
    xp = array_namespace(z)
    x = density.points(xp.reshape(z, (-1, z.shape[-1])))
    return xp.reshape(x, (*z.shape[:2], x.shape[-1]))


def _numbers(values: Array) -> list[float]:
    """Those that are not NaN, which numbers that never vary have."""
    return [float(value) for value in to_host(values) if not math.isnan(value)]


@dataclass(frozen=True)
class _Solve:
    """`HamiltonianMC` on a density; why: of the diagnosis."""

    density: JointDensity
    settings: HamiltonianMC
    why: str

    def draw(self, draws: int, stream: NoiseStream, progress: bool | None) -> tuple[Array, Diagnosis]:
        """(draws, dim), and the diagnosis."""
        settings, numbers = self.settings, _Numbers(stream)
        total = settings.warmup + self._kept(draws, settings.chains_for(draws))
        with stream.backend.adapter.silent(), Progress(total, progress, "sampling", "iteration") as bar:
            found = self._best(draws, stream.seed, numbers, bar)
        x = found.spread(draws, numbers.uniform(draws))
        return x, self._diagnosis(found, self._weighed(found, numbers), draws)

    def _weighed(self, found: Chains, numbers: _Numbers) -> Weighed:
        """Not of chains that are not to be trusted, many numbers, and densities without values."""
        if found.reasons() or found.z.shape[1] > LARGEST_WEIGHED or self.density.why_no_values:
            return NOT_WEIGHED
        return weigh(found.density.log_prob, found.starts, found.z, found.ess, numbers)

    def _best(self, draws: int, seed: int, numbers: _Numbers, bar: Progress) -> Chains:
        """In the first coordinates in which chains are to be trusted; where in none, by smaller steps in
        those in which they do best."""
        tried: list[tuple[Chains, JointDensity]] = []
        densities = [self.density]
        for density in densities:
            rounds = ROUNDS if tried or not density.others else FEW_ROUNDS
            tried.append((self._trial(density, self.settings, draws, seed, numbers, bar, rounds), density))
            if not tried[-1][0].reasons():
                return tried[-1][0]
            if density is self.density:
                densities.extend(density.others)
        best, density = min(tried, key=lambda pair: pair[0].badness)
        if best.divergences and self.settings.target < SMALLER:
            settings = replace(self.settings, target=SMALLER)
            again = self._trial(density, settings, draws, seed, numbers, bar, ROUNDS)
            best = min(best, again, key=lambda one: one.badness)
        return best

    def _kept(self, draws: int, chains: int) -> int:
        """Iterations of the first round."""
        return max(FIRST, -(-2 * draws // chains))

    def _trial(
        self,
        density: JointDensity,
        settings: HamiltonianMC,
        draws: int,
        seed: int,
        numbers: _Numbers,
        bar: Progress,
        most: int,
    ) -> Chains:
        """The warm-up, and up to `most` rounds until the chains agree and are worth the draws."""
        first = density.start(settings.chains_for(draws), seed)
        run = Run(density.recorded(first.z), numbers, settings.max_steps, bar)
        dense = first.z.shape[1] <= LARGEST_DENSE
        state, tuned, _ = warm_up(run, first, settings.warmup, dense, settings.target)
        count, rounds = self._kept(draws, first.z.shape[0]), list[tuple[Sampled, Any]]()
        for number in range(most):
            kept = sample(run, state, tuned, count)
            rounds.append((kept, _points(density, kept.z)))
            state, tuned = kept.state, replace(tuned, count=tuned.count + count)
            found = Chains.of(rounds, density, first.z)
            agree = found.r_hat < CLOSE
            if found.divergences or (agree and found.ess >= max(draws, LEAST_ESS)):
                break
            # R-hat - 1 falls as one over the iterations, of which each round has twice as many
            hopeless = found.r_hat - 1 > SLACK * (CLOSE - 1) * 2 ** (most - 1 - number)
            if number and (found.r_hat > APART or hopeless):
                break
            count *= 2
            if not agree:
                rounds = []  # they are where chains came from, or too few to tell
        return found

    def _diagnosis(self, found: Chains, weighed: Weighed, draws: int) -> Diagnosis:
        reasons, (chains, iterations, _) = found.reasons(), found.x.shape
        reasons += weighed.reasons
        share = min(found.ess / draws, 1.0)
        if not reasons and share < POOR_SHARE:
            reasons = [f"they are worth {share:.1%} of as many independent ones"]
        where = f" in {found.density.coordinates}" if found.density.coordinates else ""
        text = (
            f"the prior's own density, draws by Hamiltonian Monte Carlo{where} ({self.why}); {chains} chains "
            f"of {iterations} iterations, R-hat up to {found.r_hat:.3f}, worth {min(found.ess, draws):.0f}"
            f" independent draws, {found.divergences} divergences; {weighed.words}; reference.hmc makes "
            "the same moves and is no independent check, reference.nuts and sbc are"
        )
        if reasons:
            text += f": do not trust these draws, {'; '.join(reasons)}; {ADVICE}"
        return Diagnosis(
            "density", "Hamiltonian Monte Carlo", self.why, share, weighed.log_evidence, weighed.error,
            math.nan, weighed.pareto_k, chains, iterations, not reasons, text, prior="known",
            r_hat=found.r_hat, divergences=found.divergences,
        )  # fmt: skip


ADVICE = (
    "write the model with latents that keep their scale (non-centred), or use correction=TemperedSMC() or "
    "TwistedSMC()"
)
