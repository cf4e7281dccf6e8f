"""Metropolis-adjusted Langevin steps at a small t: they leave p(x_t given y) where it is."""

import math
from dataclasses import dataclass, replace
from typing import Any

from array_api_compat import array_namespace

from ..backend import NoiseStream, real_parameter, whole_number
from ..backend.arguments import told_apart
from ..denoisers import Denoiser
from ..sde import ReverseSDE
from ..sde.grids import time_of_half_log_snr
from ..solvers import ExponentialHeun, Solver, solve
from .langevin import LangevinChain, prior_of
from .local_scale import is_cheap

LENGTH = 1.65  # ℓ of the fastest chain, with h = ℓ² dim^{-1/3} on a Gaussian of covariance P
ACCEPTANCE = 0.574  # of that chain in many dimensions
FINE, COARSE = 1 / 20, 1 / 4  # levels, in standard deviations of the prior


@dataclass(frozen=True)
class Corrected:
    """x: (batch, dim); acceptance: each row's mean probability of taking a step, (batch,), in [0, 1]."""

    x: Any
    acceptance: Any


@dataclass(frozen=True)
class LangevinCorrector:
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

    steps: int = 20
    level: float | None = None
    step_size: float | None = None
    nodes: int = 3

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("nodes", 1)):
            value = whole_number(f"LangevinCorrector: {name}", getattr(self, name), least)
            object.__setattr__(self, name, value)
        for name in ("level", "step_size"):
            if getattr(self, name) is None:
                continue
            number = real_parameter(f"LangevinCorrector: {name}", getattr(self, name))
            object.__setattr__(self, name, number)
            if not 0 < number < math.inf:
                raise ValueError(f"LangevinCorrector: {name} must be positive and finite; got {number!r}")

    def correct(self, denoiser: Denoiser, x: Any, t: float, stream: NoiseStream, first: int = 1) -> Corrected:
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
        self, denoiser: Denoiser, x: Any, t: float, stream: NoiseStream, first: int = 1, trials: int = 40
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
    def backend(self) -> Any:
        return self.stream.backend

    def draws(self, step: int, s: float, t: float, kinds: Any, shapes: Any) -> tuple[Any, ...]:
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
    xp, sde, backend = prior.backend.xp, prior.sde, prior.backend
    x = xp.zeros((1, prior.dim), dtype=backend.dtype, device=backend.device) + sde.shift(sde.T)
    covariance = prior(x, sde.T).covariance
    variances = xp.linalg.eigvalsh(covariance.dense())
    seen = variances > 1e-6 * xp.max(variances)
    smallest = float(xp.min(xp.where(seen, variances, xp.full_like(variances, math.inf))))
    fine = hasattr(prior, "log_density") and is_cheap(covariance, prior.dim)
    return math.sqrt(smallest) * (FINE if fine else COARSE)


def solve_corrected(
    denoiser: Denoiser,
    x: Any,
    times: list[float],
    c: Any,
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
    x: Any,
    times: list[float],
    c: Any,
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
    reverse: ReverseSDE, x: Any, times: list[float], solver: Solver, noise: Any, progress: bool | None
) -> Any:
    """The state at the end of `times`, which may be x's own time alone."""
    if len(times) == 1:
        return x
    path = solve(reverse, x, times, solver=solver, noise=noise, keep="last", progress=progress)
    return path.states[-1, ...]
