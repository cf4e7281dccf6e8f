"""Which mean likelihood and which correction: from what the prior and the observation are."""

import math
from dataclasses import replace

from ..backend import keyed_normal
from ..denoisers import Denoiser, GaussianDenoiser, GaussianMixtureDenoiser
from ..likelihood import (
    RUNGS,
    CubatureDenoiser,
    DPSDenoiser,
    ExactPosterior,
    GaussianPosterior,
    MeanLikelihood,
    MonteCarloDenoiser,
    NonlinearGaussian,
    Observation,
    TweedieDenoiser,
    exact_posterior,
    has_exact_posterior,
    is_drawn_directly,
)
from .hamiltonian import HamiltonianMC
from .problem import Asked, Choice, Correction, JointDensity
from .start import is_large
from .tempered import TemperedSMC
from .twisted import TwistedSMC

FEW_NUMBERS = 16  # in x_0, up to which its covariance is at hand, and 2 dim evaluations are few
DEARER = 2  # times the evaluations, from which guidance gives way to moves on a known density
NOMINAL = 1_000  # draws for which both are counted
PER_DRAW = 4  # particles of a twisted solve for each draw that is kept
STAGE = 0.6  # of the posterior's own scale, which a stage of tempering brings it nearer
POINTS = 256  # at which guidance asks a density for each row
TRAJECTORY = 20  # evaluations of the density in a trajectory of 8 steps, each with its gradient

LIKELIHOODS = ("auto", "exact", *RUNGS)


def choose(
    prior: Denoiser,
    observation: Observation | None,
    likelihood: str | MeanLikelihood,
    correction: Asked,
    step: float,
    density: JointDensity | None = None,
    doubt: str = "",
    steps: int = 100,
) -> Choice:
    """The closed form where there is one, else a twist and its correction, or moves on the known density.

    step: of the solver in ln(α/σ), which DPS wants; density: of x_0 and y; doubt: in
    words, why the denoiser is not to be relied on, which a known density then takes the place of, even where
    there is a closed form; steps: of the solve.

    Raises: ValueError for an unknown name; TypeError for objects of another kind, and what the likelihood
    cannot take.
    """
    _check_names(likelihood, correction)
    if observation is None or observation.count == 0:
        direct = GaussianPosterior(prior, None) if is_drawn_directly(prior, observation) else None
        return Choice(prior, "none", "nothing was observed", exact=direct)
    if isinstance(likelihood, MeanLikelihood):
        if likelihood.prior is not prior or likelihood.observation is not observation:
            raise ValueError("likelihood was made with another prior or observation than the posterior's")
        settings = TwistedSMC() if correction == "auto" else correction
        return Choice(likelihood, likelihood.name, "as asked for", twist=likelihood, correction=settings)
    if isinstance(correction, HamiltonianMC):  # whatever the likelihood, even where there is a closed form
        correction.require(observation, density)
        return Choice(prior, correction.unguided, "as asked for", correction=correction)
    if doubt and likelihood == correction == "auto" and density is not None:
        known = _on_density(prior, density, f"the prior's own density is known, and {doubt}")
        if known is not None:
            return known
    closed = has_exact_posterior(prior, observation)
    if likelihood == "exact" or (likelihood == "auto" and closed):
        kind = type(prior).__name__.removesuffix("Denoiser")
        why, exact = f"{kind} prior, linear Gaussian observation", _closed_form(prior, observation)
        return Choice(exact.denoiser, "exact", why, exact=exact)
    settings = TwistedSMC() if correction == "auto" else correction
    if isinstance(settings, Correction) and settings.unguided:
        settings.require(observation, density)
        return Choice(prior, settings.unguided, "as asked for", correction=settings)
    if likelihood != "auto":
        return _asked_for(prior, observation, likelihood, settings, step)
    found = _suited(prior, observation, settings)
    if correction != "auto":
        return _unweighed(found, prior) if correction is None and is_large(prior) else found
    if is_large(prior):
        moves = density is not None and not density.why_not
        why = "the prior's own density is known, and guidance of so many numbers cannot be corrected"
        return (
            Choice(prior, "density", why, correction=HamiltonianMC()) if moves else _unweighed(found, prior)
        )
    found = _with_fallback(found, prior, observation)
    return _with_density(found, prior, observation, density, steps)


def _closed_form(prior: Denoiser, observation: Observation) -> ExactPosterior | GaussianPosterior:
    if is_drawn_directly(prior, observation):
        return GaussianPosterior(prior, observation)
    return exact_posterior(prior, observation)


def _unweighed(found: Choice, prior: Denoiser) -> Choice:
    """Guided draws as they are: weights of so many numbers, and products with C for each number observed,
    step and particle, are out of reach."""
    observation = found.twist.observation if found.twist is not None else None
    each = 0 if observation is None else observation.count
    why = f"particles of {prior.dim:,} numbers hardly ever keep even weights"
    if prior.coarse is prior:
        why += f", and each would take {each:,} products with the slope of the denoiser in each step"
    else:
        why += "; correction=TwistedSMC() tries it, by the covariance of the Gaussian part"
    if observation is None or not observation.has_jacobian:
        return found
    twist = TweedieDenoiser(prior, observation, gradient="mean")
    return Choice(twist, twist.name, found.why, twist=twist, unweighed=why)


def _on_density(prior: Denoiser, density: JointDensity, why: str) -> Choice | None:
    """On the known density alone, in closed form where it is Gaussian; None where it cannot be followed."""
    exact = gaussian_posterior(density, prior)
    if exact is not None:
        return Choice(
            exact.denoiser, "exact", f"{why}; with the data it is Gaussian", exact=exact, known=True
        )
    moves = None if density.why_not else HamiltonianMC()
    tempering = None if density.why_no_values or prior.dim > FEW_NUMBERS else TemperedSMC()
    if moves is None:
        return None if tempering is None else Choice(prior, "density", why, correction=tempering)
    return Choice(prior, "density", why, correction=moves, fallback=tempering)


def _with_fallback(found: Choice, prior: Denoiser, observation: Observation) -> Choice:
    """With tempering first or next, for few numbers."""
    if prior.dim > FEW_NUMBERS or observation.hard:
        return found
    cheap = isinstance(prior, GaussianDenoiser) or hasattr(prior, "conditional")  # one evaluation a move
    # guidance takes quadrature there, or, where there is no Jacobian, hundreds of densities a row and step
    if not observation.has_jacobian or (cheap and not observation.is_gaussian):
        return replace(found, correction=TemperedSMC(), fallback=found.correction)
    return replace(found, fallback=TemperedSMC())


def _with_density(
    found: Choice, prior: Denoiser, observation: Observation, density: JointDensity | None, steps: int
) -> Choice:
    """With moves on the known density first where guidance is much dearer, else where its pilot fails."""
    if density is None or density.why_not:
        return found
    settings = HamiltonianMC()
    by_guidance = NOMINAL * _evaluations(found, prior, observation, density.count, steps)
    by_moves = settings.chains_for(NOMINAL) * settings.iterations * TRAJECTORY
    if by_guidance < DEARER * by_moves:
        return replace(found, hamiltonian=settings)
    why = (
        f"the prior's own density is known, and {NOMINAL} draws take about {by_moves:.0g} evaluations of it, "
        f"by guidance {by_guidance:.0g} of the denoiser and the observation"
    )
    fallback = TemperedSMC() if found.fallback is not None else None
    return Choice(prior, "density", why, correction=settings, fallback=fallback)


def _evaluations(found: Choice, prior: Denoiser, observation: Observation, data: int, steps: int) -> int:
    """Of denoiser and observation, about, for a draw that is kept; data: how many numbers were observed.

    In a step of a twisted particle one, and a derivative for each number in x_0 where its covariance is the
    slope of a network, and where the predictor is a function, or the density at hundreds of points where
    there is none; of tempering one for each move, by ten steps where the prior is learned.
    """
    learned = not isinstance(prior, (GaussianDenoiser, GaussianMixtureDenoiser))
    if isinstance(found.correction, TemperedSMC):
        settings = found.correction
        stages = math.sqrt(prior.dim / 2) * math.log1p(data) / STAGE
        moves = settings.particles / settings.keeps * settings.moves * max(stages, 1.0)
        return int(moves) * (10 if learned else 1)
    observed = observation.columns if observation.has_jacobian else POINTS
    if isinstance(found.twist, CubatureDenoiser):  # which factors n × n, as much as n²/(3 dim) predictors
        observed += observation.count**2 // (3 * prior.dim)
    return PER_DRAW * steps * (1 + prior.dim * learned + observed)


def _suited(prior: Denoiser, observation: Observation, settings: Correction | None) -> Choice:
    """A twist, or two, for what the prior and the observation are."""
    if isinstance(observation, NonlinearGaussian) and prior.dim <= FEW_NUMBERS:
        why = "nonlinear Gaussian observation of few numbers: no closed form"
        twist: MeanLikelihood = CubatureDenoiser(prior, observation)
        if observation.has_jacobian and isinstance(settings, TwistedSMC):
            alternative_twist = _tweedie(prior, observation, settings)
            return Choice(
                twist, twist.name, why, twist=twist, alternative_twist=alternative_twist, correction=settings
            )
    elif not observation.has_jacobian:
        why = f"{type(observation).__name__} has no Jacobian"
        twist = MonteCarloDenoiser(prior, observation)
    else:
        why = _reason(prior, observation)
        twist = _tweedie(prior, observation, settings)
    return Choice(twist, twist.name, why, twist=twist, correction=settings)


def _check_names(likelihood: object, correction: object) -> None:
    if not isinstance(likelihood, MeanLikelihood) and likelihood not in LIKELIHOODS:
        raise ValueError(
            f"likelihood={likelihood!r} is unknown; use one of {', '.join(map(repr, LIKELIHOODS))}"
        )
    if not (correction is None or correction == "auto" or isinstance(correction, Correction)):
        raise TypeError(
            f"correction={correction!r}: use 'auto', None, a TwistedSMC, TemperedSMC, LangevinCorrector "
            "or HamiltonianMC"
        )


def _asked_for(
    prior: Denoiser, observation: Observation, likelihood: str, settings: Correction | None, step: float
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


def _tweedie(prior: Denoiser, observation: Observation, settings: Correction | None) -> MeanLikelihood:
    """As a twist it may be cheaper: weights make up for what its steps leave out."""
    if not isinstance(settings, TwistedSMC):
        return TweedieDenoiser(prior, observation)
    return TweedieDenoiser(prior.coarse, observation, gradient="mean", repair="diagonal")


LARGEST_GAUSSIAN = 2_048  # numbers in x_0: the gradient is asked at one row more
FAR = 2.0  # how far from the prior's middle it is looked whether the gradient is affine
AFFINE = 1e-3  # of the largest gradient there
SAME = 1e-3  # nats by which ln p may leave the Gaussian's at its draws
LOOKED_AT = 64  # draws, and as many twice as far out
STREAM = (0x6761757373, 0)


def gaussian_posterior(density: JointDensity, prior: Denoiser) -> ExactPosterior | None:
    """p(x_0 given y) where ln p(x_0) + ln p(y given x_0) is quadratic in x_0; None where it is not.

    Its middle and precision by the gradient, one run of the density for all numbers; it is taken if the
    density is that of the Gaussian at its draws, and at draws twice as far out, to .001 nats.
    """
    if prior.dim > LARGEST_GAUSSIAN or density.why_not or not _affine(density, prior):
        return None
    xp, like = prior.backend.xp, prior.backend
    eye = xp.eye(prior.dim, dtype=like.dtype, device=like.device)
    zero = xp.zeros_like(eye[:1, :])
    slopes = density.gradient(xp.concat([zero, eye]))
    precision = slopes[:1, :] - slopes[1:, :]
    precision = 0.5 * (precision + precision.T)
    if not bool(xp.all(xp.isfinite(precision))):
        return None
    values, basis = xp.linalg.eigh(precision)
    values, basis = xp.flip(values, axis=0), xp.flip(basis, axis=1)
    if not float(values[-1]) > 1e-12 * float(values[0]):
        return None
    mean = (slopes[:1, :] @ basis / values) @ basis.T
    z = keyed_normal(prior.backend, (LOOKED_AT, prior.dim), 0, STREAM)
    z = xp.concat([0 * z[:1, :], z, 2 * z])
    gaussian = -0.5 * xp.sum(z * z, axis=-1)
    found = density.log_prob(mean + (z / xp.sqrt(values)) @ basis.T) - gaussian
    if not float(xp.max(xp.abs(found - found[0]))) <= SAME:
        return None
    evidence = found[0] + 0.5 * (prior.dim * math.log(2 * math.pi) - xp.sum(xp.log(values)))
    return ExactPosterior(
        GaussianDenoiser.from_eigenbasis(prior.sde, mean[0, :], basis, 1 / values), evidence
    )


def _affine(density: JointDensity, prior: Denoiser) -> bool:
    """Whether the gradient changes evenly along a line through the prior's middle: a look at few rows, for
    most densities are not Gaussian."""
    xp = prior.backend.xp
    d = FAR * keyed_normal(prior.backend, (1, prior.dim), 0, STREAM, 1)
    slopes = density.gradient(xp.concat([k * d for k in (-1.0, 0.0, 1.0, 2.0)]))
    bends = slopes[2:, :] - 2 * slopes[1:-1, :] + slopes[:-2, :]
    return float(xp.max(xp.abs(bends))) <= AFFINE * float(xp.max(xp.abs(slopes)))
