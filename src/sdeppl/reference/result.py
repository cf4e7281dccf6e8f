"""A posterior whose mean and standard deviation are known."""

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from ..backend.arguments import count_of, sites_in_words, told_apart
from ..mcmc import convergence

LARGEST_R_HAT = 1.05
LEAST_ESS = 100.0


@dataclass(frozen=True)
class Exact:
    """mean and sd of a site's posterior, shape of the site, in its units; for `compare`.

    From a Kalman smoother, conditioning of a Gaussian, or quadrature.
    """

    mean: Any
    sd: Any


class ChainWarning(UserWarning):
    """The chains do not show that they have converged."""


@dataclass(frozen=True)
class Reference:
    """Draws of a posterior, by Markov chains or exact, and what they say of themselves.

    draws: {site: (chains × draws, *shape)}, chain after chain; r_hat: {site: (*shape)}, rank-normalised
    split R-hat; ess, tail_ess: {site: (*shape)}, effective sample sizes of the bulk and of the tails;
    divergences: in all chains; place: in words, where they begin, as far as `hmc` can tell;
    seconds: warm-up included; warmup_seconds: of these, the warm-up's;
    tuning: what the warm-up came to, by name; supports: {site: constraint}; how: what is exact about it, or
    None for chains, which have no moments {site: Exact} and no log_evidence ln p(y). stats: of `hmc`, of each
    iteration, (chains × draws,): ln p of the unconstrained latents, acceptance, divergence and steps. given:
    the model given the data, for the likelihood of each number; it is not pickled.
    """

    draws: dict[str, torch.Tensor]
    r_hat: dict[str, torch.Tensor]
    ess: dict[str, torch.Tensor]
    tail_ess: dict[str, torch.Tensor]
    divergences: int
    chains: int
    seconds: float
    warmup_seconds: float
    tuning: Mapping[str, float] = field(default_factory=dict)
    supports: Mapping[str, object] = field(default_factory=dict)
    how: str | None = None
    moments: Mapping[str, Exact] = field(default_factory=dict)
    log_evidence: float | None = None
    place: str = ""
    stats: Mapping[str, torch.Tensor] = field(default_factory=dict)
    given: Any = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        count, chains = count_of(self.draws), "" if self.how else f" by {self.chains} chains"
        return f"Reference({count} draws{chains} of {sites_in_words(self.draws, 1)}; {self.verdict})"

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"given": None}  # the model

    @property
    def worst_ess(self) -> float:
        """Bulk effective sample size of the number that mixes worst."""
        return _extreme(self.ess, min)

    @property
    def worst_tail_ess(self) -> float:
        """Tail effective sample size of the number that mixes worst."""
        return _extreme(self.tail_ess, min)

    @property
    def worst_r_hat(self) -> float:
        """R-hat of the number that mixes worst."""
        return _extreme(self.r_hat, max)

    @property
    def reasons(self) -> list[str]:
        """Why not to trust the run; empty where nothing speaks against it."""
        if self.how is not None:
            return []
        found = []
        if not self.worst_r_hat < LARGEST_R_HAT:
            worst, _ = told_apart(self.worst_r_hat, LARGEST_R_HAT, digits=4)
            found.append(f"split R-hat up to {worst}, above {LARGEST_R_HAT}")
        if self.divergences:
            edges = int(self.tuning.get("non_finite", 0))
            where = f", {edges} of them where the density is zero or NaN" if edges else ""
            where += f", {self.place}" if self.place else ""
            found.append(f"{self.divergences} divergences{where}")
        stuck = int(self.tuning.get("stuck_chains", 0))
        if stuck:
            found.append(f"{stuck} chains that accepted nothing")
        least = min(self.worst_ess, self.worst_tail_ess)
        if not least >= LEAST_ESS:
            size, _ = told_apart(least, LEAST_ESS)
            found.append(f"an effective sample size of {size}, below {LEAST_ESS:.0f}")
        return found

    @property
    def trusted(self) -> bool:
        """Whether nothing speaks against the run."""
        return not self.reasons

    @property
    def advice(self) -> str:
        """What to do about the reasons; '' where there are none.

        Any divergence counts, as in Stan: in a funnel that no fixed step can enter (Betancourt & Girolami
        2015) two among 25,600 draws were all that told of 0.3% of a posterior that no chain had seen.
        """
        if self.divergences and self.divergences == int(self.tuning.get("non_finite", 0)):
            return "Give the latents a support that leaves out where the density is zero, or smaller steps"
        if self.divergences:
            return (
                "Take a parametrisation in which latents keep their scale there (reparam=), or, where they "
                "are few, smaller steps (hmc: target=0.95; nuts: target_accept_prob=0.95)"
            )
        return (
            "Draw longer (draws=, warmup=), or in another parametrisation (reparam=)" if self.reasons else ""
        )

    @property
    def verdict(self) -> str:
        """In words: 'exact', 'trusted', or 'do not trust' and the reasons."""
        if self.how is not None:
            return f"exact: {self.how}"
        if self.reasons:
            return f"do not trust: {'; '.join(self.reasons)}. {self.advice}"
        return (
            f"trusted: split R-hat up to {self.worst_r_hat:.3f}, no divergences, effective sample size at "
            f"least {self.worst_ess:.0f} (bulk) and {self.worst_tail_ess:.0f} (tails)"
        )


def summary(
    draws: Mapping[str, torch.Tensor],
    divergences: int,
    seconds: float,
    warmup_seconds: float,
    tuning: Mapping[str, float] | None = None,
    supports: Mapping[str, object] | None = None,
    place: str = "",
    stats: Mapping[str, torch.Tensor] | None = None,
) -> Reference:
    """Draws {site: (chains, draws, *shape)} with their diagnostics; stats {name: (chains, draws)}."""
    found = {name: convergence(value.to(torch.float64)) for name, value in draws.items()}
    return Reference(
        draws={name: value.flatten(0, 1) for name, value in draws.items()},
        r_hat={name: one.r_hat for name, one in found.items()},
        ess={name: one.bulk_ess for name, one in found.items()},
        tail_ess={name: one.tail_ess for name, one in found.items()},
        divergences=divergences,
        chains=next(iter(draws.values())).shape[0],
        seconds=seconds,
        warmup_seconds=warmup_seconds,
        tuning=dict(tuning or {}),
        supports=dict(supports or {}),
        place=place,
        stats={name: value.flatten() for name, value in (stats or {}).items()},
    )


def warn_of_chains(method: str, result: Reference) -> None:
    """Warn the caller of `nuts` or `hmc` where the chains do not show that they have converged."""
    if result.reasons:
        warnings.warn(
            f"{method}: {'; '.join(result.reasons)}. {result.advice}",
            ChainWarning,
            stacklevel=3,
        )


def _extreme(values: Mapping[str, torch.Tensor], which: Callable[..., Any]) -> float:
    """The least or largest number; NaN where all are, which nothing that varies has."""
    numbers = torch.cat([value.reshape(-1).to(torch.float64) for value in values.values()])
    numbers = numbers[~torch.isnan(numbers)]
    if not numbers.numel():
        return math.nan
    return float(which(numbers.tolist()))
