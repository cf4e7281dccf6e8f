"""Metropolis-adjusted Langevin steps at a small t: they leave p(x_t given y) where it is."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from scipy.special import eval_legendre, roots_jacobi

from ..backend import (
    Array,
    Backend,
    NoiseStream,
    Number,
    array_namespace,
    real_parameter,
    warn_user,
    whole_number,
)
from ..backend.arguments import told_apart
from ..denoisers import Denoiser
from ..likelihood import DPSDenoiser, Guided, MeanLikelihood, PseudoObservation, psd_part
from ..linalg import Dense, Diagonalisable, LinearOperator, Spectral, scaled_identity
from ..sde import ReverseSDE
from ..sde.grids import time_of_half_log_snr
from ..solvers import ExponentialHeun, Solver, solve
from .diagnosis import UntrustedWarning
from .kernel import DENSE_LIMIT, LEARNED_LIMIT
from .problem import Amplitude, Correction, Drawn, Problem, pilot_stream


def lobatto(inner: int) -> tuple[list[float], list[float]]:
    """Nodes in [0, 1], both ends and `inner` ≥ 1 between them, and weights that sum to one.

    Gauss–Lobatto's rule, exact for polynomials of degree 2 inner + 1. Source: Abramowitz & Stegun 25.4.32.
    """
    nodes = [-1.0, *roots_jacobi(inner, 1, 1)[0].tolist(), 1.0]  # array-lint: on the host
    n = len(nodes)
    weights = [1 / (n * (n - 1) * float(eval_legendre(n - 1, u)) ** 2) for u in nodes]
    return [0.5 * (u + 1) for u in nodes], weights


def score_integral(
    score: Callable[[Array], Array], x: Array, x_new: Array, first: Array, last: Array, inner: int
) -> Array:
    """ln p(x_new) - ln p(x) = ∫_0^1 s(x + u (x_new - x)) · (x_new - x) du by Gauss–Lobatto, (batch,).

    score: s, of rows (n, dim); first, last: s at x and x_new, (batch, dim), which a Langevin step has
    anyway, so that the rule is of two degrees more than Gauss–Legendre's at the same cost, `inner`
    evaluations, all in one call. Exact where s along the line is a polynomial of degree 2 inner + 1, as that
    of a Gaussian is, linear; else the error is of order |x_new - x|^{2 inner + 3}. It changes sign where
    x and x_new change places. Of a learned score, which is no gradient, it is the work along the line.
    """
    xp, step = array_namespace(x), x_new - x
    nodes, weights = lobatto(inner)
    between = xp.concat([x + u * step for u in nodes[1:-1]], axis=0)
    scores = xp.reshape(score(between), (inner, *x.shape))
    total = weights[0] * (first + last)
    for k, weight in enumerate(weights[1:-1]):
        total = total + weight * scores[k, ...]
    return xp.sum(total * step, axis=-1)


VISIBLE = 32  # units of rounding below which 1 - α²/σ² λ is not known


def is_cheap(covariance: LinearOperator, dim: int) -> bool:
    """Whether eigenvectors of the covariance are affordable at every step."""
    return covariance.shared or dim <= (LEARNED_LIMIT if covariance.may_be_indefinite else DENSE_LIMIT)


def local_scale(denoiser: Denoiser, guided: Guided, t: float) -> Diagonalisable:
    """What -∂² ln p(x_t given y) says of its width: P = σ² |I - α²/σ² C_y|⁻¹, C_y = Cov[x_0 given x_t, y].

    By Tweedie's formula the matrix in bars, over σ², is that Hessian for an exact likelihood. For Gaussians P
    is the covariance of x_t given y, α² Cov[x_0 given y] + σ²; for a mixture that of the mode near x_t;
    between modes, where the Hessian has negative eigenvalues, their absolute values count. The eigenvectors
    of each row cost about dim³: done up to 64 numbers in x, 16 where C is learned and takes a product for
    each, and at any number where one matrix serves all rows. Otherwise P = σ², the least that P can be
    along any direction: no step is then too long, but many are needed to move further than the noise.

    Source: Betancourt 2013 (SoftAbs), for the absolute value.
    """
    alpha, sigma = denoiser.sde.alpha(t), denoiser.sde.sigma(t)
    if not is_cheap(guided.prior.covariance, denoiser.dim):
        return scaled_identity(sigma**2, denoiser.dim, guided.mean)
    matrix = _guided_covariance(denoiser, guided)
    xp = array_namespace(matrix)
    matrix = 0.5 * (matrix + xp.matrix_transpose(matrix))
    # eigenvectors of NaN are an error in some libraries; such a row is never accepted anyway
    finite = xp.all(xp.isfinite(matrix), axis=(-2, -1), keepdims=True)
    shares, basis = xp.linalg.eigh(xp.where(finite, matrix, xp.zeros_like(matrix)))
    visible = VISIBLE * float(xp.finfo(matrix.dtype).eps)
    return Spectral(basis, sigma**2 / xp.clip(xp.abs(1 - (alpha / sigma) ** 2 * shares), min=visible))


def _guided_covariance(denoiser: Denoiser, guided: Guided) -> Array:
    """C - C Hᵀ (H C Hᵀ + R)⁻¹ H C, (dim, dim) or (batch, dim, dim).

    By the observation's own H where the method gives none, and without one by C alone. Not by draws: at small
    t all that matters is by how little α²/σ² C_y differs from I, which they do not see.
    """
    covariance = psd_part(guided.prior.covariance, denoiser.dim)
    matrix = covariance.dense()
    pseudo = guided.pseudo_observation
    if pseudo is None and isinstance(denoiser, MeanLikelihood) and denoiser.observation.has_jacobian:
        pseudo = _pseudo_observation(denoiser, guided, matrix)
    if pseudo is None:
        return matrix
    xp = array_namespace(matrix)
    reduction = pseudo.reduction(covariance.matmat(pseudo.jacobian.T.dense()))
    return matrix - reduction @ xp.matrix_transpose(reduction)


def _pseudo_observation(
    denoiser: MeanLikelihood, guided: Guided, covariance: Array
) -> PseudoObservation | None:
    """The observation as a Gaussian one near E[x_0 given x_t]."""
    if not denoiser.observation.count:
        return None
    linear = denoiser.observation.linearise(guided.prior.mean)
    projected = linear.jacobian @ Dense(covariance) @ linear.jacobian.T
    site = denoiser.observation.site_approximation(linear, projected.diagonal())
    return PseudoObservation(linear.jacobian, site)


def prior_of(denoiser: Denoiser) -> Denoiser:
    """What a mean likelihood guides; any other denoiser itself."""
    return denoiser.prior if isinstance(denoiser, MeanLikelihood) else denoiser


@dataclass(frozen=True)
class LangevinPoint:
    """A state, and what is known there; log_prior: ln p_t, or None where the score alone is known."""

    x: Array
    guided_score: Array
    prior_score: Array
    log_likelihood: Array
    log_prior: Array | None
    scale: Diagonalisable

    def take(self, chosen: Array, other: "LangevinPoint") -> "LangevinPoint":
        """This one in the rows where `chosen` (batch,), else the other."""
        xp = array_namespace(chosen)

        def pick(mine: Array, theirs: Array) -> Array:
            return xp.where(chosen[(..., *(None,) * (mine.ndim - 1))], mine, theirs)

        log_prior, mine, theirs = None, self.scale, other.scale
        if self.log_prior is not None and other.log_prior is not None:
            log_prior = pick(self.log_prior, other.log_prior)
        if not mine.shared:  # where one serves all rows they are the same
            mine = Spectral(pick(mine.basis, theirs.basis), pick(mine.eigenvalues, theirs.eigenvalues))
        return LangevinPoint(
            pick(self.x, other.x),
            pick(self.guided_score, other.guided_score),
            pick(self.prior_score, other.prior_score),
            pick(self.log_likelihood, other.log_likelihood),
            log_prior,
            mine,
        )


def _log_volume(scale: Diagonalisable) -> Array | float:
    """½ ln det P but for what is the same for all rows: (batch,), or 0 where all of it is."""
    return 0.0 if scale.shared else 0.5 * scale.logdet()


@dataclass(frozen=True)
class LangevinChain:
    """The kernel at one time t."""

    denoiser: Denoiser
    prior: Denoiser
    t: float
    nodes: int

    @classmethod
    def of(cls, denoiser: Denoiser, t: float, nodes: int) -> "LangevinChain":
        if not 0 < t <= denoiser.sde.T:
            raise ValueError(f"LangevinCorrector: t must be in (0, {denoiser.sde.T!r}]; got {t!r}")
        if isinstance(denoiser, DPSDenoiser) and denoiser.zeta is not None:
            raise TypeError(
                "LangevinCorrector needs ln l(y given x_t), and DPS with a step size zeta has none; use "
                "DPSDenoiser(prior, observation), or another likelihood"
            )
        return cls(denoiser, prior_of(denoiser), t, nodes)

    def at(self, x: Array) -> LangevinPoint:
        """One evaluation of the denoiser at x (batch, dim)."""
        sde, t = self.denoiser.sde, self.t
        if isinstance(self.denoiser, MeanLikelihood):
            guided = self.denoiser.guided(x, t)
        else:
            guided = Guided.unguided(self.denoiser(x, t))
        alpha, variance, centred = sde.alpha(t), sde.sigma(t) ** 2, sde.centre(x, t)
        density = getattr(self.prior, "log_density", None)
        return LangevinPoint(
            x,
            (alpha * guided.mean - centred) / variance,
            (alpha * guided.prior.mean - centred) / variance,
            guided.log_likelihood,
            None if density is None else density(x, t),
            local_scale(self.denoiser, guided, t),
        )

    def step(self, old: LangevinPoint, h: Number, stream: NoiseStream, k: int) -> tuple[LangevinPoint, Array]:
        """The next state, and the probability with which it was to be `new`, (batch,)."""
        xp, root = array_namespace(old.x), h**0.5
        z = stream.normal(k, tuple(old.x.shape))
        scale, s = old.scale, old.scale.inside(old.guided_score)
        deviations = scale.root_eigenvalues
        moved = 0.5 * h * scale.eigenvalues * s + root * deviations * scale.inside(z)
        new = self.at(old.x + scale.outside(moved))
        log_ratio = self._log_prior_ratio(old, new) + new.log_likelihood - old.log_likelihood
        log_ratio = (
            log_ratio + self._log_back(new, old, h) + 0.5 * xp.sum(z * z, axis=-1) + _log_volume(scale)
        )
        probability = xp.exp(xp.clip(log_ratio, max=0.0))
        probability = xp.where(xp.isnan(probability), xp.zeros_like(probability), probability)
        accepted = stream.uniform(k, old.x.shape[0]) < probability
        return new.take(accepted, old), probability

    def _log_back(self, new: LangevinPoint, old: LangevinPoint, h: Number) -> Array:
        """ln q(old given new), without the constants that it shares with ln q(new given old)."""
        xp, scale, root = array_namespace(new.x), new.scale, h**0.5
        white = scale.inside(old.x - new.x) / (root * scale.root_eigenvalues)
        white = white - 0.5 * root * scale.root_eigenvalues * scale.inside(new.guided_score)
        return -0.5 * xp.sum(white * white, axis=-1) - _log_volume(scale)

    def _log_prior_ratio(self, old: LangevinPoint, new: LangevinPoint) -> Array:
        """ln p_t(new) - ln p_t(old), (batch,)."""
        if new.log_prior is not None:
            return new.log_prior - old.log_prior
        scores = old.prior_score, new.prior_score
        return score_integral(lambda x: self.prior.score(x, self.t), old.x, new.x, *scores, self.nodes)


LENGTH = 1.65  # ℓ of the fastest chain, with h = ℓ² dim^{-1/3} on a Gaussian of covariance P
ACCEPTANCE = 0.574  # of that chain in many dimensions
FEW_ACCEPTED = 0.1
TRIAL_DRAWS = 100
FINE, COARSE = 1 / 20, 1 / 4  # levels, in standard deviations of the prior


@dataclass(frozen=True)
class Corrected:
    """x: (batch, dim); acceptance: each row's mean probability of taking a step, (batch,), in [0, 1]."""

    x: Array
    acceptance: Array

    def tell(self) -> None:
        """Warns: UntrustedWarning where steps hardly move."""
        acceptance = float(array_namespace(self.acceptance).mean(self.acceptance))
        if acceptance < FEW_ACCEPTED:
            warn_user(
                f"the Langevin steps hardly move: {acceptance:.1%} of them are taken, so the draws are still "
                "the approximation's; use a smaller step_size, another level, or TwistedSMC",
                UntrustedWarning,
            )


@dataclass(frozen=True)
class LangevinCorrector(Correction):
    """`steps` Metropolis-adjusted Langevin steps for each draw, at the time where σ/α = level.

    Target π_t(x) = p_t(x) l(y given x_t = x), which each step leaves invariant: with the guided score s and
    the local covariance P (`local_scale`) a step proposes

        x' = x + h/2 P(x) s(x) + √h P(x)^½ z,

    and takes it with probability min(1, π_t(x') q(x given x')/(π_t(x) q(x' given x))), q with P at its own
    start. So s and P may be approximate, even wrong: only ln l and ln p_t decide what is sampled. ln p_t is
    the prior's own `log_density` where it has one, else its difference is the line integral of the prior's
    score with `nodes` evaluations between x and x' (`score_integral`): exact for a Gaussian prior, and with
    3 nodes to about .1 in ln p_t where a step crosses several modes, of which 10⁵ draws show nothing.

    What a rung neglects in l falls with the level, to nothing, since x_0 is known to σ/α. Chains move
    within a mode and between overlapping ones; the share of modes far apart stays what it was, for which see
    `TwistedSMC`. Rows do not depend on each other.

    level: in the data's units; by default 1/20 of the prior's smallest standard deviation, or 1/4 where only
    its score is known, as the error of a learned one grows as 1/σ, or where P is no more than σ².
    'naive' and 'dps' need a level well below the posterior's deviations too. step_size: h in units of P, by
    default 1.65² dim^{-1/3}, the fastest on a Gaussian; `tuned` finds another, as needed for an observation
    without a Jacobian, which P leaves out. Costs for each step one evaluation of the rung, and `nodes` of
    the prior's mean where it has no `log_density`.

    Raises: ValueError for numbers out of range. Source: Roberts & Tweedie 1996; Roberts & Rosenthal 1998
    for h; Girolami & Calderhead 2011, section 5, for P that depends on x, here without its derivatives.
    """

    own_steps: ClassVar[bool] = False

    steps: int = 20
    level: float | None = None
    step_size: float | None = None
    nodes: int = 3

    def __post_init__(self) -> None:
        for name in ("steps", "nodes"):
            self._hold(name, whole_number, 1)
        for name in ("level", "step_size"):
            self._hold(name, real_parameter)
            number = getattr(self, name)
            if number is not None and not 0 < number < math.inf:
                raise ValueError(f"LangevinCorrector: {name} must be positive and finite; got {number!r}")

    def draw(self, problem: Problem, draws: int, stream: NoiseStream) -> Drawn:
        """Uncorrected draws, moved. Warns: UntrustedWarning where they hardly move."""
        settings = self.tuned_for(problem)
        denoiser, start = problem.choice.denoiser, problem.start.draw(stream, draws)
        how = settings, stream, problem.solver, problem.progress
        found = solve_corrected(denoiser, start, problem.times, problem.c, *how)
        found.tell()
        return found.x[None, ...], [None]

    def tuned_for(self, problem: Problem) -> "LangevinCorrector":
        """As asked for; with a step size found first where the local scale leaves the observation out."""
        assert problem.observation is not None
        if problem.observation.has_jacobian or self.step_size is not None:
            return self

        def make() -> LangevinCorrector:
            stream = pilot_stream(problem)
            start = problem.start.draw(stream, TRIAL_DRAWS)
            return tune_corrector(problem.choice.denoiser, start, problem.times, 1.0, self, stream)

        return problem.once(("step size", self), make)

    def correct(
        self, denoiser: Denoiser, x: Array, t: float, stream: NoiseStream, first: int = 1
    ) -> Corrected:
        """Takes x (batch, dim) at time t through the steps, with the stream's numbers first, first + 1, …

        denoiser: a mean likelihood, or a denoiser alone for its own p_t. Raises: ValueError for t not in
        (0, T]; TypeError for a method without a likelihood, as DPS with a step size.
        """
        chain = LangevinChain.of(denoiser, t, self.nodes)
        h = self.step_size or LENGTH**2 * denoiser.dim ** (-1 / 3)
        point = chain.at(x)
        total = array_namespace(x).zeros_like(point.log_likelihood)
        for k in range(first, first + self.steps):
            point, probability = chain.step(point, h, stream, k)
            total = total + probability
        return Corrected(point.x, total / self.steps)

    def tuned(
        self, denoiser: Denoiser, x: Array, t: float, stream: NoiseStream, first: int = 1, trials: int = 40
    ) -> "LangevinCorrector":
        """These settings with a step size by which x (batch, dim) accept 57% of their steps, on average.

        ln h changes by 2 (acceptance - .574)/√k in step k, and its mean over the second half is taken. x are
        states of their own, about 100, with a stream of their own: if h depended on the states that are
        corrected with it, draws of the target would not remain such.
        """
        chain, xp = LangevinChain.of(denoiser, t, self.nodes), array_namespace(x)
        point, half = chain.at(x), trials // 2
        log_h = math.log(self.step_size or LENGTH**2 * denoiser.dim ** (-1 / 3)) + 0 * xp.sum(x)
        total = 0.0
        for k in range(trials):
            point, probability = chain.step(point, xp.exp(log_h), stream, first + k)
            log_h = log_h + 2 * (xp.mean(probability) - ACCEPTANCE) / math.sqrt(k + 1)
            total = total + log_h if k >= half else 0.0
        return replace(self, step_size=math.exp(float(total) / (trials - half)))


@dataclass(frozen=True)
class _LaterSteps:
    """A stream whose step 1 is step 1 + `taken` of another, so that a second solve has noise of its own."""

    stream: NoiseStream
    taken: int

    @property
    def backend(self) -> Backend:
        return self.stream.backend

    def draws(
        self, step: int, s: float, t: float, kinds: tuple[str, ...], shapes: tuple[tuple[int, ...], ...]
    ) -> tuple[Array, ...]:
        return self.stream.draws(step + self.taken, s, t, kinds, shapes)


def _split(denoiser: Denoiser, times: list[float], level: float | None) -> tuple[list[float], list[float]]:
    """Falling times down to where σ/α = level, and those from there on."""
    level = _default_level(denoiser) if level is None else level
    t = time_of_half_log_snr(denoiser.sde, -math.log(level))
    if t > times[0]:
        there, start = told_apart(t, times[0], digits=6)
        raise ValueError(
            f"LangevinCorrector: σ/α = level = {level:.3g} at t = {there}, before the solve starts, at "
            f"t = {start}; use a smaller level"
        )
    near = [time for time in times if math.isclose(time, t, rel_tol=1e-9)]
    t = near[0] if near else t
    return [time for time in times if time > t] + [t], [t] + [time for time in times if time < t]


def _default_level(denoiser: Denoiser) -> float:
    """A part of the smallest deviation along any direction in which x_0 given x_T varies under the prior."""
    prior = prior_of(denoiser)
    xp, covariance = prior.backend.xp, prior(prior.end, prior.sde.T).covariance
    variances = xp.linalg.eigvalsh(covariance.dense())
    seen = variances > 1e-6 * xp.max(variances)
    smallest = float(xp.min(xp.where(seen, variances, xp.full_like(variances, math.inf))))
    fine = hasattr(prior, "log_density") and is_cheap(covariance, prior.dim)
    return math.sqrt(smallest) * (FINE if fine else COARSE)


def solve_corrected(
    denoiser: Denoiser,
    x: Array,
    times: list[float],
    c: Amplitude,
    settings: LangevinCorrector,
    stream: NoiseStream,
    solver: Solver | None = None,
    progress: bool | None = None,
) -> Corrected:
    """Draws of x_0: the guided reverse SDE from x at times[0] to the level, the corrector, and on to the end.

    x: (batch, dim), from the stream's numbers 0, as `Start.draw` takes them; times: falling, to 0; c: noise
    amplitude in units of g(t), 0 allowed; solver: `ExponentialHeun` by default, whose step to 0 is
    E[x_0 given x_t, y]. Raises: as `solve` and `LangevinCorrector.correct`; ValueError for a level that lies
    above times[0].
    """
    reverse, solver = ReverseSDE(denoiser.sde, denoiser, c), solver or ExponentialHeun()
    above, below = _split(denoiser, times, settings.level)
    x = _last(reverse, x, above, solver, stream, progress)
    corrected = settings.correct(denoiser, x, below[0], stream, first=len(above))
    later = _LaterSteps(stream, len(above) - 1 + settings.steps)
    return Corrected(_last(reverse, corrected.x, below, solver, later, progress), corrected.acceptance)


def tune_corrector(
    denoiser: Denoiser,
    x: Array,
    times: list[float],
    c: Amplitude,
    settings: LangevinCorrector,
    stream: NoiseStream,
    solver: Solver | None = None,
) -> LangevinCorrector:
    """The settings with a step size found on states that `solve_corrected` would correct: `tuned`.

    Arguments as there, x and stream of a small solve of their own.
    """
    above, _ = _split(denoiser, times, settings.level)
    reverse = ReverseSDE(denoiser.sde, denoiser, c)
    x = _last(reverse, x, above, solver or ExponentialHeun(), stream, False)
    return settings.tuned(denoiser, x, above[-1], stream, first=len(above))


def _last(
    reverse: ReverseSDE,
    x: Array,
    times: list[float],
    solver: Solver,
    noise: Any,
    progress: bool | None,
) -> Array:
    """The state at the end of `times`, which may be x's own time alone."""
    if len(times) == 1:
        return x
    path = solve(reverse, x, times, solver=solver, noise=noise, keep="last", progress=progress)
    return path.states[-1, ...]
