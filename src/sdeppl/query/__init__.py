"""Layer 5: compiles what tracing found, a denoiser and the data to a posterior."""

from .compile import compile_posterior
from .gaussian_part import GaussianPart
from .observation import LinearisedWarning
from .site_posterior import SitePosterior

__all__ = ["GaussianPart", "LinearisedWarning", "SitePosterior", "compile_posterior"]
