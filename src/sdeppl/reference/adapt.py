"""Step size and trajectory length, adapted across chains."""

import math
from dataclasses import dataclass, replace

import torch

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

    log_step: torch.Tensor
    count: int = 0

    @property
    def step(self) -> torch.Tensor:
        """To try next, (chains, 1)."""
        return self.log_step.exp()[:, None]

    @property
    def median(self) -> float:
        """Of the chains."""
        return float(self.log_step.median().exp())

    @property
    def behind(self) -> torch.Tensor:
        """(chains,): whose steps are far below the others', since they are stuck somewhere steep."""
        return self.log_step < self.log_step.median() - BEHIND

    def update(self, acceptance: torch.Tensor, target: float) -> "OwnSteps":
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
    met = proposal.non_finite
    if int(met.sum()) > 0.5 * len(met):
        return 0.0
    return float(1 / (1 / proposal.acceptance[~met].clamp_min(LEAST_ACCEPTANCE)).mean())


def chees_slope(z: torch.Tensor, proposal: Proposal, scale: Scale, time: float) -> float:
    """Slope of ChEES in ln(length), of whitened latents, after trajectories of `time` from z."""
    weights = proposal.acceptance / proposal.acceptance.sum().clamp_min(1e-12)
    before, after = scale.whiten(z), scale.whiten(proposal.state.z)
    before = before - before.mean(dim=0)
    after = after - weights @ after
    change = (after**2).sum(dim=-1) - (before**2).sum(dim=-1)
    return time * float((weights * change * (after * proposal.momentum).sum(dim=-1)).sum())


def halton(index: int) -> float:
    """The number `index` >= 1 of van der Corput's sequence of base 2, in (0, 1)."""
    found, digit = 0.0, 0.5
    while index:
        found, index, digit = found + digit * (index % 2), index // 2, digit / 2
    return found


def covariance_scale(z: torch.Tensor, dense: bool) -> Scale:
    """L of draws z (count, dim), shrunk a little towards the diagonal, and that towards nothing."""
    variances = z.var(dim=0).clamp_min(1e-20)
    if not dense:
        return Scale(variances.sqrt())
    sd = variances.sqrt()
    correlation = torch.cov((z / sd).T).reshape(sd.shape[0], sd.shape[0])
    weight = z.shape[0] / (z.shape[0] + 5.0 * z.shape[1])
    shrunk = weight * correlation + (1 - weight) * torch.eye(sd.shape[0], dtype=z.dtype, device=z.device)
    return Scale(sd[:, None] * torch.linalg.cholesky(shrunk))


def robust_scale(z: torch.Tensor) -> Scale:
    """Diagonal L of draws (count, dim) that may have heavy tails, by their quartiles."""
    quartiles = torch.quantile(z, torch.tensor([0.25, 0.75], dtype=z.dtype, device=z.device), dim=0)
    return Scale(((quartiles[1] - quartiles[0]) / 1.349).clamp_min(1e-10))
