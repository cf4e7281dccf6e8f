"""Layer 5: compiles what tracing found, a denoiser and the data to a posterior."""

from .fit_check import check_fit
from .gaussian_part import GaussianPart, RankWarning
from .many_observation import many_observation
from .model_density import ModelDensity
from .observation import observation_of, posterior_probes
from .site_posterior import ApproximateWarning, LinearisedWarning, SitePosterior, compile_posterior, doubt_of
from .site_posteriors import SitePosteriors
