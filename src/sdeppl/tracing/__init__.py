"""Layer 4: reads latents, supports, the forward SDE and the likelihood out of a Pyro model."""

from .checks import check_fixed
from .draws import SlowDrawsWarning, prior_draws
from .errors import ModelError, no_data
from .family import Family
from .given_model import GivenModel
from .imputing import imputed, original
from .latents import LatentSite, LatentSpace
from .merging import grouped, merged
from .observe import Observe, data_tensor, observed_values
from .observed import ConstraintSite, DensitySite, FamilySite, GaussianSite, ObservedSite
from .potential import Potential, RecordedValues
from .prior_check import OwnDensities, PriorCheck, SitePriorCheck, check_prior
from .prior_record import ROWS, PriorRecord
from .probing import over_rows
from .read_sites import read_sites
from .reader import SiteReader
from .replicates import replicates
from .running import check_call
from .sites import ModelSites, find_sites, without_unseen
from .start import start
from .tails import HeavyTailsWarning, SinhTransform, find_tails, with_tails

__all__ = [
    "ROWS",
    "ConstraintSite",
    "DensitySite",
    "Family",
    "FamilySite",
    "GaussianSite",
    "GivenModel",
    "HeavyTailsWarning",
    "LatentSite",
    "LatentSpace",
    "ModelError",
    "ModelSites",
    "Observe",
    "ObservedSite",
    "OwnDensities",
    "Potential",
    "PriorCheck",
    "PriorRecord",
    "RecordedValues",
    "SinhTransform",
    "SitePriorCheck",
    "SiteReader",
    "SlowDrawsWarning",
    "check_call",
    "check_fixed",
    "check_prior",
    "data_tensor",
    "find_sites",
    "find_tails",
    "grouped",
    "imputed",
    "merged",
    "no_data",
    "observed_values",
    "original",
    "over_rows",
    "prior_draws",
    "read_sites",
    "replicates",
    "start",
    "with_tails",
    "without_unseen",
]
