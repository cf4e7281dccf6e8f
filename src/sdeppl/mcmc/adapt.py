"""Step size and trajectory length, adapted across chains."""

import math
from dataclasses import dataclass, replace

from array_api_compat import device

from ..backend import Array, array_namespace
from .trajectory import Proposal, Scale

BEHIND = 3.0  # in ln(step): a twentieth
LEAST_ACCEPTANCE = 0.01  # lest one chain far out hold the harmonic mean of all at zero


@dataclass(frozen=True)
class StepSize:
    """Dual averaging of ln(step) towards a target acceptance.

    Source: Hoffman and Gelman 2014, algorithm 5 (γ = .05, t₀ = 10, κ = .75).
    """

    centre: float
    log_step: float
    log_average: float = 0.0
    error: float = 0.0
    count: int = 0

    @classmethod
    def around(cls, step: float) -> "StepSize":
        """From a first guess; larger steps are tried first."""
        return cls(math.log(2 * step), math.log(step), math.log(step))

    @property
    def step(self) -> float:
        """To try next."""
        return math.exp(self.log_step)

    @property
    def average(self) -> float:
        """To keep."""
        return math.exp(self.log_average)

    def update(self, acceptance: float, target: float) -> "StepSize":
        """After an iteration with this acceptance."""
        count = self.count + 1
        weight = 1 / (count + 10)
        error = (1 - weight) * self.error + weight * (target - acceptance)
        log_step = self.centre - math.sqrt(count) / 0.05 * error
        fresh = count**-0.75
        return replace(
            self,
            log_step=log_step,
            log_average=fresh * log_step + (1 - fresh) * self.log_average,
            error=error,
            count=count,
        )


@dataclass(frozen=True)
class OwnSteps:
    """A step size for each chain, while chains are on their way from the prior to the posterior.

    ln(step) moves by 2 (acceptance - target) / √count. A common step would be that of the chain where the
    density is steepest, and hold up all the others.
    """

    log_step: Array
    count: int = 0

    @property
    def step(self) -> Array:
        """To try next, (chains, 1)."""
        return array_namespace(self.log_step).exp(self.log_step)[:, None]

    @property
    def behind(self) -> Array:
        """(chains,): whose steps are far below the others', since they are stuck somewhere steep."""
        ordered = array_namespace(self.log_step).sort(self.log_step)
        return self.log_step < ordered[(ordered.shape[0] - 1) // 2] - BEHIND

    def update(self, acceptance: Array, target: float) -> "OwnSteps":
        """After an iteration with these acceptances, (chains,)."""
        count = self.count + 1
        return replace(self, log_step=self.log_step + 2 * (acceptance - target) / count**0.5, count=count)


@dataclass(frozen=True)
class Length:
    """Ascent of the criterion ChEES in ln(length), by Adam without momentum.

    ChEES = E[(|z' - E z'|² - |z - E z|²)²] / 4, the change in the estimator of the expected square. Source:
    Hoffman, Radul and Sountsov 2021, "An adaptive-MCMC scheme for setting trajectory lengths in Hamiltonian
    Monte Carlo", algorithm 1 (β₂ = .95).
    """

    log_length: float
    log_average: float = 0.0
    square: float = 0.0
    count: int = 0

    @classmethod
    def at(cls, length: float) -> "Length":
        """From a first guess."""
        return cls(math.log(length), math.log(length))

    @property
    def length(self) -> float:
        """To try next."""
        return math.exp(self.log_length)

    @property
    def average(self) -> float:
        """To keep."""
        return math.exp(self.log_average)

    def update(self, slope: float, rate: float, least: float, largest: float) -> "Length":
        """After an iteration with this slope of the criterion in ln(length); within [least, largest]."""
        if not math.isfinite(slope):
            return self
        count = self.count + 1
        square = 0.95 * self.square + 0.05 * slope**2
        size = math.sqrt(square / (1 - 0.95**count))
        moved = self.log_length + (rate * slope / size if size > 0 else 0.0)
        log_length = min(max(moved, math.log(least)), math.log(largest))
        fresh = count**-0.5
        return replace(
            self,
            log_length=log_length,
            log_average=fresh * log_length + (1 - fresh) * self.log_average,
            square=square,
            count=count,
        )


def harmonic_mean(proposal: Proposal) -> float:
    """Of the chains' acceptance probabilities, which the worst of them rule.

    Chains that met an edge of the density are left out, unless they are most: no step is small enough for
    them.
    """
    xp, met = array_namespace(proposal.acceptance), proposal.non_finite
    kept = met.shape[0] - int(xp.count_nonzero(met))
    if kept < 0.5 * met.shape[0]:
        return 0.0
    inverse = 1 / xp.clip(proposal.acceptance, min=LEAST_ACCEPTANCE)
    return kept / float(xp.sum(xp.where(met, xp.zeros_like(inverse), inverse)))


def chees_slope(z: Array, proposal: Proposal, scale: Scale, time: float) -> float:
    """Slope of ChEES in ln(length), of whitened latents, after trajectories of `time` from z."""
    xp = array_namespace(z)
    weights = proposal.acceptance / xp.clip(xp.sum(proposal.acceptance), min=1e-12)
    before, after = scale.whiten(z), scale.whiten(proposal.state.z)
    before = before - xp.mean(before, axis=0)
    after = after - weights @ after
    change = xp.sum(after * after, axis=-1) - xp.sum(before * before, axis=-1)
    return time * float(xp.sum(weights * change * xp.sum(after * proposal.momentum, axis=-1)))


def halton(index: int) -> float:
    """The number `index` >= 1 of van der Corput's sequence of base 2, in (0, 1)."""
    found, digit = 0.0, 0.5
    while index:
        found, index, digit = found + digit * (index % 2), index // 2, digit / 2
    return found


def covariance_scale(z: Array, dense: bool) -> Scale:
    """L of draws z (count, dim), shrunk a little towards the diagonal, and that towards nothing."""
    xp, (count, dim) = array_namespace(z), z.shape
    sd = xp.sqrt(xp.clip(xp.var(z, axis=0, correction=1.0), min=1e-20))
    if not dense:
        return Scale(sd)
    standardised = (z - xp.mean(z, axis=0)) / sd
    correlation = standardised.T @ standardised / (count - 1)
    weight = count / (count + 5.0 * dim)
    shrunk = weight * correlation + (1 - weight) * xp.eye(dim, dtype=z.dtype, device=device(z))
    return Scale(sd[:, None] * xp.linalg.cholesky(shrunk))


def robust_scale(z: Array) -> Scale:
    """Diagonal L of draws (count, dim) that may have heavy tails, by their quartiles."""
    xp = array_namespace(z)
    ordered = xp.sort(z, axis=0)
    low, high = (_quantile(ordered, level) for level in (0.25, 0.75))
    return Scale(xp.clip((high - low) / 1.349, min=1e-10))


def _quantile(ordered: Array, level: float) -> Array:
    """Of rising rows (count, dim), linear between two of them."""
    place = level * (ordered.shape[0] - 1)
    below = int(place)
    above = min(below + 1, ordered.shape[0] - 1)
    return ordered[below, :] + (place - below) * (ordered[above, :] - ordered[below, :])
