"""Layer 4: reads latents, supports, the forward SDE and the likelihood out of a Pyro model."""

from .draws import SlowDrawsWarning, prior_draws
from .errors import ModelError
from .gaussian import GaussianSite, read_gaussian_sites
from .latents import LatentSite, LatentSpace
from .observe import Observe, observed_values
from .reader import SiteReader
from .sites import ModelSites, find_sites

__all__ = [
    "GaussianSite",
    "LatentSite",
    "LatentSpace",
    "ModelError",
    "ModelSites",
    "Observe",
    "SiteReader",
    "SlowDrawsWarning",
    "find_sites",
    "observed_values",
    "prior_draws",
    "read_gaussian_sites",
]
