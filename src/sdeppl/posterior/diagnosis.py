"""What a posterior's own weights, and held-out draws of its prior, say of its draws."""

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from ..backend import Array
from ..mcmc import smc

SIGNIFICANT = 1e-3
SMALL = 0.05  # of a standard deviation: what `compare` tolerates
LARGE = 0.1
ENOUGH = 200  # draws a number that leave each number off by SMALL

State = Literal["trusted", "cannot tell", "do not trust"]
Network = Literal["none", "untrained", "left out", "used"]


@dataclass(frozen=True)
class FitCheck:
    """How far the learned prior is from the model's, by draws held out of the fit, in nats.

    network: whether the prior has one: 'none' (net=None), 'untrained', 'left out' for no gain, or 'used'.
    draws: what the moments were fitted to; held_out: what they and the score were checked on; dim: numbers
    that vary. moments ± moments_noise: divergence of the fitted Gaussian from the best one. departure ±
    departure_noise: divergence of the model's prior from what was learned, beyond the moments where that is
    the Gaussian, as far as the functions tested see it; p: the probability of as much by chance. worst,
    site: the part of the departure at the number that has most of it, and its site. Nats are of all numbers
    together: a mean that is δ standard deviations off has δ²/2. density: whether every latent site has one,
    by which a posterior may be corrected. disagreement: what `check_prior` says of sites whose draws and
    densities differ, or ''. structure: how a covariance with a layout is held, '' for all entries.
    between, between_sites: nats a number that two sites share and the Gaussian part has not, clear of chance,
    and which these are.
    """

    network: Network
    draws: int
    held_out: int
    dim: int
    moments: float
    moments_noise: float
    departure: float
    departure_noise: float
    p: float
    worst: float
    site: str
    density: bool = False
    disagreement: str = ""
    structure: str = ""
    between: float = 0.0
    between_sites: str = ""

    def __repr__(self) -> str:
        return f"FitCheck({self.verdict})"

    @property
    def nats(self) -> float:
        """Divergence of the model's prior from the learned one, as far as it is seen."""
        return self.moments + self.departure

    @property
    def off(self) -> float:
        """By how many standard deviations the number that is learned worst may be off: √(2 nats)."""
        return max(self._each, self._departed, self._between)

    @property
    def state(self) -> State:
        """'trusted' up to .05 standard deviations, 'cannot tell' up to .1, else 'do not trust'."""
        if self.disagreement or not self.off <= LARGE:
            return "do not trust"
        return "trusted" if self.off <= SMALL else "cannot tell"

    @property
    def good(self) -> bool:
        """Whether nothing held-out draws say keeps the posterior from being trusted."""
        return self.state == "trusted"

    @property
    def _each(self) -> float:
        """By how many standard deviations the moments may leave each number off, on average.

        What held-out draws show beyond chance, 4 standard errors, and at least what is to be expected of so
        many draws.
        """
        by_entries = self.moments_noise and not self.structure
        expected = self.dim * (self.dim + 3) / (4 * self.draws) if by_entries else 0.0
        shown = self.moments - 4 * self.moments_noise
        return _off(max(shown, expected) / self.dim) if not math.isnan(shown) else math.inf

    @property
    def _between(self) -> float:
        """The correlation of two sites that is left out."""
        return _off(self.between)

    @property
    def _departed(self) -> float:
        return _off(self.worst) if self.p <= SIGNIFICANT else 0.0

    @property
    def verdict(self) -> str:
        """In words: the state, what was learned and how far it is from the prior, and what to do about it."""
        return f"{self.state}: {self.words}"

    @property
    def words(self) -> str:
        """As `verdict`, without the state: 'the fitted Gaussian, which ...'."""
        if self.disagreement:
            return self.disagreement
        what = "the learned prior" if self.network == "used" else "the fitted Gaussian"
        if self.p > SIGNIFICANT and self.good:
            return f"{what}, which {self.held_out} held-out draws do not tell from the prior"
        parts, each = [], self._each
        if self._departed:
            parts.append(
                f"{self.departure:.2g} ± {self.departure_noise:.1g} nats of what {self._missing} (at its "
                f"most in '{self.site}': {self.worst:.2g}, such as a mean {self._departed:.2g} standard "
                "deviations off)"
            )
        if self._between > SMALL:
            parts.append(
                f"a correlation of {min(self._between, 1.0):.2g} between sites {self.between_sites}, which "
                "it holds to be independent"
            )
        if not parts or each > SMALL:
            parts.append(
                f"{self.moments:.2g} ± {self.moments_noise:.1g} nats of moments from {self.draws} "
                f"draws (such as {self.dim} numbers, each {each:.2g} standard deviations off)"
            )
        found = f"{what}, which is off the prior by {' and '.join(parts)}"
        return found if self.good else f"{found}; {self.advice}"

    @property
    def _missing(self) -> str:
        return "the network has not learned" if self.network == "used" else "is not Gaussian"

    @property
    def advice(self) -> str:
        """What to do about what is too large; '' where nothing is."""
        found = []
        if self._each > SMALL and self.structure:
            found.append(
                f"hold the covariance otherwise than as {self.structure} (Grid(covariance=...)), or use more "
                "draws"
            )
        elif self._each > SMALL:
            enough = max(ENOUGH * (self.dim + 3), int(1.5 * self.draws * (self._each / SMALL) ** 2))
            found.append(f"use more draws (draws={_round_up(enough)})")
        if max(self._departed, self._between) > SMALL:
            found.append(_ADVICE[self.network])
        return " and ".join(found)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Any) -> "FitCheck | None":
        """From `to_dict`, None from None. Raises: KeyError for one that is not whole."""
        if content is None:
            return None
        later = {"structure": "", "between": 0.0, "between_sites": ""} | content
        return cls(**{field.name: later[field.name] for field in fields(cls)})


_ADVICE: dict[Network, str] = {
    "none": "give the guide a network (net=sdeppl.ResidualMLP) and train it",
    "untrained": "train the guide's network (ScoreMatching(guide).fit(steps))",
    "left out": "the network that was trained is no better and was left out: use a wider one, or more steps",
    "used": "train longer, or a wider network",
}


def _off(nats: float) -> float:
    return math.sqrt(2 * max(nats, 0.0)) if not math.isnan(nats) else math.inf


def _round_up(number: int) -> int:
    """To two digits."""
    unit = 10 ** max(len(str(number)) - 2, 0)
    return -(-number // unit) * unit


POOR_SHARE = 0.05
WIDE_SPREAD = 0.5  # relative standard deviation of a run's estimate of p(y)
FEW_RUNS = 8
HEAVY_TAIL = 0.7
UNEVEN = 0.1  # relative standard deviation of runs' p(y) from which their tail counts


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

    @property
    def attributes(self) -> dict[str, Any]:
        """Text and numbers that a file of draws keeps beside them."""
        return {
            "diagnosis": self.text,
            "ess_fraction": self.ess,
            "log_evidence": self.log_evidence,
            "log_evidence_error": self.log_evidence_error,
            "trusted": int(self.trusted),  # NetCDF has no booleans
        }

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


def exact_diagnosis(
    why: str, log_evidence: float, prior: Literal["known", "learned"] = "learned", error: float = 0.0
) -> Diagnosis:
    """Of draws whose guided score is the posterior's own, or that are its own; error: standard, of ln p(y),
    which is NaN where it was not asked for."""
    found = f"{log_evidence:.4f}" if not error else f"{_number(log_evidence)} ± {error:.3f}"
    text = f"exact: {why}" if math.isnan(log_evidence) else f"exact: {why}. ln p(y) = {found}"
    return Diagnosis("exact", None, why, 1.0, log_evidence, error, 0.0, -math.inf, 0, 0, True, text, prior)


def unweighed_diagnosis(likelihood: str, why: str, unweighed: str, cost: str) -> Diagnosis:
    """Of draws of the guided reverse SDE that nothing has weighed: never to be trusted.

    unweighed: why not; cost: of a draw.
    """
    text = (
        f"likelihood '{likelihood}', not corrected ({why}): do not trust these draws beyond what their "
        f"likelihood approximates, nothing has weighed them: {unweighed}; {cost}; compare with a reference"
    )
    nan = math.nan
    return Diagnosis(likelihood, None, why, nan, nan, nan, nan, nan, 0, 0, False, text)


def diagnose(
    likelihood: str,
    correction: str | None,
    why: str,
    log_evidences: Array,
    final_share: float,
    particles: int,
    moved: bool = False,
    more: str = "",
) -> Diagnosis:
    """From the runs' estimates of ln p(y), (runs,), and the effective share of their particles at the end.

    correction: None where the draws are those of the guided reverse SDE and the runs only measure it;
    moved: whether particles were moved apart after each resampling, so that final_share is all there is;
    more: a correction that takes more particles, as it is written.
    """
    runs = smc.Evidences.of(log_evidences)
    count = len(runs.scaled)
    if not runs.possible:
        raise FloatingPointError(
            f"no particle of {count} runs can have led to the data (ln p(y) = {runs.largest}): they lie "
            "outside what the model can give, or so far out that its density underflows; check data and model"
        )
    log_evidence = runs.log_mean
    spread, error, ess = math.nan, math.nan, final_share
    if count >= FEW_RUNS:
        variance = runs.relative_variance
        spread, error = math.sqrt(variance), math.sqrt(variance / count)
        ess = final_share if moved else min(runs.ess_fraction(particles), 1.0)
    k = runs.pareto_k
    trusted = ess >= POOR_SHARE and not spread > WIDE_SPREAD and not _heavy(k, spread)
    if correction is None:
        trusted = trusted and ess > 0.9
    found = Diagnosis(
        likelihood, correction, why, ess, log_evidence, error, spread, k, count, particles, trusted, ""
    )
    return replace(found, text=_words(found, more))


def _number(value: float) -> str:
    """With three decimals, or four digits where it is huge."""
    return f"{value:.3f}" if abs(value) < 1e6 else f"{value:.4g}"


def _heavy(k: float, spread: float) -> bool:
    return k > HEAVY_TAIL and spread > UNEVEN


def _words(found: Diagnosis, more: str) -> str:
    how = f"corrected by {found.correction}" if found.correction else "not corrected"
    head = f"likelihood '{found.likelihood}', {how} ({found.why}); "
    log_evidence = f"{_number(found.log_evidence)} ± {found.log_evidence_error:.3f}"
    figures = f"effective share {found.ess:.2f}, ln p(y) = {log_evidence} from {found.runs} runs"
    if found.trusted:
        return head + figures
    if found.correction is None:
        return (
            f"{head}{figures}: the draws follow the approximation, not the posterior; use correction='auto'"
        )
    reason = f"only {found.ess:.1%} of the weight counts"
    if found.spread > WIDE_SPREAD:
        reason = f"single runs differ in p(y) by {found.spread:.0%}"
    elif _heavy(found.pareto_k, found.spread):
        reason = f"a few runs may have most of the weight (Pareto's k = {found.pareto_k:.1f})"
    return (
        f"{head}{figures}: do not trust these draws, {reason}; use more particles"
        f"{more and f' (correction={more})'}, more steps, or compare with reference.nuts"
    )
