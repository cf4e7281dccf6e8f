"""ln p(y) of few numbers, and whether chains missed some of it, by importance sampling around their draws."""

import math
from dataclasses import dataclass, replace
from typing import Any

from array_api_compat import array_namespace

from ..backend import cholesky, log_diagonal, solve_lower, to_host
from ..mcmc import Randomness
from .pareto import pareto_shape

LARGEST = 16  # numbers up to which a bell is like enough to a posterior
POINTS, AT_ONCE = 4_096, 1_024
AROUND, NEAR, WIDE = 0.5, 0.25, 0.25  # shares of the points: around all draws, near one, around the starts
FREEDOM = 5  # of Student's t
CENTRES, NARROW = 256, 0.25  # draws that points are near, and how wide they lie, in deviations of all draws
LEAST_WORTH = 100.0  # points below which weights tell nothing of p(y)
HEAVY_TAIL = 0.7
MISSED = 0.05  # share of the weight beyond all draws from which they are not the posterior
APART = 5.0  # standard errors
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


def weigh(log_prob: Any, starts: Any, x: Any, ess: float, random: Randomness) -> Weighed:
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

    mean: Any
    root: Any

    @classmethod
    def of(cls, x: Any) -> "_Bell":
        """Of the moments of rows (rows, dim)."""
        mean = array_namespace(x).mean(x, axis=0)
        return cls(mean, cholesky((x - mean).T @ (x - mean) / x.shape[0]))

    def whiten(self, x: Any) -> Any:
        """L⁻¹ (x - mean) of rows."""
        return solve_lower(self.root, (x - self.mean).T).T

    def draw(self, at: Any, count: int, random: Randomness) -> Any:
        """(count, dim), around at, (dim,) or (count, dim)."""
        z, others = random.normal((count, self.mean.shape[0])), random.normal((count, FREEDOM))
        xp = array_namespace(z)
        width = xp.sqrt(FREEDOM / xp.sum(others * others, axis=-1))
        return at + (z * width[:, None]) @ self.root.T

    def log_prob(self, x: Any, centres: Any) -> Any:
        """Of rows x, under the even mixture of those around the rows of centres: (rows,)."""
        xp, dim = array_namespace(x), x.shape[1]
        a, c = self.whiten(x), self.whiten(centres)
        square = xp.sum(a * a, axis=-1)[:, None] + xp.sum(c * c, axis=-1) - 2 * a @ c.T
        logs = -0.5 * (FREEDOM + dim) * xp.log1p(xp.clip(square, min=0.0) / FREEDOM)
        largest = xp.max(logs, axis=-1)
        total = largest + xp.log(xp.mean(xp.exp(logs - largest[:, None]), axis=-1))
        constant = math.lgamma(0.5 * (FREEDOM + dim)) - math.lgamma(0.5 * FREEDOM)
        return total + constant - 0.5 * dim * math.log(FREEDOM * math.pi) - log_diagonal(self.root)


def _judged(log_weights: Any, bell: _Bell, points: Any, x: Any, ess: float) -> Weighed:
    """What the weights of points (points, dim) say of p(y) and of the draws x (rows, dim)."""
    xp, nan = array_namespace(x), math.nan
    possible = xp.isfinite(log_weights)
    if not bool(xp.any(possible)):
        return Weighed(nan, nan, 0.0, nan, ())
    largest = float(xp.max(xp.where(possible, log_weights, xp.full_like(log_weights, -xp.inf))))
    weights = xp.where(possible, xp.exp(log_weights - largest), xp.zeros_like(log_weights))
    total = float(xp.sum(weights))
    shares = weights / total
    worth = 1 / float(xp.sum(shares * shares))
    k = pareto_shape([float(w) for w in to_host(weights)])
    drawn, asked = bell.whiten(x), bell.whiten(points)
    outside = xp.sum(asked * asked, axis=-1) > xp.max(xp.sum(drawn * drawn, axis=-1))
    missed = float(xp.sum(xp.where(outside, shares, xp.zeros_like(shares))))
    reasons = [f"{missed:.0%} of the posterior lies beyond all of them"] if missed > MISSED else []
    gap = _gap(shares, asked, drawn, ess) if worth >= LEAST_WORTH else 0.0
    if gap > APART:
        reasons.append(f"importance sampling around them finds other moments ({gap:.0f} standard errors off)")
    if not worth >= LEAST_WORTH or k > HEAVY_TAIL:
        return Weighed(nan, nan, worth, k, tuple(reasons))
    error = math.sqrt(max(1 / worth - 1 / POINTS, 0.0))
    return Weighed(largest + math.log(total / POINTS), error, worth, k, tuple(reasons))


def _gap(shares: Any, asked: Any, drawn: Any, ess: float) -> float:
    """The largest difference of a mean, or a mean square, of whitened numbers, in standard errors of both."""
    xp = array_namespace(asked)

    def features(u: Any) -> Any:
        u = xp.clip(u, -FARTHEST, FARTHEST)
        return xp.concat([u, u * u], axis=-1)

    f = features(asked)
    mean = shares @ f
    square = (f - mean) ** 2
    variance = (shares * shares) @ square + (shares @ square) / ess
    return float(xp.max(xp.abs(xp.mean(features(drawn), axis=0) - mean) / xp.sqrt(variance)))
