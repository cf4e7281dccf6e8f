"""What a posterior's own weights say of its draws."""

import math
from dataclasses import dataclass
from typing import Any

from ..backend import to_host
from .pareto import pareto_shape

POOR_SHARE = 0.05
WIDE_SPREAD = 0.5  # relative standard deviation of a run's estimate of p(y)
FEW_RUNS = 8
HEAVY_TAIL = 0.7
UNEVEN = 0.1  # relative standard deviation of runs' p(y) from which their tail counts
MORE = {
    "twisted SMC": "TwistedSMC(particles=512)",
    "tempered SMC": "TemperedSMC(particles=1024, moves=64)",
}


class UntrustedWarning(UserWarning):
    """The importance weights say that the draws are not the posterior."""


@dataclass(frozen=True)
class Diagnosis:
    """Whether to believe the draws, as far as importance weights can tell.

    likelihood, correction: what was used; why: what it was chosen for. ess: effective share of the draws,
    in (0, 1]: 1 for an exact guided score, else 1/(1 + particles × the relative variance of the runs'
    estimates of p(y)), to which all resampling on the way has contributed; for TemperedSMC, whose particles
    move apart again, their variance over particles × that of the runs' means. log_evidence,
    log_evidence_error: ln p(y) and its standard error: 0 where it is known exactly, NaN for fewer than 8
    runs. spread: relative standard deviation of one run's estimate of p(y), whose square is about the
    relative bias of the run's average. pareto_k: shape of the tail of these estimates (`pareto_shape`), NaN
    for fewer than 25 runs: above 0.7, where spread is more than 0.1, the figures themselves are not to be
    relied on. runs, particles:
    0 where none were made. trusted: whether none of these is bad; text: in words.
    """

    likelihood: str
    correction: str | None
    why: str
    ess: float
    log_evidence: float
    log_evidence_error: float
    spread: float
    pareto_k: float
    runs: int
    particles: int
    trusted: bool
    text: str

    def __str__(self) -> str:
        return self.text


def exact_diagnosis(why: str, log_evidence: float) -> Diagnosis:
    """Of draws whose guided score is the posterior's own."""
    text = f"exact: {why}. ln p(y) = {log_evidence:.4f}"
    return Diagnosis("exact", None, why, 1.0, log_evidence, 0.0, 0.0, -math.inf, 0, 0, True, text)


def diagnose(
    likelihood: str,
    correction: str | None,
    why: str,
    log_evidences: Any,
    final_shares: Any,
    particles: int,
    moved: bool = False,
) -> Diagnosis:
    """From the runs' estimates of ln p(y), (runs,), and the effective shares of their particles at the end.

    correction: None where the draws are those of the guided reverse SDE and the runs only measure it;
    moved: whether particles were moved apart after each resampling, so that final_shares are all there is.
    """
    logs = [float(v) for v in to_host(log_evidences)]
    shares = [float(v) for v in to_host(final_shares)]
    count, largest = len(logs), max(logs)
    if not math.isfinite(largest):
        raise FloatingPointError(
            f"no particle of {count} runs can have led to the data (ln p(y) = {largest}): they lie outside "
            "what the model can give, or so far out that its density underflows; check data and model"
        )
    scaled = [math.exp(v - largest) for v in logs]
    mean = sum(scaled) / count
    log_evidence = largest + math.log(mean)
    final = sum(shares) / count
    if count < FEW_RUNS:
        spread, error, ess = math.nan, math.nan, final
    else:
        variance = sum((v / mean - 1) ** 2 for v in scaled) / (count - 1)
        spread, error = math.sqrt(variance), math.sqrt(variance / count)
        ess = final if moved else min(1 / (1 + particles * variance), 1.0)
    k = pareto_shape(scaled)
    heavy = k > HEAVY_TAIL and spread > UNEVEN
    trusted = ess >= POOR_SHARE and not spread > WIDE_SPREAD and not heavy
    if correction is None:
        trusted = trusted and ess > 0.9
    text = _words(likelihood, correction, why, ess, log_evidence, error, spread, k, count, trusted)
    return Diagnosis(
        likelihood, correction, why, ess, log_evidence, error, spread, k, count, particles, trusted, text
    )


def _words(
    likelihood: str,
    correction: str | None,
    why: str,
    ess: float,
    log_evidence: float,
    error: float,
    spread: float,
    k: float,
    runs: int,
    trusted: bool,
) -> str:
    how = f"corrected by {correction}" if correction else "not corrected"
    head = f"likelihood '{likelihood}', {how} ({why}); "
    figures = f"effective share {ess:.2f}, ln p(y) = {log_evidence:.3f} ± {error:.3f} from {runs} runs"
    if trusted:
        return head + figures
    if correction is None:
        return (
            f"{head}{figures}: the draws follow the approximation, not the posterior; use correction='auto'"
        )
    reason = f"only {ess:.1%} of the weight counts"
    if spread > WIDE_SPREAD:
        reason = f"single runs differ in p(y) by {spread:.0%}"
    elif k > HEAVY_TAIL and spread > UNEVEN:
        reason = f"a few runs may have most of the weight (Pareto's k = {k:.1f})"
    return (
        f"{head}{figures}: do not trust these draws, {reason}; use more particles "
        f"(correction={MORE[correction]}), more steps, or compare with reference.nuts"
    )
