"""Compiles what tracing found, a denoiser and the data to a posterior."""

import warnings
from collections.abc import Sequence
from typing import Any

from ..denoisers import Denoiser, NetworkDenoiser
from ..posterior import FitCheck, Posterior
from ..tracing import LatentSpace, ModelError
from .gaussian_part import GaussianPart
from .model_density import ModelDensity
from .observation import observation_of
from .site_posterior import SitePosterior


class ApproximateWarning(UserWarning):
    """The posterior of a non-Gaussian prior by a mean likelihood without correction."""


class LinearisedWarning(UserWarning):
    """An observation is not affine and Gaussian in the latents, and its mean likelihood is not corrected."""


def compile_posterior(
    space: LatentSpace,
    gaussian: GaussianPart,
    denoiser: Denoiser,
    sites: Sequence[Any],
    likelihood: str = "auto",
    steps: int = 100,
    correction: Any = "auto",
    density: ModelDensity | None = None,
    fit: FitCheck | None = None,
) -> SitePosterior:
    """p(latents given the sites' data) as a reverse SDE on the denoiser's backend; density: the model's own;
    fit: of the denoiser.

    Raises: ModelError where nothing at all was observed; ValueError for an unknown likelihood. Warns:
    ApproximateWarning, LinearisedWarning, where an approximation is not corrected.
    """
    observation = observation_of(sites, gaussian, denoiser.backend)
    if observation.count == 0:
        names = [site.name for site in sites]
        raise ModelError(f"every value of {names} is NaN, which means not observed; give some data")
    posterior = Posterior(
        denoiser, observation, likelihood, steps, correction=correction, density=density, doubt=doubt_of(fit)
    )
    if posterior.choice.twist is not None and posterior.choice.correction is None:
        if isinstance(denoiser, NetworkDenoiser):
            warnings.warn(
                "the prior is not Gaussian (the network is kept), so the mean likelihood "
                f"'{posterior.choice.name}', and with it the posterior, is approximate: leave correction at "
                "'auto', or compare it with reference.nuts",
                ApproximateWarning,
                stacklevel=4,
            )
        if not observation.is_linear:
            warnings.warn(
                f"the observation of {[site.name for site in sites]} is not affine and Gaussian in the "
                f"unconstrained latents, so the mean likelihood '{posterior.choice.name}' is approximate: "
                "leave correction at 'auto', or compare it with reference.nuts",
                LinearisedWarning,
                stacklevel=4,
            )
    return SitePosterior(space, gaussian, posterior, fit)


def doubt_of(fit: FitCheck | None) -> str:
    """In words, why what was learned of the prior is not to be relied on; '' where it is."""
    return "" if fit is None or fit.good else "what was learned of it departs from it (fit_check)"
