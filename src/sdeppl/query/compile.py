"""Compiles what tracing found, a denoiser and the data to a posterior."""

import warnings
from collections.abc import Sequence

import torch

from ..denoisers import Denoiser, NetworkDenoiser
from ..posterior import Posterior
from ..tracing import GaussianSite, LatentSpace, ModelError
from .gaussian_part import GaussianPart
from .observation import observation_of
from .site_posterior import SitePosterior


class ApproximateWarning(UserWarning):
    """The posterior of a non-Gaussian prior by a Gaussian mean likelihood."""


def compile_posterior(
    space: LatentSpace,
    gaussian: GaussianPart,
    denoiser: Denoiser,
    sites: Sequence[GaussianSite],
    likelihood: str = "auto",
    steps: int = 100,
) -> SitePosterior:
    """p(latents given the sites' data) as a reverse SDE on the denoiser's backend.

    Raises: ModelError where nothing at all was observed; ValueError for an unknown likelihood. Warns:
    ApproximateWarning, LinearisedWarning.
    """
    if all(bool(torch.isnan(site.y).all()) for site in sites):
        names = [site.name for site in sites]
        raise ModelError(f"every value of {names} is NaN, which means not observed; give some data")
    observation = observation_of(sites, gaussian, denoiser.backend)
    if isinstance(denoiser, NetworkDenoiser):
        warnings.warn(
            "the prior is not Gaussian (the network is kept), so the Gaussian mean likelihood, and with it "
            "the posterior, is approximate: compare it with reference.nuts",
            ApproximateWarning,
            stacklevel=3,
        )
    posterior = Posterior(denoiser, observation, likelihood, steps)  # type: ignore[arg-type]
    return SitePosterior(space, gaussian, posterior)
