"""Layer 5: compiles what tracing found, a denoiser and the data to a posterior."""

from .fit_check import check_fit
from .gaussian_part import GaussianPart, gaussian_of_layout, of_length
from .model_density import ModelDensity
from .observation import many_observation, observation_of, posterior_probes
from .site_posterior import (
    ApproximateWarning,
    LinearisedWarning,
    SitePosterior,
    SitePosteriors,
    compile_posterior,
    doubt_of,
)
from .structure import RankWarning
