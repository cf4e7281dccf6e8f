"""Which mean likelihood and which correction: from what the prior and the observation are."""

from dataclasses import dataclass, replace
from typing import Any

from ..denoisers import Denoiser, GaussianDenoiser
from ..likelihood import (
    CubatureDenoiser,
    DPSDenoiser,
    ExactPosterior,
    MeanLikelihood,
    MonteCarloDenoiser,
    NaiveDenoiser,
    NestedDenoiser,
    NonlinearGaussian,
    Observation,
    PiGDMDenoiser,
    SDADenoiser,
    TweedieDenoiser,
    exact_posterior,
    has_exact_posterior,
)
from .corrector import LangevinCorrector
from .tempered import TemperedSMC
from .twisted import TwistedSMC

FEW_NUMBERS = 16  # in x_0, up to which its covariance is at hand, and 2 dim evaluations are few
CORRECTIONS = (TwistedSMC, TemperedSMC, LangevinCorrector)

RUNGS: dict[str, type[MeanLikelihood]] = {
    rung.name: rung
    for rung in (
        NaiveDenoiser,
        DPSDenoiser,
        SDADenoiser,
        PiGDMDenoiser,
        TweedieDenoiser,
        CubatureDenoiser,
        MonteCarloDenoiser,
        NestedDenoiser,
    )
}
LIKELIHOODS = ("auto", "exact", *RUNGS)


@dataclass(frozen=True)
class Choice:
    """denoiser: of x_0 given x_t and y; twist: the same as a mean likelihood, or None where it is exact;
    rival: another twist, to be taken where it leaves the weights of a pilot solve more even.

    correction: None where draws are those of the guided reverse SDE; fallback: another one, for where its
    pilot shows that it fails; why: in words.
    """

    denoiser: Denoiser
    name: str
    why: str
    exact: ExactPosterior | None = None
    twist: MeanLikelihood | None = None
    rival: MeanLikelihood | None = None
    correction: TwistedSMC | TemperedSMC | LangevinCorrector | None = None
    fallback: TwistedSMC | TemperedSMC | None = None

    def __repr__(self) -> str:
        how = "not corrected" if self.correction is None else f"corrected by {self.correction}"
        return f"likelihood '{self.name}', {how}"


def choose(
    prior: Denoiser, observation: Observation | None, likelihood: Any, correction: Any, step: float
) -> Choice:
    """The closed form where there is one, else a twist and its correction.

    step: of the solver in ln(α/σ), which DPS wants. Raises: ValueError for an unknown name; TypeError for
    objects of another kind, and what the likelihood cannot take.
    """
    _check_names(likelihood, correction)
    if observation is None or observation.count == 0:
        return Choice(prior, "none", "nothing was observed")
    if isinstance(likelihood, MeanLikelihood):
        if likelihood.prior is not prior or likelihood.observation is not observation:
            raise ValueError("likelihood was made with another prior or observation than the posterior's")
        settings = TwistedSMC() if correction == "auto" else correction
        return Choice(likelihood, likelihood.name, "as asked for", twist=likelihood, correction=settings)
    closed = has_exact_posterior(prior, observation)
    if likelihood == "exact" or (likelihood == "auto" and closed):
        exact = exact_posterior(prior, observation)
        kind = type(prior).__name__.removesuffix("Denoiser")
        return Choice(exact.denoiser, "exact", f"{kind} prior, linear Gaussian observation", exact=exact)
    settings = TwistedSMC() if correction == "auto" else correction
    if isinstance(settings, TemperedSMC):
        return _without_guidance(prior, observation, settings)
    if likelihood != "auto":
        return _asked_for(prior, observation, likelihood, settings, step)
    found = _suited(prior, observation, settings)
    if correction != "auto" or prior.dim > FEW_NUMBERS or observation.hard:
        return found
    cheap = isinstance(prior, GaussianDenoiser) or hasattr(prior, "conditional")  # one evaluation a move
    # guidance takes quadrature there, or, where there is no Jacobian, hundreds of densities a row and step
    if not observation.has_jacobian or (cheap and not observation.is_gaussian):
        return replace(found, correction=TemperedSMC(), fallback=settings)
    return replace(found, fallback=TemperedSMC())


def _suited(prior: Denoiser, observation: Observation, settings: Any) -> Choice:
    """A twist, or two, for what the prior and the observation are."""
    if isinstance(observation, NonlinearGaussian) and prior.dim <= FEW_NUMBERS:
        why = "nonlinear Gaussian observation of few numbers: no closed form"
        twist: MeanLikelihood = CubatureDenoiser(prior, observation)
        if observation.has_jacobian and isinstance(settings, TwistedSMC):
            rival = _tweedie(prior, observation, settings)
            return Choice(twist, twist.name, why, twist=twist, rival=rival, correction=settings)
    elif not observation.has_jacobian:
        why = f"{type(observation).__name__} has no Jacobian"
        twist = MonteCarloDenoiser(prior, observation)
    else:
        why = _reason(prior, observation)
        twist = _tweedie(prior, observation, settings)
    return Choice(twist, twist.name, why, twist=twist, correction=settings)


def _without_guidance(prior: Denoiser, observation: Observation, settings: TemperedSMC) -> Choice:
    if observation.hard:
        raise TypeError(
            f"TemperedSMC takes powers of p(y given x_0), and {type(observation).__name__} is a hard "
            "constraint, which has none; use TwistedSMC"
        )
    return Choice(prior, "tempered", "as asked for", correction=settings)


def _check_names(likelihood: Any, correction: Any) -> None:
    if not isinstance(likelihood, MeanLikelihood) and likelihood not in LIKELIHOODS:
        raise ValueError(
            f"likelihood={likelihood!r} is unknown; use one of {', '.join(map(repr, LIKELIHOODS))}"
        )
    if not (correction is None or correction == "auto" or isinstance(correction, CORRECTIONS)):
        raise TypeError(f"correction={correction!r}: use 'auto', None, a TwistedSMC or a LangevinCorrector")


def _asked_for(
    prior: Denoiser, observation: Observation, likelihood: str, settings: Any, step: float
) -> Choice:
    if likelihood == "dps" and observation.has_jacobian:
        twist: MeanLikelihood = DPSDenoiser(prior, observation, zeta=1.0, step=step)
    elif likelihood == "tweedie":
        twist = _tweedie(prior, observation, settings)
    else:
        twist = RUNGS[likelihood](prior, observation)
    return Choice(twist, likelihood, "as asked for", twist=twist, correction=settings)


def _reason(prior: Denoiser, observation: Observation) -> str:
    what = "linear" if observation.is_linear else "nonlinear or not Gaussian"
    return f"prior {type(prior).__name__}, observation {what}: no closed form"


def _tweedie(prior: Denoiser, observation: Observation, settings: Any) -> MeanLikelihood:
    """As a twist it may be cheaper: weights make up for what its steps leave out."""
    if not isinstance(settings, TwistedSMC):
        return TweedieDenoiser(prior, observation)
    return TweedieDenoiser(prior, observation, gradient="mean", repair="diagonal")
