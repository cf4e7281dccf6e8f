"""What a posterior's own weights say of its draws."""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

from ..backend import to_host
from .fit_check import FitCheck, State
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
    0 where none were made. trusted: whether none of these is bad; text: in words. prior: 'known' where the
    draws follow the prior's own density, 'learned' where they follow that of its denoiser; fit: what held-out
    draws say of a learned prior, None where nothing has looked, as for a denoiser given by hand, whose
    exactness is the user's own claim; fit_alone: whether that is all there is against the draws. r_hat,
    divergences: of Hamiltonian chains, which have no weights: ess is then what the draws are worth as a share
    of independent ones, runs the chains, particles the iterations of each, and what they do not know is NaN.
    undefined, impossible: shares of the x_0 asked at which ln p(y given x_0) was NaN, which count as
    impossible, and at which it was -infinity.
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
    prior: Literal["known", "learned"] = "learned"
    fit: FitCheck | None = None
    fit_alone: bool = False
    r_hat: float = math.nan
    divergences: int = 0
    undefined: float = 0.0
    impossible: float = 0.0

    def __repr__(self) -> str:
        return f"Diagnosis({self.state}; {self.text})"

    def __str__(self) -> str:
        return self.text

    @property
    def state(self) -> State:
        """'trusted', 'do not trust', or 'cannot tell' where the prior is learned to within a stated error."""
        if self.trusted:
            return "trusted"
        return self.fit.state if self.fit_alone and self.fit is not None else "do not trust"

    def with_no_density(self, undefined: float, impossible: float, where: str) -> "Diagnosis":
        """With the shares of the x_0 asked at which ln p(y given x_0) was NaN and -infinity; where: one of
        the first, in words."""
        text = self.text
        if impossible:
            text += f"; the data are impossible at {impossible:.2g} of the latents asked"
        if undefined:
            text += (
                f"; ln p(y) is NaN at {undefined:.2g} of the latents asked, such as {where}: they count "
                "as impossible"
            )
        if undefined > OFTEN and self.trusted:
            text = f"do not trust these draws, much of the likelihood is not a number: {text}"
        trusted = self.trusted and undefined <= OFTEN
        return replace(self, undefined=undefined, impossible=impossible, text=text, trusted=trusted)

    def with_fit(self, fit: FitCheck | None) -> "Diagnosis":
        """With what held-out draws say of the learned prior; as it is where the prior is known."""
        if fit is None or (self.prior == "known" and not fit.disagreement):
            return self
        of = "" if fit.disagreement else "exact for " if self.likelihood == "exact" else "for "
        text = f"{self.text}; {of}{fit.words}"
        if self.trusted and not fit.good:
            text = f"{_OF_THE_FIT[fit.state]}: {text}"
        trusted = self.trusted and fit.good
        return replace(self, trusted=trusted, text=text, fit=fit, fit_alone=self.trusted and not fit.good)


OFTEN = 0.05  # share of NaN from which what was left out may matter


_OF_THE_FIT: dict[State, str] = {
    "do not trust": "do not trust these draws, their prior is not the model's",
    "cannot tell": "cannot tell, the prior is learned to within what a posterior may show; use a reference",
}


@dataclass(frozen=True)
class RunEvidences:
    """scaled: the runs' estimates of p(y), the largest of which is 1; largest: ln of that one."""

    scaled: list[float]
    largest: float

    @classmethod
    def of(cls, log_evidences: Any) -> "RunEvidences":
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
    def relative_variance(self) -> float:
        """Variance of the estimates over their mean squared."""
        mean = self.mean
        return sum((v / mean - 1) ** 2 for v in self.scaled) / (len(self.scaled) - 1)


def exact_diagnosis(
    why: str, log_evidence: float, prior: Literal["known", "learned"] = "learned"
) -> Diagnosis:
    """Of draws whose guided score is the posterior's own."""
    text = f"exact: {why}. ln p(y) = {log_evidence:.4f}"
    return Diagnosis("exact", None, why, 1.0, log_evidence, 0.0, 0.0, -math.inf, 0, 0, True, text, prior)


def diagnose(
    likelihood: str,
    correction: str | None,
    why: str,
    log_evidences: Any,
    final_share: float,
    particles: int,
    moved: bool = False,
) -> Diagnosis:
    """From the runs' estimates of ln p(y), (runs,), and the effective share of their particles at the end.

    correction: None where the draws are those of the guided reverse SDE and the runs only measure it;
    moved: whether particles were moved apart after each resampling, so that final_share is all there is.
    """
    runs = RunEvidences.of(log_evidences)
    count = len(runs.scaled)
    if not runs.possible:
        raise FloatingPointError(
            f"no particle of {count} runs can have led to the data (ln p(y) = {runs.largest}): they lie "
            "outside what the model can give, or so far out that its density underflows; check data and model"
        )
    log_evidence = runs.largest + math.log(runs.mean)
    spread, error, ess = math.nan, math.nan, final_share
    if count >= FEW_RUNS:
        variance = runs.relative_variance
        spread, error = math.sqrt(variance), math.sqrt(variance / count)
        ess = final_share if moved else min(1 / (1 + particles * variance), 1.0)
    k = pareto_shape(runs.scaled)
    trusted = ess >= POOR_SHARE and not spread > WIDE_SPREAD and not _heavy(k, spread)
    if correction is None:
        trusted = trusted and ess > 0.9
    text = _words(likelihood, correction, why, ess, log_evidence, error, spread, k, count, trusted)
    return Diagnosis(
        likelihood, correction, why, ess, log_evidence, error, spread, k, count, particles, trusted, text
    )


def _number(value: float) -> str:
    """With three decimals, or four digits where it is huge."""
    return f"{value:.3f}" if abs(value) < 1e6 else f"{value:.4g}"


def _heavy(k: float, spread: float) -> bool:
    return k > HEAVY_TAIL and spread > UNEVEN


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
    figures = f"effective share {ess:.2f}, ln p(y) = {_number(log_evidence)} ± {error:.3f} from {runs} runs"
    if trusted:
        return head + figures
    if correction is None:
        return (
            f"{head}{figures}: the draws follow the approximation, not the posterior; use correction='auto'"
        )
    reason = f"only {ess:.1%} of the weight counts"
    if spread > WIDE_SPREAD:
        reason = f"single runs differ in p(y) by {spread:.0%}"
    elif _heavy(k, spread):
        reason = f"a few runs may have most of the weight (Pareto's k = {k:.1f})"
    return (
        f"{head}{figures}: do not trust these draws, {reason}; use more particles "
        f"(correction={MORE[correction]}), more steps, or compare with reference.nuts"
    )
