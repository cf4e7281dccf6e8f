"""Sequential Monte Carlo of many independent runs at once: weights, resampling, moves, powers, evidence.

Twisted and tempered samplers, importance sampling and weighted draws of x_0 all stand on these functions.
Source: Del Moral, Doucet & Jasra 2006 (Sequential Monte Carlo samplers).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from array_api_compat import device

from ..backend import array_namespace, to_host
from ..backend.typing import Array

BISECTIONS = 60
LEAST_WEIGHTS = 25  # below which a tail has too few values to say anything


def normalised(log_weights: Array) -> tuple[Array, Array]:
    """Weights that sum to one, and ln of the mean of the unnormalised ones: (runs, particles) and (runs,).

    A run all of whose particles are impossible (-∞) gets equal weights, and -∞.
    """
    xp, count = array_namespace(log_weights), log_weights.shape[1]
    largest = xp.max(log_weights, axis=1, keepdims=True)
    finite = xp.where(largest > -xp.inf, largest, xp.zeros_like(largest))
    weights = xp.exp(log_weights - finite)
    total = xp.sum(weights, axis=1, keepdims=True)
    possible = total > 0
    shares = weights / xp.where(possible, total, xp.ones_like(total))
    log_mean = finite + xp.log(total / count)
    return xp.where(possible, shares, xp.ones_like(weights) / count), log_mean[:, 0]


def ess_fraction(weights: Array) -> Array:
    """1/Σ w² over the number of particles, in (0, 1], for each run of weights (runs, particles)."""
    xp = array_namespace(weights)
    return 1 / (xp.sum(weights * weights, axis=1) * weights.shape[1])


def systematic(weights: Array, uniforms: Array, kept: int) -> Array:
    """Indices (runs, kept) of particles of weights w (runs, particles), ⌊kept w⌋ or ⌈kept w⌉ times each.

    uniforms: (runs,), in [0, 1). The comparison takes runs × kept × particles bits, and no
    synchronisation. Source: Kitagawa 1996; Douc, Cappé & Moulines 2005.
    """
    xp = array_namespace(weights)
    places = xp.arange(kept, dtype=weights.dtype, device=device(weights))
    places = (places[None, :] + uniforms[:, None]) / kept
    reached = xp.cumulative_sum(weights, axis=1)
    reached = reached / reached[:, -1:]  # rounding must not leave the last place without a particle
    index = xp.sum(xp.astype(reached[:, None, :] <= places[:, :, None], xp.int64), axis=-1)
    return xp.clip(index, max=weights.shape[1] - 1)


def in_all(index: Array, count: int) -> Array:
    """Indices (runs, kept) within runs of `count` particles as indices of all particles, (runs × kept,)."""
    xp, (runs, _) = array_namespace(index), index.shape
    first = count * xp.arange(runs, dtype=xp.int64, device=device(index))
    return xp.reshape(index + first[:, None], (-1,))


@dataclass(frozen=True)
class Weights:
    """Log weights (runs, particles) since each run last resampled, and ln of its evidence until then,
    (runs,).

    before: log weights, and shares: the normalised ones, before the increments of the present step.
    """

    log_weights: Array
    log_evidence: Array
    before: Array
    shares: Array

    @classmethod
    def equal(cls, zeros: Array) -> "Weights":
        """Of zeros (runs, particles)."""
        xp = array_namespace(zeros)
        return cls(zeros, xp.sum(zeros, axis=1), zeros, xp.ones_like(zeros) / zeros.shape[1])

    def add(self, increment: Array, starts: bool = False) -> "Weights":
        """More log weight, (runs, particles); `starts`: these are the first of a step."""
        found = replace(self, log_weights=self.log_weights + increment)
        if not starts:
            return found
        return replace(found, before=self.log_weights, shares=normalised(self.log_weights)[0])

    @property
    def roughness(self) -> Array:
        """Root of the mean over runs of the variance of this step's increments."""
        xp = array_namespace(self.log_weights)
        increment = self.log_weights - self.before
        mean = xp.sum(self.shares * increment, axis=1, keepdims=True)
        variance = xp.sum(self.shares * (increment - mean) ** 2, axis=1)
        return xp.sqrt(xp.mean(variance))

    def resample(self, uniforms: Array, below: float = math.inf) -> tuple["Weights", Array]:
        """The runs whose effective fraction is below the limit, resampled; ancestors, (runs × particles,)."""
        xp, (runs, count) = array_namespace(self.log_weights), self.log_weights.shape
        weights, log_mean = normalised(self.log_weights)
        poor = ess_fraction(weights) < below
        own = xp.broadcast_to(xp.arange(count, dtype=xp.int64, device=device(weights)), (runs, count))
        index = xp.where(poor[:, None], systematic(weights, uniforms, count), own)
        log_weights = xp.where(poor[:, None], xp.zeros_like(weights), self.log_weights)
        evidence = xp.where(poor, self.log_evidence + log_mean, self.log_evidence)
        return Weights(log_weights, evidence, log_weights, self.shares), in_all(index, count)

    def keep(self, kept: int, uniforms: Array) -> tuple[Array, Array, Array]:
        """`kept` particles of each run, (runs × kept,); ln of the runs' p(y) and effective fractions,
        (runs,)."""
        weights, log_mean = normalised(self.log_weights)
        index = in_all(systematic(weights, uniforms, kept), weights.shape[1])
        return index, self.log_evidence + log_mean, ess_fraction(weights)


def blocks(runs: int, particles: int, most: int) -> list[int]:
    """How many runs each block has, of at most so many particles together."""
    each = max(most // particles, 1)
    return [min(each, runs - first) for first in range(0, runs, each)]


def next_power(log_likelihood: Array, power: float, share: float) -> float:
    """The next λ ≤ 1, by which `share` of the particles that can have led to the data stay effective.

    log_likelihood: ln p(y given x_0) of particles that are equally likely at λ = power, (particles,). Raises:
    FloatingPointError where none of them can have led to the data, or p(y given x_0) is infinite.
    """
    xp = array_namespace(log_likelihood)
    possible = xp.isfinite(log_likelihood)
    infinite = int(xp.count_nonzero(log_likelihood == xp.inf))
    if infinite:
        raise FloatingPointError(
            f"p(y given x_0) is infinite at {infinite} of {log_likelihood.shape[0]} draws, which would "
            "outweigh all others; check the density of the data there"
        )
    count = int(xp.count_nonzero(possible))
    if count == 0:
        raise FloatingPointError(
            "no draw of the prior can have led to the data: they lie outside what the model can give, or so "
            "far out that its density underflows; check data and model"
        )
    rise = 1.0 - power
    values = xp.take(log_likelihood, xp.nonzero(possible)[0])
    part = float(effective_power(rise * (values - xp.max(values))[None, :], share, BISECTIONS)[0, 0])
    return 1.0 if part == 1.0 else power + part * rise


def effective_power(log_weights: Array, share: float, bisections: int) -> Array:
    """The largest β ≤ 1 for which `share` of the particles stay effective by exp(β log_weights), (runs, 1).

    log_weights: (runs, particles). To 2⁻ᵇ in so many bisections, and no more than it.
    """
    xp = array_namespace(log_weights)
    finite = xp.clip(log_weights, min=-1e30)  # 0 × -∞ would be NaN
    low = xp.zeros_like(finite[:, :1])
    high = xp.ones_like(low)
    power = high
    for _ in range(bisections):
        enough = ess_fraction(normalised(power * finite)[0])[:, None] >= share
        low, high = xp.where(enough, power, low), xp.where(enough, high, power)
        power = xp.where(low < 1, 0.5 * (low + high), low)
    return low


def moved_ess_fraction(moments: Array, particles: int) -> float:
    """Effective fraction of particles that moved apart: their variance over `particles` × that of runs'
    means.

    moments: the runs' means of x and of x², (runs, 2, dim). A mean over the numbers in x of the inverse.
    """
    xp = array_namespace(moments)
    means, squares = moments[:, 0, :], moments[:, 1, :]
    pooled = xp.mean(means, axis=0)
    variance = xp.mean(squares, axis=0) - pooled * pooled
    between = xp.sum((means - pooled) ** 2, axis=0) / (means.shape[0] - 1)
    varies = variance > 0
    ratio = particles * between / xp.where(varies, variance, xp.ones_like(variance))
    total = xp.sum(xp.where(varies, ratio, xp.zeros_like(ratio)))
    mean = float(total) / max(int(xp.count_nonzero(varies)), 1)
    return min(1 / mean, 1.0) if mean > 0 else 1.0


@dataclass(frozen=True)
class Evidences:
    """scaled: the runs' estimates of p(y), the largest of which is 1; largest: ln of that one."""

    scaled: list[float]
    largest: float

    @classmethod
    def of(cls, log_evidences: Array) -> "Evidences":
        """From ln p(y) of each run, (runs,)."""
        logs = [float(v) for v in to_host(log_evidences)]
        largest = max(logs)
        return cls([math.exp(v - largest) if math.isfinite(largest) else 0.0 for v in logs], largest)

    @property
    def possible(self) -> bool:
        """Whether any run can have led to the data."""
        return math.isfinite(self.largest)

    @property
    def mean(self) -> float:
        """Of `scaled`."""
        return sum(self.scaled) / len(self.scaled)

    @property
    def log_mean(self) -> float:
        """ln p(y)."""
        return self.largest + math.log(self.mean)

    @property
    def relative_variance(self) -> float:
        """Variance of the estimates over their mean squared."""
        mean = self.mean
        return sum((v / mean - 1) ** 2 for v in self.scaled) / (len(self.scaled) - 1)

    def ess_fraction(self, particles: int) -> float:
        """1/(1 + particles × relative variance), of runs of `particles`; -1 where none is possible."""
        return 1 / (1 + particles * self.relative_variance) if self.possible else -1.0

    @property
    def pareto_k(self) -> float:
        """Shape of the tail of the estimates (`pareto_shape`)."""
        return pareto_shape(self.scaled)


def pareto_shape(weights: Sequence[float]) -> float:
    """k̂ of a generalised Pareto distribution fitted to the largest weights; NaN for fewer than 25.

    Weights with k̂ above 0.7 have averages that no practical number of them settles; above 0.5 their variance
    is infinite. The tail is the min(n/5, 3 √n) largest; equal weights have k̂ = -∞. Source: Vehtari et al.
    2024 (Pareto smoothed importance sampling), section 2; the fit is Zhang & Stephens 2009.
    """
    count = len(weights)
    if count < LEAST_WEIGHTS:
        return math.nan
    ordered = sorted(weights)
    size = int(min(0.2 * count, 3 * math.sqrt(count)))
    cut = ordered[-size - 1]
    tail = [w - cut for w in ordered[-size:]]
    if tail[-1] <= 1e-12 * ordered[-1]:
        return -math.inf
    tail = [max(x, 1e-300) for x in tail]
    quartile, largest = tail[max(int(size / 4 + 0.5) - 1, 0)], tail[-1]
    grid = 30 + int(math.sqrt(size))
    thetas = [
        1 / largest + (1 - math.sqrt(grid / (j - 0.5))) / (3 * max(quartile, 1e-12 * largest))
        for j in range(1, grid + 1)
    ]

    def shape(theta: float) -> float:
        return sum(math.log1p(-theta * x) for x in tail) / len(tail)

    profiles = []
    for theta in thetas:
        k = shape(theta)
        profiles.append(size * (math.log(-theta / k) - k - 1) if theta * k < 0 else -math.inf)
    best = max(profiles)
    shares = [math.exp(p - best) for p in profiles]
    theta = sum(t * s for t, s in zip(thetas, shares, strict=True)) / sum(shares)
    # drawn towards 0.5 by ten values' worth, which steadies small tails
    return (size * shape(theta) + 5) / (size + 10)
