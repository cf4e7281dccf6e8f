"""Layer 5: compiles what tracing found, a denoiser and the data to a posterior."""

from .compile import ApproximateWarning, compile_posterior
from .gaussian_part import GaussianPart, RankWarning
from .observation import LinearisedWarning, posterior_probes
from .site_posterior import SitePosterior

__all__ = [
    "ApproximateWarning",
    "GaussianPart",
    "LinearisedWarning",
    "RankWarning",
    "SitePosterior",
    "compile_posterior",
    "posterior_probes",
]
