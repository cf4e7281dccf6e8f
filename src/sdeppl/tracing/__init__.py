"""Layer 4: reads latents, supports, the forward SDE and the likelihood out of a Pyro model."""

from .draws import SlowDrawsWarning, prior_draws
from .errors import ModelError, no_data
from .gaussian import GaussianSite, read_gaussian_sites
from .latents import LatentSite, LatentSpace
from .observe import Observe, data_tensor, observed_values
from .reader import SiteReader, changed_prior
from .sites import ModelSites, find_sites, without_unseen

__all__ = [
    "GaussianSite",
    "LatentSite",
    "LatentSpace",
    "ModelError",
    "ModelSites",
    "Observe",
    "SiteReader",
    "SlowDrawsWarning",
    "changed_prior",
    "data_tensor",
    "find_sites",
    "no_data",
    "observed_values",
    "prior_draws",
    "read_gaussian_sites",
    "without_unseen",
]
