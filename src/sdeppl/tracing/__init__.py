"""Layer 4: reads latents, supports, the forward SDE and the likelihood out of a Pyro model."""

from .draws import prior_draws
from .errors import ModelError
from .gaussian import GaussianSite, read_gaussian_sites
from .latents import LatentSite, LatentSpace
from .observe import Observe
from .sites import ModelSites, find_sites

__all__ = [
    "GaussianSite",
    "LatentSite",
    "LatentSpace",
    "ModelError",
    "ModelSites",
    "Observe",
    "find_sites",
    "prior_draws",
    "read_gaussian_sites",
]
