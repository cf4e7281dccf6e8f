"""What a posterior's own weights say of its draws."""

import math
from dataclasses import dataclass
from typing import Any

from ..backend import to_host

POOR_SHARE = 0.05
WIDE_SPREAD = 0.5  # relative standard deviation of a run's estimate of p(y)
FEW_RUNS = 8


class UntrustedWarning(UserWarning):
    """The importance weights say that the draws are not the posterior."""


@dataclass(frozen=True)
class Diagnosis:
    """Whether to believe the draws, as far as importance weights can tell.

    likelihood, correction: what was used, and why: what it was chosen for. ess: effective share of
    the draws, in (0, 1]: 1 for an exact guided score; by 1/(1 + particles × the relative variance of
    the runs' estimates of p(y)), to which resampling on the way has contributed too. log_evidence, log_evidence_error:
    ln p(y) and its standard error (0 where it is known exactly, NaN for fewer than 8 runs). spread: relative standard
    deviation of one run's estimate of p(y), about the root of the relative bias of the run's average. runs,
    particles: 0 where none were made. trusted: whether none of these is bad; text: in words.
    """

    likelihood: str
    correction: str | None
    why: str
    ess: float
    log_evidence: float
    log_evidence_error: float
    spread: float
    runs: int
    particles: int
    trusted: bool
    text: str

    def __str__(self) -> str:
        return self.text


def exact_diagnosis(why: str, log_evidence: float) -> Diagnosis:
    """Of draws whose guided score is the posterior's own."""
    text = f"exact: {why}. ln p(y) = {log_evidence:.4f}"
    return Diagnosis("exact", None, why, 1.0, log_evidence, 0.0, 0.0, 0, 0, True, text)


def diagnose(
    likelihood: str, correction: str | None, why: str, log_evidences: Any, final_shares: Any, particles: int
) -> Diagnosis:
    """From the runs' ln p(y) estimates (runs,) and the effective shares of their particles at the end (runs,).

    correction: None where the draws are those of the guided reverse SDE and the runs only measure it.
    """
    logs = [float(v) for v in to_host(log_evidences)]
    shares = [float(v) for v in to_host(final_shares)]
    count, largest = len(logs), max(logs)
    if not math.isfinite(largest):
        raise FloatingPointError(
            f"no particle of {count} runs can have led to the data (ln p(y) = {largest}): the data lie outside "
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
        ess = min(1 / (1 + particles * variance), 1.0)
    trusted = ess >= POOR_SHARE and not spread > WIDE_SPREAD
    if correction is None:
        trusted = trusted and ess > 0.9
    text = _words(likelihood, correction, why, ess, log_evidence, error, spread, count, trusted)
    return Diagnosis(
        likelihood, correction, why, ess, log_evidence, error, spread, count, particles, trusted, text
    )


def _words(
    likelihood: str,
    correction: str | None,
    why: str,
    ess: float,
    log_evidence: float,
    error: float,
    spread: float,
    runs: int,
    trusted: bool,
) -> str:
    head = f"likelihood '{likelihood}', {'corrected by ' + correction if correction else 'not corrected'} ({why}); "
    figures = f"effective share {ess:.2f}, ln p(y) = {log_evidence:.3f} ± {error:.3f} from {runs} runs"
    if trusted:
        return head + figures
    if correction is None:
        return (
            f"{head}{figures}: the draws follow the approximation, not the posterior; use correction='auto', or "
            "reweight"
        )
    reason = (
        f"single runs differ in p(y) by {spread:.0%}"
        if spread > WIDE_SPREAD
        else f"only {ess:.1%} of the weight counts"
    )
    return (
        f"{head}{figures}: do not trust these draws, {reason}; use more particles "
        "(correction=TwistedSMC(particles=512)), more steps, or compare with reference.nuts"
    )
