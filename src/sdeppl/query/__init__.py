"""Layer 5: compiles what tracing found, a denoiser and the data to a posterior."""

from .compile import ApproximateWarning, LinearisedWarning, compile_posterior
from .gaussian_part import GaussianPart, RankWarning
from .observation import observation_of
from .probes import posterior_probes
from .site_posterior import SitePosterior

__all__ = [
    "ApproximateWarning",
    "GaussianPart",
    "LinearisedWarning",
    "RankWarning",
    "SitePosterior",
    "compile_posterior",
    "observation_of",
    "posterior_probes",
]
